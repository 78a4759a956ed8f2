"""Earlier versions of a file: the bytes that a run had under a path, with their periods.

The ledger has SHA-256, size and times of every version. The bytes of former versions are kept for
the paths that `mlflow-timescale history keep-path` names, in the in-database store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from mlflow_timescale.artifacts import contents
from mlflow_timescale.artifacts.databases import connection
from mlflow_timescale.artifacts.hashing import FileDigest, Hasher
from mlflow_timescale.artifacts.refusals import ArtifactMismatch
from mlflow_timescale.common import attribution
from mlflow_timescale.common.errors import InvalidName
from mlflow_timescale.common.output_files import replacing
from mlflow_timescale.common.time import require_zone
from mlflow_timescale.db import Connection, DatabaseURI, MigrationError, load
from mlflow_timescale.db.revisions import MIGRATE
from mlflow_timescale.db.rows import scalar, scalars

__all__ = [
    "Former",
    "Version",
    "artifact_at",
    "artifact_versions",
    "forget",
    "former",
    "keep",
    "kept",
    "read",
    "version_at",
    "versions",
    "write",
]

_queries = load("artifacts")


@dataclass(frozen=True)
class Version:
    """One version of a file.

    Attributes
    ----------
    location
        The URI under which it was logged.
    fingerprint
        Its SHA-256 and size in bytes.
    logged_at, ended_at
        The period (aware) in which the path had these bytes; `ended_at` is None for the present
        version.
    ended
        "replaced" or "deleted"; None for the present version.
    is_stored
        Whether the bytes are in the database, so that `read` can return them.
    """

    artifact_id: int
    location: str
    fingerprint: FileDigest
    logged_at: datetime
    ended_at: datetime | None
    ended: str | None
    db_user: str
    authenticated_user: str | None
    claimed_user: str | None
    content_id: int | None

    @property
    def is_stored(self) -> bool:
        return self.content_id is not None

    @property
    def by(self) -> str:
        """The user who logged it, for display; a name that is only claimed is marked."""
        return attribution.who(self.db_user, self.authenticated_user, self.claimed_user)

    def as_dict(self) -> dict[str, Any]:
        """The fields for JSON; times in ISO 8601."""
        return {
            "location": self.location,
            "checksum": self.fingerprint.sha256,
            "size_bytes": self.fingerprint.size,
            "logged_at": self.logged_at.isoformat(),
            "ended_at": self.ended_at.isoformat() if self.ended_at else None,
            "ended": self.ended,
            "is_stored": self.is_stored,
            "by": self.by,
        }


class Former(NamedTuple):
    """The number of former versions that are kept, and the bytes stored only for them."""

    versions: int
    size: int


def artifact_versions(uri: str | DatabaseURI, run_id: str, path: str) -> list[Version]:
    """Every version of a file of a run or logged model, the oldest first.

    Parameters
    ----------
    uri
        The database, as `mlflow.set_tracking_uri` takes it; not a tracking server's URL.
    run_id
        The id of the run or logged model, which may have been deleted since.
    path
        The path of the file among its artifacts, such as pred.pkl.

    Returns
    -------
    list of Version
        Empty if the ledger has no such file.

    Examples
    --------
    >>> import mlflow
    >>> mlflow.set_tracking_uri(uri)
    >>> with mlflow.start_run() as run:
    ...     mlflow.log_text("first", "pred.pkl")
    ...     mlflow.log_text("second", "pred.pkl")
    >>> [version.ended for version in artifact_versions(uri, run.info.run_id, "pred.pkl")]
    ['replaced', None]
    """
    with connection(DatabaseURI.parse(uri)) as conn:
        return versions(conn, run_id, path)


def artifact_at(uri: str | DatabaseURI, run_id: str, path: str, moment: datetime) -> bytes:
    """The bytes that a file of a run or logged model had at a moment.

    Parameters
    ----------
    uri, run_id, path
        See `artifact_versions`.
    moment
        Aware.

    Returns
    -------
    bytes

    Raises
    ------
    MlflowException
        The file did not exist at that moment, or its bytes were not kept.
    ArtifactMismatch
        The stored bytes differ from the logged ones.
    InvalidTime
        The moment has no time zone.

    Examples
    --------
    >>> import mlflow
    >>> from datetime import timezone
    >>> mlflow.set_tracking_uri(uri)
    >>> with mlflow.start_run() as run:
    ...     mlflow.log_text("first", "pred.pkl")
    ...     evening = datetime.now(timezone.utc)
    ...     mlflow.log_text("second", "pred.pkl")
    >>> artifact_at(uri, run.info.run_id, "pred.pkl", evening)
    b'first'
    """
    with connection(DatabaseURI.parse(uri)) as conn:
        version = version_at(versions(conn, run_id, path), moment)
        if version is None:
            raise _missing(path, run_id, moment)
        return read(conn, version)


def versions(conn: Connection, owner: str, path: str) -> list[Version]:
    """Every version of a file of a run or logged model, the oldest first."""
    rows = conn.execute(_queries.versions, {"owner": owner, "path": path}).fetchall()
    return [Version(row[0], row[1], FileDigest(row[2], row[3]), *row[4:]) for row in rows]


def version_at(history: Sequence[Version], moment: datetime) -> Version | None:
    """The version of a file that held at a moment; None if the file did not exist."""
    require_zone(moment, "moment")
    logged = [version for version in history if version.logged_at <= moment]
    last = max(logged, key=lambda version: version.logged_at, default=None)
    # Only a deletion ends a file: a new version starts a moment after the end of the replaced one.
    is_gone = (
        last is not None
        and last.ended == "deleted"
        and last.ended_at is not None
        and last.ended_at <= moment
    )
    return None if is_gone else last


def read(conn: Connection, version: Version) -> bytes:
    """The bytes of a version, checked. Raises as `artifact_at`."""
    content_id = _content(version)
    data = b"".join(chunk for _, _, chunk in contents.read(conn, [content_id]))
    _check(version, FileDigest.of(data))
    return data


def write(conn: Connection, version: Version, target: Path) -> None:
    """Write a version to a file, in chunks, checked before it takes its place."""
    content_id, hasher = _content(version), Hasher()
    with replacing(target) as draft:
        with draft.open("wb") as file:
            for _, _, chunk in contents.read(conn, [content_id]):
                hasher.update(chunk)
                file.write(chunk)
        _check(version, hasher.fingerprint)


def require_version(history: Sequence[Version], owner: str, path: str, moment: datetime) -> Version:
    """The version that held at a moment. Raises MlflowException if the file did not exist."""
    version = version_at(history, moment)
    if version is None:
        raise _missing(path, owner, moment)
    return version


def former(conn: Connection, before: datetime | None = None) -> Former:
    """The former versions that are kept; with `before`, only those that ended before it."""
    if not scalar(conn, _queries.has_former):
        return Former(0, 0)
    row = conn.execute(_queries.former, {"before": before}).fetchone()
    return Former(*row) if row else Former(0, 0)


def forget(conn: Connection, before: datetime) -> None:
    """Remove the bytes of versions that ended before a time; the ledger keeps its rows."""
    if scalar(conn, _queries.has_former):
        contents.release(conn, scalars(conn, _queries.forget_former, {"before": before}))


def kept(conn: Connection) -> list[tuple[str, datetime, datetime | None, str]]:
    """The patterns of paths whose former bytes are or were kept: begin, end and user of each."""
    _require(conn)
    return conn.execute(_queries.kept_paths).fetchall()


def keep(conn: Connection, pattern: str, *, keeps: bool = True) -> bool:
    """Start or stop keeping the former bytes of paths; False if nothing changed.

    Raises InvalidName for a pattern that no path of an artifact can match.
    """
    _require(conn)
    if keeps and (not pattern.strip() or pattern.startswith("/") or ".." in pattern.split("/")):
        raise InvalidName(
            f"no artifact has the path {pattern!r}: give the whole path below a run's artifacts, "
            "such as pred.pkl, or a pattern such as */pred.pkl"
        )
    return bool(scalar(conn, _queries.keep_path, {"pattern": pattern, "kept": keeps}))


def _require(conn: Connection) -> None:
    if not scalar(conn, _queries.has_former):
        raise MigrationError(
            f"this database keeps no former artifacts yet: its administrator runs `{MIGRATE}` once"
        )


def _content(version: Version) -> int:
    if version.content_id is None:
        raise MlflowException(
            f"the bytes of {version.location} that were logged at {version.logged_at.isoformat()} "
            f"(SHA-256 {version.fingerprint.sha256}) are not in the database: they are outside of "
            f"it, or were not kept; `mlflow-timescale history keep-path` keeps those of the future",
            RESOURCE_DOES_NOT_EXIST,
        )
    return version.content_id


def _check(version: Version, arrived: FileDigest) -> None:
    if arrived != version.fingerprint:
        raise ArtifactMismatch.of(version.location, version.fingerprint, arrived)


def _missing(path: str, owner: str, moment: datetime) -> MlflowException:
    return MlflowException(
        f"the ledger has no file {path} of {owner} at {moment.isoformat()}; `mlflow-timescale "
        f"artifacts history {owner} {path}` lists its versions",
        RESOURCE_DOES_NOT_EXIST,
    )
