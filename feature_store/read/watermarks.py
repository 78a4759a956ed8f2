"""The moment up to which the database is settled.

A write is stamped before it commits, so for a while its stamp exists but is invisible. Every write
therefore holds a shared advisory lock that carries the second in which it began; the lock is taken
before the stamp and released after the commit becomes visible. `watermark` reads the clock first
and the locks second: a write without a visible lock has either committed, or will get a stamp later
than that clock.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from mlflow_timescale import db

_queries = db.load("features")


def watermark(conn: db.Connection) -> datetime:
    """The newest moment at or before which no further write can be stamped.

    `conn` must be in autocommit mode and outside of a transaction; read with a later snapshot.
    Locks are not replicated, so call it on the primary.
    """
    row: Any = conn.execute(_queries.clock).fetchone()
    announced: Any = conn.execute(_queries.oldest_announced).fetchone()
    now: datetime = row[0]
    if announced[0] is None:
        return now
    settled: datetime = announced[0] - timedelta(microseconds=1)
    return min(now, settled)
