"""Checking a snapshot or a lake: is every file as it was written, does the database agree?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlflow_timescale.db import Database

from . import lake, lake_manifest, snapshots
from .manifest import ContentMismatch
from .storage import Folder


@dataclass(frozen=True)
class Verified:
    """What was checked: the number of files and rows, and the fingerprint (empty for a lake)."""

    files: int
    rows: int
    fingerprint: str = ""


def verify(path: str | Path, database: Database | None = None) -> Verified:
    """Read every file of a snapshot or lake and compare it with its manifest.

    Parameters
    ----------
    path
        A directory or fsspec URL. Raises CorruptFile or ContentMismatch where something differs,
        SnapshotError where there is neither a snapshot nor a lake.
    database
        Where the content of a snapshot is read again, at its watermark; must give the same.
    """
    if Folder(path).exists(lake_manifest.FILE):
        exported = lake.Lake(path)
        exported.verify()
        return Verified(len(exported.files()), exported.rows)
    snapshot = snapshots.load_snapshot(path)
    if database is not None:
        _compare(snapshot, database)
    manifest = snapshot.manifest
    return Verified(len(manifest.files), manifest.rows, snapshot.fingerprint)


def _compare(snapshot: snapshots.Snapshot, database: Database) -> None:
    rebuilt = snapshots.rebuild(database, snapshot)
    if rebuilt != snapshot.fingerprint:
        raise ContentMismatch(
            f"{snapshot.url} has fingerprint {snapshot.fingerprint}, the database {database.uri} "
            f"gives {rebuilt}: it is another database, or its history was changed"
        )
