"""The way of requests into the database; where it is away, into the spool and from there."""

from __future__ import annotations

from pathlib import Path

from mlflow_timescale.db import Database
from mlflow_timescale.spool import Drained, Outbox, Spool
from mlflow_timescale.spool.outages import is_outage
from mlflow_timescale.spool.outbox import PATIENCE_SECONDS
from mlflow_timescale.spool.places import folder_of
from mlflow_timescale.spool.senders import sender_of

from . import spooled, storing
from .requests import Request

_LARGE = 10_000  # predictions that double the patience


class Requests:
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
        self._database, self._numbers, self._seconds = database, numbers, patience
        self._has_connected = False
        self.spool: Spool | None = None
        if isinstance(spool, Spool):
            self.spool = spool
        elif spool is not False:
            is_default = spool is None or spool is True
            self.spool = Spool(folder_of(database.uri) if is_default else Path(str(spool)))
        known = {spooled.KIND: spooled.sender(database, numbers)}
        self._sender = sender_of(database.uri, known)
        self._outbox: Outbox | None = None
        if self.spool is not None:
            self._outbox = Outbox(
                self.spool, self._sender, is_outage=self._is_outage, what="requests"
            )

    def send(self, request: Request) -> bool | None:
        """Record a request: whether it was new, or None if it waits in the spool.

        Raises Contradiction, ConnectionFailed without a spool, and what the database refuses.
        """
        if self._outbox is None:
            return self._record(request)
        return self._outbox.write(
            lambda: self._record(request),
            lambda: spooled.to_record(request),
            lambda: None,
            seconds=self._seconds * (1 + len(request.entities) / _LARGE),
        )

    def drain(self) -> Drained:
        """Send what waits. Raises SpoolBusy, ConnectionFailed."""
        return Drained() if self.spool is None else self.spool.drain(self._sender)

    def close(self) -> None:
        """End the thread that drains, if one runs."""
        if self._outbox is not None:
            self._outbox.close()

    def _record(self, request: Request) -> bool | None:
        with self._database.connection() as conn:
            self._has_connected = True
            return storing.store(conn, request, self._numbers)

    def _is_outage(self, failure: BaseException) -> bool:
        return is_outage(failure, has_connected=self._has_connected)
