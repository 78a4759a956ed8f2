"""A lock for `import` and `sync`: two calls at a time would add the same runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlflow_timescale import db
from mlflow_timescale.db import Connection
from mlflow_timescale.db.rows import scalar, scalars

_queries = db.load("merging")
_PAUSE = 0.5  # seconds


@contextmanager
def turn(conn: Connection, note: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock for the block; other calls wait for it.

    Parameters
    ----------
    conn
        A connection for the lock alone, in autocommit mode. The lock is held by a transaction, so
        that it works through a pooler, too.
    note
        Called with a line that names the other call, if there is one.
    """
    with conn.transaction():
        if not scalar(conn, _queries.take_turn):
            [pid, *_] = [*scalars(conn, _queries.holder_of_turn), "that has just ended"]
            note(f"another import or sync (session {pid}) brings runs into this database: waiting")
            # A wait for the lock itself would end with the role's lock_timeout.
            while not scalar(conn, _queries.take_turn):
                time.sleep(_PAUSE)
        yield
