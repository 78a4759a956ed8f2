"""Send the messages on drift alerts that wait in the database, while the server runs.

Every worker checks once a minute. A message is locked while it is sent: one worker takes it.
"""

from __future__ import annotations

import threading
from random import uniform
from typing import Any

from mlflow_timescale.common import logs, packages
from mlflow_timescale.common.schemes import is_ours

PERIOD = 60.0  # seconds
logger = logs.logger(__name__)


def start(uri: str | None) -> threading.Thread | None:
    """Start the thread that sends; None where the server has no database of ours.

    It ends with the process: what it sends at that moment is sent again by another worker.
    """
    if not uri or not is_ours(uri):
        return None
    thread = threading.Thread(target=_run, args=(uri,), name="alert-sender", daemon=True)
    thread.start()
    return thread


def _run(uri: str) -> None:
    stopped = threading.Event()
    wait = uniform(1.0, 5.0)  # nosec B311  # the workers start together
    while not stopped.wait(wait):
        wait = PERIOD
        try:
            send(uri)
        except Exception as exc:  # a database that is away or refuses must not end the thread
            logger.debug("messages on alerts wait: %s", exc)


def send(uri: str) -> int:
    """Send what is due to the targets of this process; return how many messages were taken."""
    targets: Any = packages.load("drift.alerts.targets")
    return int(targets.deliver_waiting(uri))
