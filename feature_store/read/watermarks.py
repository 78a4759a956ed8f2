"""The moment up to which the database is settled.

A write is stamped before it commits, so for a while a stamp exists that nobody can see. Every
write therefore holds a shared advisory lock that carries the second in which it began, taken
before its stamp and released after its commit becomes visible. Whoever wants a watermark reads the
clock first and the locks second: a write whose lock is not seen then has either committed, or will
be stamped later than the clock that was read.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from mlflow_timescale import db

_queries = db.load("features")


def watermark(conn: db.Connection) -> datetime:
    """The newest moment at or before which no further write can be stamped.

    `conn` must be in autocommit mode and outside of a transaction; read with a later snapshot.
    Locks are not replicated, so ask the primary.
    """
    row: Any = conn.execute(_queries.clock).fetchone()
    announced: Any = conn.execute(_queries.oldest_announced).fetchone()
    now: datetime = row[0]
    if announced[0] is None:
        return now
    settled: datetime = announced[0] - timedelta(microseconds=1)
    return min(now, settled)
