"""The way of requests into the database; where it is away, into the spool and from there."""

from __future__ import annotations

from pathlib import Path

import psycopg

from mlflow_timescale.common import logs
from mlflow_timescale.db import ConnectionFailed, Database, Error, Refused
from mlflow_timescale.spool import Drained, Drainer, Spool, SpoolBusy
from mlflow_timescale.spool.patience import Patience, TooSlow
from mlflow_timescale.spool.places import default_folder

from . import spooled, storing
from .requests import Request

logger = logs.logger(__name__)
PATIENCE_SECONDS = 5.0  # that a call waits for the database
_LARGE = 10_000  # predictions that double it
_CATCH_UP_SECONDS = 0.25  # that a call spends on what an earlier process left
# Classes of SQLSTATE that concern the server's state and not the request: connections, rolled back
# transactions, a server that became a replica, a full disk, locks, shutdown, I/O.
_AWAY = ("08", "25", "40", "53", "55", "57", "58")


class Outbox:
    """Sends requests, each exactly once, those of one spool in their order.

    Parameters
    ----------
    database
        Where to.
    numbers
        The numbers of names in this database.
    spool, patience
        As of `Serving`.
    """

    def __init__(
        self,
        database: Database,
        numbers: storing.Numbers,
        spool: str | Path | Spool | bool | None = None,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._seconds, self._patience = patience, Patience()
        self._database, self._numbers = database, numbers
        self._has_connected = False
        self.spool: Spool | None = None
        if isinstance(spool, Spool):
            self.spool = spool
        elif spool is not False:
            is_default = spool is None or spool is True
            self.spool = Spool(default_folder(database.uri) if is_default else Path(str(spool)))
        self._send = spooled.sender(database, numbers)
        self._drainer = None if self.spool is None else Drainer(self.spool, self._send)

    def send(self, request: Request) -> bool | None:
        """Record a request: whether it was new, or None if it waits in the spool.

        Raises Contradiction, ConnectionFailed without a spool, and what the database refuses.
        """
        spool, drainer = self.spool, self._drainer
        if spool is None or drainer is None:
            return self._record(request)
        if spool.is_empty() or self._catches_up(spool, drainer):
            try:
                seconds = self._seconds * (1 + len(request.entities) / _LARGE)
                return self._patience.wait(lambda: self._record(request), seconds)
            except (Error, TooSlow) as exc:
                if isinstance(exc, Error) and not self._is_outage(exc):
                    raise
                logger.warning("the database is away: requests wait in %s (%s)", spool.path, exc)
        spool.append(spooled.to_record(request))
        drainer.start()
        return None

    def drain(self) -> Drained:
        """Send what waits. Raises SpoolBusy, ConnectionFailed."""
        return Drained() if self.spool is None else self.spool.drain(self._send)

    def close(self) -> None:
        """End the thread that drains, if one runs."""
        if self._drainer is not None:
            self._drainer.stop()

    def _record(self, request: Request) -> bool:
        with self._database.connection() as conn:
            self._has_connected = True
            return storing.store(conn, request, self._numbers)

    def _catches_up(self, spool: Spool, drainer: Drainer) -> bool:
        """Whether nothing waits any more; what waits goes first, so that the order is kept."""
        if drainer.is_running:
            return False
        try:
            self._patience.wait(
                lambda: spool.drain(self._send, seconds=_CATCH_UP_SECONDS), self._seconds
            )
        except (SpoolBusy, Error, TooSlow):
            return False
        return spool.is_empty()

    def _is_outage(self, exc: Error) -> bool:
        if isinstance(exc, ConnectionFailed):
            # A wrong password or name is an error of the first call, and an outage afterwards.
            return self._has_connected or not exc.permanent
        cause = exc.__cause__
        return (
            isinstance(exc, Refused)
            and isinstance(cause, psycopg.Error)
            and (cause.sqlstate or "")[:2] in _AWAY
        )
