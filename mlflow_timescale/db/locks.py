"""Strong locks beside readers and writers: waits are short, and a failed attempt is repeated.

A statement that waits for an ACCESS EXCLUSIVE lock makes every later statement on the table wait
behind it, for as long as the oldest reader keeps its transaction open. So each attempt gives up
after a fraction of a second, below the time after which the server looks for deadlocks, and lets
the others pass before the next one.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import psycopg

from mlflow_timescale.db import rows
from mlflow_timescale.db.connection import Connection
from mlflow_timescale.db.errors import Error
from mlflow_timescale.db.queries import load

WAIT = "200ms"  # for one lock; others wait behind us for as long
PATIENCE_SECONDS = 600.0  # until the attempts end
_PAUSE_SECONDS = (0.3, 0.7)  # between two attempts
_AUTOVACUUM = "autovacuum worker"
RETRIED = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
_queries = load("locks")
T = TypeVar("T")


class LocksHeld(Error):
    """Other sessions kept the locks that a change needs."""


@dataclass(frozen=True)
class Holder:
    """A session that holds locks on tables; `seconds` is the age of its transaction."""

    pid: int
    backend: str
    role: str
    application: str
    state: str
    seconds: float

    def __str__(self) -> str:
        who = self.application or self.backend
        return (
            f"process {self.pid} ({who}, role {self.role or '-'}, {self.state or 'active'}) with a "
            f"transaction of {self.seconds:.0f} s"
        )


def with_short_waits(
    conn: Connection, work: Callable[[], T], *, patience: float = PATIENCE_SECONDS
) -> T:
    """Run `work` in a transaction in which no wait for a lock is long; repeat it until it succeeds.

    Parameters
    ----------
    conn
        A connection in autocommit mode, outside of a transaction.
    work
        Takes its strongest locks first. It is called again after an attempt that was rolled back.
    patience
        Seconds until the attempts end. Raises LocksHeld, which names the session in the way.

    Examples
    --------
    >>> with_short_waits(conn, lambda: conn.execute("LOCK TABLE runs").statusmessage)
    'LOCK TABLE'
    """
    end = time.monotonic() + patience
    holders: list[Holder] = []
    while True:
        try:
            with conn.transaction():
                _limit_waits(conn, holders)
                return work()
        except RETRIED as exc:
            holders = rows.records(conn, Holder, _queries.holders)
            if time.monotonic() > end:
                raise _held(holders, patience) from exc
        time.sleep(random.uniform(*_PAUSE_SECONDS))


def _limit_waits(conn: Connection, holders: list[Holder]) -> None:
    if any(holder.backend == _AUTOVACUUM for holder in holders):
        conn.execute(_queries.limit_waits_beside_autovacuum)
    else:
        conn.execute(_queries.limit_waits, {"wait": WAIT})


def held(conn: Connection, seconds: float) -> LocksHeld:
    """The error for locks that stayed taken for so long; it names the oldest session in the way."""
    return _held(rows.records(conn, Holder, _queries.holders), seconds)


def _held(holders: list[Holder], patience: float) -> LocksHeld:
    holder = f": {holders[0]}" if holders else ""
    return LocksHeld(
        f"other sessions kept tables locked for {patience:.0f} s{holder}; nothing was changed by "
        f"this step: end that transaction, or try again when it has ended"
    )
