"""Writes go into the database, or into a spool while the database is away."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from typing import TypeVar

from mlflow_timescale.common import logs
from mlflow_timescale.db.errors import Error
from mlflow_timescale.spool.drainer import Drainer
from mlflow_timescale.spool.patience import Patience, TooSlow
from mlflow_timescale.spool.records import Record
from mlflow_timescale.spool.sending import Sender
from mlflow_timescale.spool.spool import Spool, SpoolBusy

T = TypeVar("T")
logger = logs.logger(__name__)
PATIENCE_SECONDS = 5.0  # a call waits so long for the database
_EXIT_SECONDS = 2.0  # the end of the process waits so long for the record that is being sent
_CATCH_UP_SECONDS = 0.25  # a call spends so long on records of an earlier process


class Outbox:
    """Sends each write once, the writes of one spool in order.

    While records wait, later ones queue behind them. A write that takes too long goes into the
    spool, and may still reach the database: a second arrival must have no effect.

    Parameters
    ----------
    spool
        The spool.
    sender
        Sends records of every kind that the spool may hold.
    is_outage
        Whether an exception is due to the state of the server, not to the write.
    what
        The name of the writes, for the log.
    """

    def __init__(
        self,
        spool: Spool,
        sender: Sender,
        *,
        is_outage: Callable[[BaseException], bool],
        what: str,
    ) -> None:
        self.spool, self.sender = spool, sender
        self._is_outage, self._what = is_outage, what
        self._patience, self._drainer = Patience(), Drainer(spool, sender)
        self._is_registered = False

    def write(
        self,
        now: Callable[[], T],
        record: Callable[[], Record],
        spooled: Callable[[], T],
        *,
        seconds: float = PATIENCE_SECONDS,
    ) -> T:
        """Write to the database, or append a record to the spool.

        Parameters
        ----------
        now
            Writes to the database, and returns the result.
        record
            Creates the record of the same write.
        spooled
            Creates the result if the record waits.
        seconds
            The longest time for the write.

        Raises
        ------
        Exception
            The exception of `now`, unless it is an outage; SpoolError, SpoolFull.
        """
        return self._attempt(
            lambda: self._patience.wait(now, seconds), record, spooled, seconds=seconds
        )

    def write_long(
        self,
        now: Callable[[], T],
        record: Callable[[], Record],
        spooled: Callable[[], T],
        *,
        probe: Callable[[], object],
        seconds: float = PATIENCE_SECONDS,
    ) -> T:
        """Like `write`, for a write that may take long: only `probe` has to end in time.

        `now` runs in the thread of the caller, so that it does not read a file after the call.
        """

        def attempt() -> T:
            self._patience.wait(probe, seconds)
            return now()

        return self._attempt(attempt, record, spooled, seconds=seconds)

    def _attempt(
        self,
        attempt: Callable[[], T],
        record: Callable[[], Record],
        spooled: Callable[[], T],
        *,
        seconds: float,
    ) -> T:
        if not self._is_away and (self.spool.is_empty() or self._catches_up(seconds)):
            try:
                return attempt()
            except Exception as exc:
                if not isinstance(exc, TooSlow) and not self._is_outage(exc):
                    raise
                self._warn(exc)
        self.append(record())
        return spooled()

    def append(self, record: Record) -> None:
        """Append a record to the spool. Raises SpoolError, SpoolFull."""
        if self.spool.full == "block":
            self._drainer.start()  # records of an earlier process must leave to make room
        self.spool.append(record)
        self._drainer.start()
        if not self._is_registered:
            self._is_registered = True
            atexit.register(self._at_exit)

    def read(
        self,
        now: Callable[[], T],
        known: Callable[[], T | None] = lambda: None,
        *,
        seconds: float = PATIENCE_SECONDS,
    ) -> T:
        """Read from the database, or return what is known without it.

        Raises Away if the database does not answer and `known` returns None, and exceptions of
        `now`.
        """
        # If nothing waits any more, another process or thread has reached the database.
        is_away = self._is_away and not self.spool.is_empty()
        if is_away and (last := known()) is not None:
            return last
        try:
            return self._patience.wait(now, seconds)
        except Exception as exc:
            if not isinstance(exc, TooSlow) and not self._is_outage(exc):
                raise
            if (last := known()) is not None:
                return last
            raise Away(f"the database is away ({_reason(exc)})") from exc

    def start(self) -> None:
        """Begin to send records of an earlier process, if there are any."""
        if not self.spool.is_empty():
            self._drainer.start()

    def close(self) -> None:
        """End the thread that drains, if one runs."""
        self._drainer.stop()

    @property
    def _is_away(self) -> bool:
        """Whether the database was away at the last attempt of this process to send."""
        return self._drainer.is_failing and self._drainer.is_running

    def _warn(self, exc: Exception) -> None:
        logger.warning(
            "the database is away: %s wait in %s (%s)",
            self._what,
            self.spool.path,
            _reason(exc),
        )

    def _catches_up(self, seconds: float) -> bool:
        """Send waiting records first, to keep the order; whether none waits any more."""
        if self._drainer.is_running:
            return False
        try:
            self._patience.wait(
                lambda: self.spool.drain(self.sender, seconds=_CATCH_UP_SECONDS), seconds
            )
        except (SpoolBusy, Error, TooSlow):
            return False
        return self.spool.is_empty()

    def _at_exit(self) -> None:
        self._drainer.stop(_EXIT_SECONDS)
        if not self.spool.is_empty():
            logger.warning(
                "%s still wait in %s: the next process sends them, or `mlflow-timescale spool "
                "drain`",
                self._what,
                self.spool.path,
            )


def _reason(exc: BaseException) -> str:
    """The first line of an outage, without the advice that stores add for other calls."""
    reason = exc.__cause__ or exc
    return str(reason).splitlines()[0] if str(reason) else repr(reason)


class Away(Error):
    """The database does not answer, and the call cannot wait in a spool."""
