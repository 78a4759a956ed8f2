"""A thread that drains a spool while the process runs, as soon as the database is back."""

from __future__ import annotations

import threading
from collections.abc import Callable

from mlflow_timescale.common import logs
from mlflow_timescale.db.errors import Error
from mlflow_timescale.spool.records import Record
from mlflow_timescale.spool.spool import Spool, SpoolBusy

logger = logs.logger(__name__)
_FIRST_SECONDS, _LONGEST_SECONDS = 0.5, 15.0  # between two attempts


class Drainer:
    """Drains a spool in a thread of its own, which ends when the spool is empty.

    Parameters
    ----------
    spool
        The spool.
    send
        As of `Spool.drain`.

    Examples
    --------
    >>> import tempfile
    >>> drainer = Drainer(Spool(tempfile.mkdtemp() + "/spool"), lambda record: True)
    >>> drainer.start()
    >>> drainer.stop()
    """

    def __init__(self, spool: Spool, send: Callable[[Record], bool]) -> None:
        self._spool, self._send = spool, send
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def is_running(self) -> bool:
        """Whether a thread of this process drains."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Make sure that a thread drains the spool; in a child of fork() a new one.

        Two threads that are started at once do no harm: one of them finds the spool busy.
        """
        if not self.is_running:
            self._stop = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=[self._stop], name="spool drain", daemon=True
            )
            self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread after the record that it sends; what waits goes on waiting."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self, stop: threading.Event) -> None:
        pause = _FIRST_SECONDS
        while not stop.is_set():
            try:
                drained = self._spool.drain(self._send, seconds=1.0)
                if self._spool.is_empty():
                    return
                pause = _FIRST_SECONDS if drained.total else pause
            except SpoolBusy:
                pass
            except Error as exc:
                logger.debug("the spool %s waits: %s", self._spool.path, exc)
            except Exception:
                logger.exception("the spool %s cannot be drained; trying again", self._spool.path)
            stop.wait(pause)
            pause = min(pause * 2, _LONGEST_SECONDS)
