"""`mlops.model_artifacts`: every file that was logged, with its SHA-256, kept permanently."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from mlflow_timescale.artifacts.hashing import FileDigest
from mlflow_timescale.artifacts.locations import guess_type, owner
from mlflow_timescale.artifacts.paths import clash, parents
from mlflow_timescale.artifacts.refusals import translated
from mlflow_timescale.common import attribution
from mlflow_timescale.db import Connection, MigrationError, load, rows
from mlflow_timescale.db.revisions import MIGRATE

_queries = load("artifacts")


@dataclass(frozen=True)
class Entry:
    """One row of the ledger."""

    artifact_id: int
    location: str
    run_id: str | None
    model_id: str | None
    path: str
    artifact_type: str
    fingerprint: FileDigest
    origin: str
    created_at: datetime
    db_user: str
    mlflow_user: str | None
    ended_at: datetime | None
    ended: str | None
    authenticated_user: str | None = None
    claimed_user: str | None = None

    @property
    def by(self) -> str:
        """Who logged the file, as people read it: a name that was only claimed is marked."""
        claimed = self.claimed_user or (None if self.authenticated_user else self.mlflow_user)
        return attribution.who(self.db_user, self.authenticated_user, claimed)

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Entry:
        values: list[Any] = [*row[:6], FileDigest(row[6], row[7]), *row[8:]]
        return cls(*values)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: times in ISO 8601."""
        times = {"created_at": self.created_at, "ended_at": self.ended_at}
        return {
            "artifact_id": self.artifact_id,
            "location": self.location,
            "run_id": self.run_id,
            "model_id": self.model_id,
            "path": self.path,
            "type": self.artifact_type,
            "checksum": self.fingerprint.sha256,
            "size_bytes": self.fingerprint.size,
            "origin": self.origin,
            "db_user": self.db_user,
            "mlflow_user": self.mlflow_user,
            "authenticated_user": self.authenticated_user,
            "claimed_user": self.claimed_user,
            "ended": self.ended,
            **{name: time.isoformat() if time else None for name, time in times.items()},
        }


def record(
    conn: Connection, files: Iterable[tuple[str, FileDigest]], *, origin: str = "logged"
) -> None:
    """Enter files by location; earlier rows of the same locations are closed.

    Raises ArtifactFrozen for other bytes, or a new file, where a registered version is, unless it
    is overridden (`mlflow_timescale.because(reason, override=True)`).
    """
    files = sorted(files)
    if not files:
        return
    locations = [location for location, _ in files]
    values = {
        "locations": locations,
        "types": [guess_type(location) for location in locations],
        "checksums": [fingerprint.sha256 for _, fingerprint in files],
        "sizes": [fingerprint.size for _, fingerprint in files],
        "origin": origin,
        "mlflow_user": attribution.current().user,
    }
    _pass_override(conn)
    with refusals():
        conn.execute(_queries.record, values)


def put_files(conn: Connection, paths: Sequence[str], content_ids: Sequence[int]) -> set[int]:
    """Point paths of the in-database store at contents, and enter them into the ledger.

    Returns the contents that the paths pointed at before. Raises what `record` raises.
    """
    values = {
        "paths": list(paths),
        "content_ids": list(content_ids),
        "types": [guess_type(path) for path in paths],
        "mlflow_user": attribution.current().user,
    }
    _pass_override(conn)
    with refusals():
        return set(rows.scalars(conn, _queries.put_files, values))


def remove_files(conn: Connection, path: str, kept: Iterable[str]) -> set[int]:
    """Take a file or directory out of the in-database store, and close its rows.

    Returns its contents. Raises what `forget` raises.
    """
    _pass_override(conn)
    with refusals():
        values = {"path": path, "kept": list(kept)}
        return set(rows.scalars(conn, _queries.remove_files, values))


@contextmanager
def refusals() -> Iterator[None]:
    """Raise the database's refusals of a change as ours.

    Raises MigrationError where the schema is of an older version than this way to write.
    """
    try:
        yield
    except psycopg.errors.UndefinedFunction as exc:
        raise MigrationError(
            f"the schema of this database is older than this mlflow-timescale, which writes "
            f"artifacts in another way: its administrator runs `{MIGRATE}` once"
        ) from exc
    except psycopg.Error as exc:
        raise translated(exc) from exc


def _pass_override(conn: Connection) -> None:
    """Tell the trigger, for the rest of the transaction, that its refusals are overridden."""
    current = attribution.current()
    if current.override:
        values = {"user": current.user or "", "reason": current.reason}
        conn.execute(_queries.override, values)


def require_no_clash(conn: Connection, locations: Sequence[str]) -> None:
    """Raise MlflowException for a file where a directory was logged, or the other way round."""
    above = {above for location in locations for above in parents(location)}
    values = {"locations": list(locations), "above": sorted(above)}
    if row := conn.execute(_queries.clash_in_ledger, values).fetchone():
        raise clash(*row)


def current(conn: Connection, location: str) -> dict[str, Entry]:
    """The current rows of a file, or of every file below a directory, by location."""
    rows = conn.execute(_queries.current_under, {"location": location}).fetchall()
    return {entry.location: entry for entry in map(Entry.from_row, rows)}


def forget(conn: Connection, location: str, kept: Iterable[str] = ()) -> None:
    """Close the rows of a deleted file or directory, except those of the locations kept.

    Raises ArtifactFrozen for a file of a registered version, unless it is overridden.
    """
    _pass_override(conn)
    with refusals():
        conn.execute(_queries.end_under, {"location": location, "kept": list(kept)})


@dataclass(frozen=True)
class Frozen:
    """The version at whose place a file is; `sha256` is None for a file that it does not have."""

    version: str
    sha256: str | None


def frozen(conn: Connection, locations: Iterable[str]) -> dict[str, Frozen]:
    """The locations among these that registered versions freeze, unless that is overridden."""
    if attribution.current().override:
        return {}
    found = rows.if_migrated(conn, _queries.frozen, {"locations": list(locations)})
    return {location: Frozen(version, sha256) for location, version, sha256 in found}


def needed(conn: Connection, location: str) -> dict[str, str]:
    """The files at or below a location that a registered version needs: location to NAME/3."""
    run_id, model_id, _ = owner(location)
    values = {"location": location, "owner": run_id or model_id}
    return dict(conn.execute(_queries.needed_under, values).fetchall())


@dataclass(frozen=True)
class Selection:
    """Filter of ledger rows; without any field it selects all."""

    run_id: str | None = None
    model_id: str | None = None
    path: str | None = None
    location: str | None = None

    def as_dict(self) -> dict[str, str]:
        return {name: value for name, value in vars(self).items() if value is not None}


def select(
    conn: Connection,
    selection: Selection,
    *,
    history: bool = False,
    audit_id: int | None = None,
    sample: int | None = None,
) -> list[Entry]:
    """The selected rows; `audit_id` skips rows of that audit, `sample` takes the least checked."""
    values = {**vars(selection), "history": history, "audit_id": audit_id, "sample": sample}
    return [Entry.from_row(row) for row in conn.execute(_queries.select_entries, values)]
