"""Removal of artifacts that nothing refers to any more, and of the space that they took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow_timescale import db
from mlflow_timescale.artifacts import removal
from mlflow_timescale.artifacts.databases import connection
from mlflow_timescale.db import rows
from mlflow_timescale.db.uri import DatabaseURI

_queries = db.load("artifacts")


@dataclass(frozen=True)
class StoreSize:
    """The in-database store: bytes of its tables on disk, and bytes of the stored contents."""

    taken: int
    used: int


def store_size(conn: db.Connection) -> StoreSize:
    """The size of the in-database store."""
    return rows.records(conn, StoreSize, _queries.store_size)[0]


def orphans(database: DatabaseURI) -> dict[str, int]:
    """The files of runs, logged models and traces that do not exist, with their sizes in bytes."""
    with connection(database) as conn:
        return removal.orphans(conn)


def prune(database: DatabaseURI, locations: Mapping[str, int]) -> tuple[StoreSize, StoreSize]:
    """Delete files that `orphans` returned, and give space back to the operating system.

    Returns
    -------
    tuple of StoreSize
        Before and after. Space in the middle of the files stays, and new artifacts use it.
    """
    removal.remove_orphans(database, locations)
    with db.connect(database, autocommit=True) as conn:
        before = store_size(conn)
        conn.execute(_queries.vacuum)
        return before, store_size(conn)
