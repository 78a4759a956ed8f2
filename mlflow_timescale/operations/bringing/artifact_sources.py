"""The files of a run or logged model in a source: a cheap listing, and their bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_timescale import db
from mlflow_timescale.artifacts import ledger
from mlflow_timescale.artifacts.hashing import FileDigest, hash_file
from mlflow_timescale.artifacts.paths import tree
from mlflow_timescale.artifacts.repository import LedgeredRepository
from mlflow_timescale.artifacts.spooling import SpoolingRepository
from mlflow_timescale.operations.bringing.kinds import hash_of


@dataclass(frozen=True)
class SourceFiles:
    """The files at a location of the source.

    Attributes
    ----------
    stamps
        By path, a text that changes with the file: its size in bytes, and its SHA-256 if the source
        has a ledger, or the time of change of a local file.
    folder
        The directory of local files.
    repository
        Downloads files that are not local.
    digests
        The checksums of files in a ledger.
    """

    stamps: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    repository: ArtifactRepository | None = None
    digests: dict[str, FileDigest] = field(default_factory=dict)

    @property
    def mark(self) -> str:
        """A hash of all paths and stamps."""
        lines = (f"{path}|{stamp}" for path, stamp in sorted(self.stamps.items()))
        return hash_of("\n".join(lines))

    def size(self, path: str) -> int:
        """The size of a file in bytes.

        >>> SourceFiles({"a.txt": "35-1700000000000000000"}).size("a.txt")
        35
        """
        return int(self.stamps[path].partition("-")[0])

    def is_same(self, path: str, entry: ledger.Entry | None) -> bool:
        """Whether a file equals an entry of a ledger; by size if the source has no checksum."""
        if entry is None:
            return False
        if self.folder is not None:
            return entry.fingerprint == hash_file(self.folder / path)
        if digest := self.digests.get(path):
            return entry.fingerprint == digest
        return entry.fingerprint.size == self.size(path)

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """A local file with the bytes and the name of a path."""
        if self.folder is not None:
            yield self.folder / path
            return
        assert self.repository is not None  # nosec B101  # for mypy
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(self.repository.download_artifacts(path, scratch))


def files_at(location: str, tracking_uri: str | None) -> SourceFiles:
    """List the files at a location of a source; a missing folder has none.

    Raises Error for a location behind a tracking server, and exceptions of the repository.

    Parameters
    ----------
    location
        The artifact location of a run or logged model.
    tracking_uri
        The database of the source, to which `timescaledb-artifacts:` locations belong.
    """
    parts = urlsplit(location)
    if parts.scheme in ("", "file"):
        folder = Path(unquote(parts.path) if parts.scheme else location)
        return _in_folder(folder) if folder.is_dir() else SourceFiles()
    if parts.scheme == "mlflow-artifacts":
        raise db.Error(f"{location} is behind a tracking server: copy it from where the server is")
    repository = unspooled(get_artifact_repository(location, tracking_uri=tracking_uri))
    if isinstance(repository, LedgeredRepository):
        return _in_ledger(repository)
    sizes = dict(_listed(repository, None))
    stamps = {path: str(size) for path, size in sizes.items()}
    return SourceFiles(stamps, repository=repository)


def unspooled(repository: ArtifactRepository) -> ArtifactRepository:
    """The repository without its spool, so that copies do not wait on the disk."""
    return repository.inner if isinstance(repository, SpoolingRepository) else repository


def _in_folder(folder: Path) -> SourceFiles:
    stamps = {}
    for path, file in tree(folder, None).items():
        status = file.stat()
        stamps[path] = f"{status.st_size}-{status.st_mtime_ns}"
    return SourceFiles(stamps, folder=folder)


def _in_ledger(repository: LedgeredRepository) -> SourceFiles:
    with repository.connection() as conn:
        entries = ledger.current(conn, repository.location)
    root = f"{repository.location}/"
    digests = {place.removeprefix(root): entry.fingerprint for place, entry in entries.items()}
    stamps = {path: f"{digest.size}-{digest.sha256}" for path, digest in digests.items()}
    return SourceFiles(stamps, repository=repository, digests=digests)


def _listed(repository: ArtifactRepository, folder: str | None) -> Iterator[tuple[str, int]]:
    """The paths and sizes in bytes of all files of a repository."""
    for item in repository.list_artifacts(folder):
        if item.path in (".", folder):  # some stores list a directory in itself
            continue
        if item.is_dir:
            yield from _listed(repository, item.path)
        else:
            yield item.path, item.file_size or 0
