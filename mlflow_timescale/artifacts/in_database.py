"""The repository of `timescaledb-artifacts:`: artifacts in the database that holds the runs.

The URI consists of a path only. The database is that of the tracking URI, so a stored URI can
neither refer to another database nor contain a password.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import AsyncIterable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST
from mlflow.store.artifact.artifact_repo import StreamUploadMixin
from mlflow.utils.uri import validate_path_within_directory

from mlflow_timescale.artifacts import contents, ledger, streams
from mlflow_timescale.artifacts.hashing import BackgroundHasher, FileDigest, Hasher
from mlflow_timescale.artifacts.locations import IN_DATABASE, join
from mlflow_timescale.artifacts.paths import (
    destination,
    open_regular,
    require_storable,
    require_text,
    require_tree,
    tree,
)
from mlflow_timescale.artifacts.refusals import ArtifactMismatch
from mlflow_timescale.artifacts.repository import LedgeredRepository
from mlflow_timescale.common import attribution
from mlflow_timescale.db import Connection, load
from mlflow_timescale.db.uri import DatabaseURI

_queries = load("artifacts")
_SCHEME = f"{IN_DATABASE}:/"


@dataclass(frozen=True)
class Stored:
    """One file of the store: its path, its content, and its ledger row."""

    path: str
    content_id: int
    size: int
    chunk_size: int
    chunk_sha256: list[bytes]
    stored_checksum: str
    artifact_id: int | None
    checksum: str | None


class InDatabaseRepository(LedgeredRepository, StreamUploadMixin):  # type: ignore[misc]
    """Artifacts as rows: content-addressed, transactional, streamed in bounded memory."""

    def __init__(
        self,
        artifact_uri: str,
        database: DatabaseURI,
        tracking_uri: str | None = None,
        registry_uri: str | None = None,
    ) -> None:
        super().__init__(artifact_uri, database, tracking_uri, registry_uri)
        self.root = _root(self.location, artifact_uri)

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Store one file."""
        self._store([(destination(local_file, artifact_path), Path(local_file))])

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Store a directory, in one transaction."""
        self._store(tree(local_dir, artifact_path).items())

    def log_artifact_from_stream(
        self, stream: BinaryIO, artifact_file_name: str, artifact_path: str | None = None
    ) -> None:
        """Store what a stream yields."""
        self._store([(destination(artifact_file_name, artifact_path), stream)])

    async def log_artifact_from_async_stream(
        self,
        chunks: AsyncIterable[bytes],
        artifact_file_name: str,
        artifact_path: str | None = None,
    ) -> None:
        """Store what an asynchronous stream yields."""
        path = destination(artifact_file_name, artifact_path)
        with attribution.uploading(chunks):
            await streams.store(chunks, lambda stream: self._store([(path, stream)]))

    def _store(self, files: Iterable[tuple[str, Path | BinaryIO]]) -> None:
        with self.connection() as conn:
            writer = contents.Writer(conn)
            for path, source in files:
                require_storable(join_path(self.root, path))
                if isinstance(source, Path):
                    with open_regular(source) as stream:
                        writer.add(join_path(self.root, path), stream)
                else:
                    writer.add(join_path(self.root, path), source)
            writer.finish()

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """The entries of a directory; empty for a file, as in every repository of MLflow."""
        directory = join_path(self.root, path or "")
        prefix = directory + "/" if directory else ""
        with self.connection() as conn:
            rows = conn.execute(_queries.directory, {"prefix": prefix}).fetchall()
        base = (path or "").strip("/")
        return [
            FileInfo(posixpath.join(base, name), is_directory, None if is_directory else size)
            for name, is_directory, size in rows
        ]

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Remove a file or a directory; contents without other references are deleted.

        What a registered version needs stays, as `_kept` describes.
        """
        path = join_path(self.root, artifact_path or "")
        with self.connection() as conn:
            kept = self._kept(conn, artifact_path)
            kept = [place.removeprefix(_SCHEME) for place in kept]
            contents.release(conn, ledger.remove_files(conn, path, kept))
        if not artifact_path:
            # Two deleters of one content leave it to each other where they hold it at once.
            with self.connection() as conn:
                contents.sweep(conn)

    def read(self, artifact_path: str, start: int = 0, length: int | None = None) -> bytes:
        """A range of a file, `start` and `length` in bytes; only the chunks of the range are read.

        Raises ArtifactMismatch if a chunk differs from its SHA-256.
        """
        with self.connection() as conn:
            conn.execute(_queries.snapshot)
            stored = self._one(conn, artifact_path)
            end = stored.size if length is None else min(start + length, stored.size)
            if start < 0 or end <= start:
                return b""
            first, last = start // stored.chunk_size, (end - 1) // stored.chunk_size
            rows = list(contents.read(conn, [stored.content_id], first, last))
        for number, digest in enumerate(stored.chunk_sha256[first : last + 1]):
            data = rows[number][2] if number < len(rows) else b""
            if hashlib.sha256(data).digest() != digest:
                expected, actual = FileDigest(digest.hex(), len(data)), FileDigest.of(data)
                where = f"{join(self.location, artifact_path)} (chunk {first + number})"
                raise ArtifactMismatch.of(where, expected, actual)
        data = b"".join(data for _, _, data in rows)
        return data[start - first * stored.chunk_size : end - first * stored.chunk_size]

    def fingerprint(self, artifact_path: str) -> FileDigest:
        """Read a file and hash it, without storing it."""
        hasher = Hasher()
        with self.connection() as conn:
            conn.execute(_queries.snapshot)
            stored = self._one(conn, artifact_path)
            for _, _, data in contents.read(conn, [stored.content_id]):
                hasher.update(data)
        return hasher.fingerprint

    def _one(self, conn: Connection, artifact_path: str) -> Stored:
        path = join_path(self.root, artifact_path)
        files = [file for file in _manifest(conn, path) if file.path == path]
        if not files:
            raise _missing(artifact_path)
        return files[0]

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        with self.connection() as conn:
            conn.execute(_queries.snapshot)
            stored = self._one(conn, str(remote_file_path))
            fingerprints = _receive(conn, [(stored, Path(local_path))])
        self._check_all([(stored, Path(local_path))], fingerprints)

    def _fetch(self, artifact_path: str | None, directory: str) -> str:
        """Download a directory in one stream; MLflow's own code needs one query for each file."""
        path = join_path(self.root, artifact_path or "")
        with self.connection() as conn:
            conn.execute(_queries.snapshot)
            manifest = _manifest(conn, path)
            manifest = [file for file in manifest if file.path == path] or manifest
            if artifact_path and not manifest:
                raise _missing(artifact_path)
            require_tree(file.path for file in manifest)
            placed = [(file, self._place(file, directory)) for file in manifest]
            fingerprints = _receive(conn, placed)
        self._check_all(placed, fingerprints)
        return str(Path(directory, artifact_path or ""))

    def _relative(self, file: Stored) -> str:
        return file.path[len(self.root) :].lstrip("/")

    def _place(self, file: Stored, directory: str) -> Path:
        target = Path(directory, self._relative(file))
        validate_path_within_directory(directory, str(target))
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _check_all(
        self, placed: list[tuple[Stored, Path]], fingerprints: dict[int, FileDigest]
    ) -> None:
        """Compare downloaded files with the ledger rows of the same snapshot."""
        for file, arrived in placed:
            fingerprint = fingerprints[file.content_id]
            if fingerprint.sha256 != file.checksum:
                self._accept(self._relative(file), arrived, fingerprint)


