"""The training of a run, once more: its entry point in a subprocess, logged to a run beside it."""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess  # nosec B404  # runs a command that the caller has seen, without a shell
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlflow_timescale.common.text import printable
from mlflow_timescale.operations.reproduce import Context

COMMAND, REPRODUCES = "mlops.command", "mlops.reproduces"
SECONDS = 3600.0


@dataclass(frozen=True)
class Rerun:
    """What the second training logged, or why there is none.

    Attributes
    ----------
    run_id
        The run of the second training, in the experiment of the first.
    params, metrics
        What it logged.
    failure, remedy
        Why it did not end well, and what to do; empty where it did.
    """

    run_id: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    remedy: str = ""


def recorded_command(context: Context) -> list[str] | None:
    """The entry point that the run recorded as its tag `mlops.command`, a JSON list of texts."""
    try:
        command = json.loads(context.tags.get(COMMAND, "null"))
    except (ValueError, RecursionError):
        return None
    is_command = isinstance(command, list) and command and all(isinstance(t, str) for t in command)
    return command if is_command else None


def run_again(
    context: Context, command: Sequence[str] | None, *, seconds: float = SECONDS
) -> Rerun:
    """Run an entry point; what it logs with `mlflow.start_run()` goes to a new run.

    The run is in the experiment of the first one, with the tag `mlops.reproduces`. The subprocess
    learns it from MLFLOW_RUN_ID. Never raises: a command that fails is an answer.

    Parameters
    ----------
    command
        The program and its arguments; no shell reads them. None: nothing was recorded.
    seconds
        The time after which the command is killed.
    """
    if not command:
        remedy = f"pass --command, or set the tag {COMMAND} (a JSON list) when training"
        return Rerun(failure="the run records no entry point", remedy=remedy)
    source = context.run.info
    name = f"reproduction of {source.run_name or source.run_id}"
    tags = {REPRODUCES: source.run_id}
    run = context.client.create_run(source.experiment_id, tags=tags, run_name=name)
    failure = _output(command, _environment(context, run.info.run_id), seconds)
    context.client.set_terminated(run.info.run_id, "FAILED" if failure else "FINISHED")
    if failure:
        return Rerun(run.info.run_id, failure=failure, remedy=f"run it: {shlex.join(command)}")
    data = context.client.get_run(run.info.run_id).data
    return Rerun(run.info.run_id, data.params, data.metrics)


def _environment(context: Context, run_id: str) -> dict[str, str]:
    return {
        **os.environ,
        "MLFLOW_TRACKING_URI": context.database.url,
        "MLFLOW_TIMESCALE_URI": context.database.url,
        "MLFLOW_EXPERIMENT_ID": context.run.info.experiment_id,
        "MLFLOW_RUN_ID": run_id,
    }


def _output(command: Sequence[str], environment: Mapping[str, str], seconds: float) -> str:
    """Run a command; return why it failed, or nothing."""
    try:
        done = subprocess.run(  # nosec B603  # a list, no shell; the caller has confirmed it
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the training did not end within {seconds:.0f} s"
    except (OSError, ValueError) as exc:
        return f"the training cannot be started: {exc}"
    if done.returncode == 0:
        return ""
    last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
    ending = f": {printable(last[0])[:300]}" if last else ""
    return f"the training ended with exit code {done.returncode}{ending}"


def differences(
    recorded: Mapping[str, float], again: Mapping[str, float], tolerance: float
) -> list[str]:
    """The metrics of both runs that are not the same, within a relative tolerance.

    Examples
    --------
    >>> differences({"ic": 0.04, "loss": float("nan")}, {"ic": 0.05, "loss": float("nan")}, 1e-6)
    ['ic 0.04 (rerun 0.05)']
    >>> differences({"ic": 0.04}, {"ic": 0.0400000001}, 1e-6)
    []
    """
    return [
        f"{name} {value:.6g} (rerun {again[name]:.6g})"
        for name, value in sorted(recorded.items())
        if name in again and not _same(value, again[name], tolerance)
    ]


def _same(left: float, right: float, tolerance: float) -> bool:
    if math.isnan(left) or math.isnan(right):
        return math.isnan(left) and math.isnan(right)
    return math.isclose(left, right, rel_tol=tolerance, abs_tol=0.0)
