"""Strong locks beside readers and writers: waits are short, and a failed attempt is repeated.

A statement that waits for an ACCESS EXCLUSIVE lock makes every later statement on the table wait
behind it, for as long as the oldest reader keeps its transaction open. So each attempt gives up
after a fraction of a second, below the time after which the server looks for deadlocks, and lets
the others pass before the next one. The pause is longer than the wait, because one call of MLflow's
is several transactions, and each may meet an attempt. Where only short transactions are in the way,
as on a slow server, the next attempt waits a little longer: it would never find all of them ended.

Reads wait behind such a lock too: `time_limits` bounds their wait, and names the session that holds
the lock.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from psycopg import sql

from mlflow_timescale.db import rows
from mlflow_timescale.db.connection import Connection
from mlflow_timescale.db.errors import Error
from mlflow_timescale.db.queries import load

WAIT_SECONDS = 0.2  # for one lock; others wait behind us for as long
LONGEST_WAIT_SECONDS = 0.6
PATIENCE_SECONDS = 600.0  # until the attempts end
READ_SECONDS = 30.0  # for a lock that a read needs: no session waits behind a read
_GROWTH = 1.5  # of the wait, from an attempt to the next
_PAUSE = (2.0, 4.0)  # between two attempts, in waits
# A transaction of this age does not end within a wait: a longer one would hold up others in vain.
_OLD_SECONDS = 3.0
RETRIED = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
_queries = load("locks")
T = TypeVar("T")


class LocksHeld(Error):
    """Other sessions kept the locks that a change needs."""


@dataclass(frozen=True)
class Holder:
    """A session that holds locks on tables.

    `seconds` is the age of its transaction, `remedy` the statement that ends it.
    """

    pid: int
    backend: str
    role: str
    application: str
    state: str
    seconds: float
    tables: str
    remedy: str

    def __str__(self) -> str:
        who = self.application or self.backend
        return (
            f"process {self.pid} ({who}, role {self.role or '-'}, {self.state or 'active'}) with a "
            f"transaction of {self.seconds:.0f} s, on {self.tables}"
        )


@contextmanager
def time_limits(
    conn: Connection, *, wait: float | None = None, statement: float = 0.0
) -> Iterator[None]:
    """Run the block with time limits of ours, whatever the role or the database sets.

    A role's `statement_timeout` would end a step of maintenance in its middle, and without a
    `lock_timeout` a read behind a strong lock never ends.

    Parameters
    ----------
    conn
        A connection outside of a transaction. One through a pooler keeps its limits, because a
        setting would stay with a server process that others use.
    wait
        Seconds for a lock, READ_SECONDS by default. Raises LocksHeld, which names the session.
    statement
        Seconds for a statement; 0 is no limit.

    Examples
    --------
    >>> with time_limits(conn, wait=1.5):
    ...     conn.execute("SHOW lock_timeout").fetchone()
    ('1500ms',)
    """
    wait = READ_SECONDS if wait is None else wait
    before = {} if conn.pooled or not _is_idle(conn) else _limits(conn)
    if before:
        _set(conn, dict.fromkeys(before, "0") | _of(wait, statement))
    try:
        yield
    except psycopg.errors.LockNotAvailable as exc:
        if _is_idle(conn):
            raise held(conn, wait) from exc
        raise
    finally:
        if before and _is_idle(conn):
            _set(conn, before)


def limit_transaction(conn: Connection, wait: float, statement: float) -> None:
    """Bound, in seconds, each wait for a lock and each statement of the current transaction."""
    conn.execute(_queries.limit_transaction, _of(wait, statement))


def with_short_waits(
    conn: Connection,
    work: Callable[[], T],
    *,
    patience: float = PATIENCE_SECONDS,
    longest: float = LONGEST_WAIT_SECONDS,
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
    longest
        Seconds that a wait may grow to.

    Examples
    --------
    >>> with_short_waits(conn, lambda: conn.execute("LOCK TABLE runs").statusmessage)
    'LOCK TABLE'
    """
    end = time.monotonic() + patience
    wait, vacuumed = WAIT_SECONDS, list[str]()
    while True:
        try:
            with conn.transaction():
                _end_autovacuum(conn, vacuumed)
                limit_waits(conn, wait)
                return work()
        except RETRIED as exc:
            vacuumed = rows.scalars(conn, _queries.vacuumed)
            if time.monotonic() > end:
                raise held(conn, patience) from exc
        time.sleep(wait * random.uniform(*_PAUSE))  # nosec B311  # spreads retries
        wait = min(_next_wait(conn, wait), longest)


def limit_waits(conn: Connection, seconds: float = WAIT_SECONDS) -> None:
    """Bound each further wait for a lock in the current transaction."""
    conn.execute(_queries.limit_waits, {"wait": f"{seconds * 1000:.0f}ms"})


def _next_wait(conn: Connection, wait: float) -> float:
    if any(holder.seconds > _OLD_SECONDS for holder in _holders(conn)):
        return WAIT_SECONDS
    return min(wait * _GROWTH, LONGEST_WAIT_SECONDS)


def held(conn: Connection, seconds: float) -> LocksHeld:
    """The error for locks that stayed taken for so long; it names the oldest session in the way."""
    holder = first_holder(conn)
    name = f": {holder}" if holder else ""
    return LocksHeld(
        f"other sessions kept tables locked for {seconds:.0f} s{name}; nothing was changed by "
        f"this step: end that transaction, or try again when it has ended"
    )


def first_holder(conn: Connection) -> Holder | None:
    """The session to look at first: one that keeps readers out, else the oldest transaction."""
    return next(iter(_holders(conn)), None)


def _holders(conn: Connection) -> list[Holder]:
    return rows.records(conn, Holder, _queries.holders)


def _end_autovacuum(conn: Connection, tables: list[str]) -> None:
    """Let autovacuum give up these tables, and keep it away until the transaction ends.

    It does when the deadlock check of a session comes that waits for it, after a second. Waiting
    for a strong lock as long would hold up every writer; only autovacuum and changes of the
    schema wait behind a SHARE UPDATE EXCLUSIVE lock.
    """
    if tables:
        conn.execute(_queries.wait_for_autovacuum)
    for table in tables:
        conn.execute(_queries.keep_autovacuum_away.format(table=sql.SQL(table)))


def _limits(conn: Connection) -> dict[str, str]:
    return dict(conn.execute(_queries.limits).fetchall())


def _set(conn: Connection, values: dict[str, str]) -> None:
    parameters = {"names": list(values), "values": list(values.values())}
    conn.execute(_queries.set_limits, parameters)


def _is_idle(conn: Connection) -> bool:
    """Whether the connection works, and is outside of a transaction."""
    return conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def _of(wait: float, statement: float) -> dict[str, str]:
    return {
        "lock_timeout": f"{wait * 1000:.0f}ms",
        "statement_timeout": f"{statement * 1000:.0f}ms",
    }
