"""A command as the target of messages: run without a shell, with a time limit."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess  # nosec B404  # the command is the caller's own
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import PurePath

from .deliveries import Target
from .notify import Message, NotificationFailed
from .retraining import causes

LIMIT = 60.0  # seconds
_STANDARD_ERROR = 2
_PREFIX = "MLFLOW_TIMESCALE_"  # of variables that the command gets; they are no settings


def target(command: str, limit: float = LIMIT) -> Target:
    """The target that runs a command for every message.

    Parameters
    ----------
    command
        A program and its arguments, quoted as in a shell; no shell runs it.
    limit
        Seconds after which the command and its children are killed.

    Raises
    ------
    ValueError
        The command is empty, or a quotation mark is not closed.

    Examples
    --------
    >>> target("/opt/jobs/retrain --queue 'night jobs'").label
    'command retrain'
    """
    arguments = shlex.split(command)
    if not arguments:
        raise ValueError("the command for alerts is empty")

    def send(message: Message, delivery_id: str) -> None:
        run(arguments, message, delivery_id, limit)

    return Target(label(arguments), send)


def label(arguments: Sequence[str]) -> str:
    """What a command is called in the outbox: its program, because arguments may be secret."""
    return f"command {PurePath(arguments[0]).name}"


def variables(message: Message, delivery_id: str) -> Mapping[str, str]:
    """The variables that a command gets beside its environment."""
    values = {
        "DELIVERY_ID": delivery_id,
        "STRATEGY": message.strategy_id,
        "SESSION": message.session.isoformat(),
        "SEVERITY": message.severity,
        "RETRAINING": causes(message.retraining),
    }
    return {f"{_PREFIX}{name}": value for name, value in values.items()}


def run(arguments: Sequence[str], message: Message, delivery_id: str, limit: float) -> None:
    """Run a command with the message as JSON on its standard input. Raises NotificationFailed.

    What it prints goes to standard error, so that `--json` stays JSON.
    """
    name = label(arguments)
    content = json.dumps(message.payload(delivery_id)).encode()
    environment = {**os.environ, **variables(message, delivery_id)}
    try:
        process = subprocess.Popen(  # nosec B603  # the caller's own command, without a shell
            list(arguments),
            stdin=subprocess.PIPE,
            stdout=_STANDARD_ERROR,
            env=environment,
            start_new_session=True,  # so that the limit ends its children, too
        )
    except OSError as exc:
        raise NotificationFailed(f"{name} cannot be run: {exc.strerror}") from None
    try:
        process.communicate(content, timeout=limit)
    except subprocess.TimeoutExpired:
        raise NotificationFailed(f"{name} did not end within {limit:g} s") from None
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        raise NotificationFailed(f"{name} ended with exit code {process.returncode}")