def _receive(conn: Connection, placed: list[tuple[Stored, Path]]) -> dict[int, FileDigest]:
    """Write contents to files as they stream in; return their fingerprints."""
    targets: dict[int, list[Path]] = {}
    for stored, path in placed:
        targets.setdefault(stored.content_id, []).append(path)
        path.touch()
    with BackgroundHasher(Hasher) as hasher, ExitStack() as stack:
        current = -1
        files: list[FileIO] = []
        for content_id, _, data in contents.read(conn, targets):
            if content_id != current:
                stack.close()
                current = content_id
                files = [stack.enter_context(FileIO(path, "wb")) for path in targets[current]]
            for file in files:
                file.write(data)
            hasher.update(current, data)
    return {content_id: hasher.of(content_id).fingerprint for content_id in targets}


def _manifest(conn: Connection, path: str) -> list[Stored]:
    rows = conn.execute(_queries.manifest, {"path": path, "scheme": _SCHEME})
    return [Stored(*row) for row in rows]


def _root(location: str, uri: str) -> str:
    if location.startswith(f"{IN_DATABASE}://") or "?" in uri or "#" in uri:
        raise MlflowException(
            f"{IN_DATABASE}: URIs consist of a path only ({_SCHEME}path), because artifacts are "
            f"always stored in the database of the tracking URI; got {location}",
            INVALID_PARAMETER_VALUE,
        )
    return join_path("", location.removeprefix(_SCHEME[:-1]))


def join_path(root: str, path: str) -> str:
    """A key of the store: relative, without empty or dotted segments."""
    segments = [segment for segment in f"{root}/{path}".split("/") if segment not in ("", ".")]
    if ".." in segments:
        raise MlflowException(f"invalid artifact path: {path!r}", INVALID_PARAMETER_VALUE)
    require_text(path)
    return "/".join(segments)


def _missing(path: str | os.PathLike[str]) -> MlflowException:
    return MlflowException(f"No such artifact: '{path}'", RESOURCE_DOES_NOT_EXIST)
