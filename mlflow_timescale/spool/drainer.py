"""A thread that drains a spool while the process runs, as soon as the database is back."""

from __future__ import annotations

import threading

from mlflow_timescale.common import logs
from mlflow_timescale.db.errors import Error
from mlflow_timescale.spool.sending import Sender
from mlflow_timescale.spool.spool import Spool, SpoolBusy

logger = logs.logger(__name__)
_FIRST_SECONDS, _LONGEST_SECONDS = 0.5, 15.0  # between two attempts


class Drainer:
    """Drains a spool in a thread of its own, which ends when the spool is empty.

    Parameters
    ----------
    spool
        The spool.
    sender
        Sends records of every kind that the spool may hold.

    Examples
    --------
    >>> import tempfile
    >>> drainer = Drainer(Spool(tempfile.mkdtemp() + "/spool"), Sender(lambda record: True))
    >>> drainer.start()
    >>> drainer.stop()
    """

    def __init__(self, spool: Spool, sender: Sender) -> None:
        self._spool, self._sender = spool, sender
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._has_more = False  # whether a record was appended since the last drain began
        self.is_failing = False  # whether the database was away at the last attempt

    @property
    def is_running(self) -> bool:
        """Whether a thread of this process drains the spool."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Make sure that a thread drains the spool; a child of fork() starts its own.

        Two threads that start at once do no harm: the second one gets SpoolBusy.
        """
        self._has_more = True
        if not self.is_running:
            self._stop = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=[self._stop], name="spool drain", daemon=True
            )
            self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread after the current record; the other records keep waiting."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self, stop: threading.Event) -> None:
        pause = _FIRST_SECONDS
        while not stop.is_set():
            self._has_more = False
            try:
                drained = self._spool.drain(self._sender, seconds=1.0)
                self.is_failing = False
                if self._spool.is_empty():
                    self._thread = None
                    # An append before the line above has started no thread: this one was alive.
                    if self._has_more:
                        self.start()
                    return
                pause = _FIRST_SECONDS if drained.total else pause
            except SpoolBusy:
                pass
            except Error as exc:
                self.is_failing = True
                logger.debug("the spool %s waits: %s", self._spool.path, exc)
            except Exception:
                logger.exception("the spool %s cannot be drained; trying again", self._spool.path)
            stop.wait(pause)
            pause = min(pause * 2, _LONGEST_SECONDS)
