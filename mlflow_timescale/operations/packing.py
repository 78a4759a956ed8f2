"""Rebuild bloated key indexes of `metrics`: interleaved inserts leave their pages half full.

The points of a run are inserted into the middle of the index. PostgreSQL splits a full page there
into halves; only pages at the end of an index, or with short entries, fill up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from psycopg import sql

from mlflow_timescale import db
from mlflow_timescale.db.migrations import facts
from mlflow_timescale.db.rows import records, scalar

_queries = db.load("packing")
_WAIT_SECONDS = 300  # for the transactions that use a key


class PackingError(db.Error):
    """The keys cannot be packed now."""


@dataclass(frozen=True)
class LooseKey:
    """A bloated index, its size, and the estimated size after a rebuild, in bytes."""

    schema: str
    name: str
    bytes: int
    packed: int

    @property
    def saving(self) -> int:
        return self.bytes - self.packed


def loose_keys(conn: db.Connection) -> list[LooseKey]:
    """The key indexes of `metrics` (of its chunks) that are worth a rebuild, largest first."""
    if "mlflow" not in facts(conn):
        return []
    return records(conn, LooseKey, _queries.loose_keys)


def pack(conn: db.Connection, done: Callable[[LooseKey, int], None]) -> None:
    """Rebuild bloated keys, one after the other. `conn` must be in autocommit mode.

    `done` is called with each key and its new size. An interrupted call keeps the keys that are
    finished; the next call removes the incomplete one. Raises PackingError if another connection
    is packing, or if the database has no MLflow tables, and db.LocksHeld if a transaction that
    uses a key does not end.
    """
    if "mlflow" not in facts(conn):
        raise PackingError("there are no MLflow tables in this database: name the server's own")
    if not scalar(conn, _queries.take_turn):
        raise PackingError("the keys of metrics are being packed already, by another connection")
    # Our wait holds up nothing; but a transaction that never ends must not keep us forever.
    with db.time_limits(conn, wait=_WAIT_SECONDS):
        _rebuild(conn, done)


def _rebuild(conn: db.Connection, done: Callable[[LooseKey, int], None]) -> None:
    # REINDEX CONCURRENTLY cannot run in a transaction: an interrupted one leaves an invalid index.
    for abandoned in conn.execute(_queries.abandoned_keys).fetchall():
        conn.execute(_queries.drop_key.format(key=sql.Identifier(*abandoned)))
    for key in loose_keys(conn):
        conn.execute(_queries.rebuild_key.format(key=sql.Identifier(key.schema, key.name)))
        done(key, scalar(conn, _queries.size, {"schema": key.schema, "name": key.name}))
