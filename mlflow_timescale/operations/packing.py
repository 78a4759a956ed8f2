"""Building the keys of `metrics` anew where points that came in turns have left them half empty.

A run's points go into the middle of the index, and a page that is full there is halved: PostgreSQL
fills pages only at the index's end, or where the entries are short.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from mlflow_timescale import db
from mlflow_timescale.db import locks
from mlflow_timescale.db.migrations import facts

_queries = db.load("packing")
_WAIT_SECONDS = 300  # for the transactions that use a key


class PackingError(db.Error):
    """The keys cannot be packed now."""


@dataclass(frozen=True)
class LooseKey:
    """An index, its size, and about what it would be if it were built anew, in bytes."""

    schema: str
    name: str
    bytes: int
    packed: int

    @property
    def saving(self) -> int:
        return self.bytes - self.packed


def loose_keys(conn: db.Connection) -> list[LooseKey]:
    """The keys of `metrics` (of its chunks) that are worth building anew, largest first."""
    if "mlflow" not in facts(conn):
        return []
    with conn.cursor(row_factory=class_row(LooseKey)) as cursor:
        return cursor.execute(_queries.loose_keys).fetchall()


def pack(conn: db.Connection, done: Callable[[LooseKey, int], None]) -> None:
    """Build loose keys anew, each beside its old one: nobody waits. `conn` is in autocommit mode.

    `done` hears of each key and its size now. Interrupted, it leaves what is finished; the next
    call removes the rest. Raises PackingError where another one is at it, or nothing to pack, and
    db.LocksHeld where a transaction that uses a key does not end.
    """
    if "mlflow" not in facts(conn):
        raise PackingError("there are no MLflow tables in this database: name the server's own")
    if not _one(conn, _queries.take_turn):
        raise PackingError("the keys of metrics are being packed already, by another connection")
    # Nobody waits for us while we wait; but a transaction that never ends must not keep us for ever.
    conn.execute(_queries.limit_waits, {"wait": f"{_WAIT_SECONDS}s"})
    try:
        _rebuild(conn, done)
    except psycopg.errors.LockNotAvailable as exc:
        raise locks.held(conn, _WAIT_SECONDS) from exc


def _rebuild(conn: db.Connection, done: Callable[[LooseKey, int], None]) -> None:
    for left in conn.execute(_queries.abandoned_keys).fetchall():
        conn.execute(_queries.drop_key.format(key=sql.Identifier(*left)))
    for key in loose_keys(conn):
        conn.execute(_queries.rebuild_key.format(key=sql.Identifier(key.schema, key.name)))
        done(key, _one(conn, _queries.size, schema=key.schema, name=key.name))


def _one(conn: db.Connection, query: sql.SQL, **values: object) -> int:
    [[found]] = conn.execute(query, values or None).fetchall()
    return int(found)
