"""Removal of artifacts that nothing refers to any more, and of the space that they took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from mlflow_timescale import db
from mlflow_timescale.artifacts import removal, versions
from mlflow_timescale.artifacts.databases import connection
from mlflow_timescale.artifacts.versions import Former
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


def former(database: DatabaseURI, before: datetime | None) -> tuple[Former, Former]:
    """The former versions that ended before a time, and the others; all are the others for None.

    Bytes of one content that belong to both count for both.
    """
    with connection(database) as conn:
        kept = versions.former(conn)
        if before is None:
            return Former(0, 0), kept
        going = versions.former(conn, before)
    return going, Former(kept.versions - going.versions, max(kept.size - going.size, 0))


def prune(
    database: DatabaseURI, locations: Mapping[str, int], former_before: datetime | None = None
) -> tuple[StoreSize, StoreSize]:
    """Delete files that `orphans` returned, and give space back to the operating system.

    Former versions that ended before a time are freed, too; without one all are kept.

    Returns
    -------
    tuple of StoreSize
        Before and after. Space in the middle of the files stays, and new artifacts use it.
    """
    if former_before is not None:
        with connection(database) as conn:
            versions.forget(conn, former_before)
    removal.remove_orphans(database, locations)
    with db.connect(database, autocommit=True) as conn:
        before = store_size(conn)
        conn.execute(_queries.vacuum)
        return before, store_size(conn)
