"""The repository of `sha256+<scheme>:`: any repository of MLflow, with the ledger around it.

    sha256+s3://bucket/prefix        sha256+file:///data/artifacts

The wrapped repository stores the bytes, by its own code. Its optional abilities (streams, multipart
uploads, presigned URLs) are offered too: MLflow's server detects them by `isinstance`, so the class
is built from the mixins of the wrapped one.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterable, AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import (
    ArtifactRepository,
    MultipartDownloadMixin,
    MultipartUploadMixin,
    PresignedUploadMixin,
    StreamUploadMixin,
)
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from mlflow_timescale.artifacts import ledger, streams
from mlflow_timescale.artifacts.hashing import (
    BLOCK,
    FileDigest,
    Hasher,
    HashingReader,
    copy_hashed,
    hash_file,
    hashed_alongside,
)
from mlflow_timescale.artifacts.locations import canonical, inner_uri, join
from mlflow_timescale.artifacts.repository import LedgeredRepository, destination, tree
from mlflow_timescale.common import attribution
from mlflow_timescale.db.uri import DatabaseURI


class CheckedRepository(LedgeredRepository):
    """Delegates to a repository of MLflow; records what is logged and checks what is read."""

    def __init__(
        self,
        inner: ArtifactRepository,
        artifact_uri: str,
        database: DatabaseURI,
        tracking_uri: str | None = None,
        registry_uri: str | None = None,
    ) -> None:
        super().__init__(artifact_uri, database, tracking_uri, registry_uri)
        self.inner = inner
        self.location = canonical(inner_uri(artifact_uri))
        self._expected: dict[str, ledger.Entry] = {}

    def for_workspace(self, workspace: str) -> ArtifactRepository:
        """The repository of a workspace, if the wrapped one supports workspaces."""
        if not hasattr(self.inner, "for_workspace"):
            return self
        scoped = self.inner.for_workspace(workspace)
        return wrap(
            scoped, scoped.artifact_uri, self.database, self.tracking_uri, self.registry_uri
        )

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Log one file; its bytes are hashed during the upload."""
        path = destination(local_file, artifact_path)
        if isinstance(self.inner, StreamUploadMixin):
            with Path(local_file).open("rb") as stream:
                self._stream(stream, path, local_file, artifact_path)
            return
        with hashed_alongside([Path(local_file)]) as fingerprints:
            self.inner.log_artifact(local_file, artifact_path)
        self._record((path, future.result()) for future in fingerprints.values())

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Log a directory by the method of the wrapped repository."""
        files = tree(local_dir, artifact_path)
        with hashed_alongside(list(files.values())) as fingerprints:
            self.inner.log_artifacts(local_dir, artifact_path)
        self._record((path, fingerprints[file].result()) for path, file in files.items())

    def _stream(self, stream: Any, path: str, file_name: str, artifact_path: str | None) -> None:
        reader = HashingReader(stream)
        self.inner.log_artifact_from_stream(reader, file_name, artifact_path)
        self._record([(path, reader.fingerprint)])

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """The files that the wrapped repository lists."""
        return cast("list[FileInfo]", self.inner.list_artifacts(path))

    def _is_directory(self, artifact_path: str) -> bool:
        return bool(self.inner._is_directory(artifact_path))

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Remove a file or a directory; its ledger rows are closed, not deleted."""
        self.inner.delete_artifacts(artifact_path)
        with self.connection() as conn:
            ledger.forget(conn, join(self.location, artifact_path))

    def _fetch(self, artifact_path: str | None, directory: str) -> str:
        """Read the ledger rows of the directory in one query, then download as MLflow does."""
        with self.connection() as conn:
            expected = ledger.current(conn, join(self.location, artifact_path))
        self._expected.update(expected)
        try:
            return super()._fetch(artifact_path, directory)
        finally:
            for location in expected:
                self._expected.pop(location, None)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        path, target = str(remote_file_path), Path(local_path)
        arriving = target.with_name(f".{target.name}.unchecked")
        try:
            fingerprint = self._receive(path, arriving)
            expected = self._expected.get(join(self.location, path))
            self._accept(path, arriving, fingerprint, expected)
            arriving.replace(target)
        finally:
            arriving.unlink(missing_ok=True)

    def _receive(self, path: str, arriving: Path) -> FileDigest:
        if isinstance(self.inner, LocalArtifactRepository):
            return copy_hashed(self.inner.get_local_path(path), arriving)
        self.inner._download_file(path, str(arriving))
        return hash_file(arriving)

    def fingerprint(self, artifact_path: str) -> FileDigest:
        """What a stored file's bytes are now."""
        if isinstance(self.inner, LocalArtifactRepository):
            return hash_file(self.inner.get_local_path(artifact_path))
        with tempfile.TemporaryDirectory() as directory:
            target = Path(directory, "file")
            self.inner._download_file(artifact_path, str(target))
            return hash_file(target)


class _Streams(StreamUploadMixin):  # type: ignore[misc]
    """Streams that a server hands on without a temporary file."""

    def log_artifact_from_stream(
        self: Any, stream: BinaryIO, artifact_file_name: str, artifact_path: str | None = None
    ) -> None:
        path = destination(artifact_file_name, artifact_path)
        self._stream(stream, path, artifact_file_name, artifact_path)

    async def log_artifact_from_async_stream(
        self: Any,
        chunks: AsyncIterable[bytes],
        artifact_file_name: str,
        artifact_path: str | None = None,
    ) -> None:
        path, hasher = destination(artifact_file_name, artifact_path), Hasher()
        with attribution.uploading(chunks):
            await self.inner.log_artifact_from_async_stream(
                _hashed(chunks, hasher), artifact_file_name, artifact_path
            )
            await streams.in_thread(self._record, [(path, hasher.fingerprint)])


class _SpooledStreams(StreamUploadMixin):  # type: ignore[misc]
    """Streams into repositories that take files only: hashed on the way into a temporary one."""

    def log_artifact_from_stream(
        self: Any, stream: BinaryIO, artifact_file_name: str, artifact_path: str | None = None
    ) -> None:
        reader = HashingReader(stream)
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory, Path(artifact_file_name).name)
            with file.open("wb") as target:
                shutil.copyfileobj(reader, target, BLOCK)
            self.inner.log_artifact(str(file), artifact_path)
        self._record([(destination(artifact_file_name, artifact_path), reader.fingerprint)])

    async def log_artifact_from_async_stream(
        self: Any,
        chunks: AsyncIterable[bytes],
        artifact_file_name: str,
        artifact_path: str | None = None,
    ) -> None:
        path, hasher = destination(artifact_file_name, artifact_path), Hasher()
        with attribution.uploading(chunks), tempfile.TemporaryDirectory() as directory:
            file = Path(directory, Path(artifact_file_name).name)
            with file.open("wb") as target:
                await streams.receive(_hashed(chunks, hasher), target)
            await streams.in_thread(self.inner.log_artifact, str(file), artifact_path)
            await streams.in_thread(self._record, [(path, hasher.fingerprint)])


class _MultipartUploads(MultipartUploadMixin):  # type: ignore[misc]
    """Uploads from the client directly to the storage: read back and hashed when complete."""

    def create_multipart_upload(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.inner.create_multipart_upload(*args, **kwargs)

    def complete_multipart_upload(
        self: Any, local_file: str, upload_id: str, parts: Any, artifact_path: str | None = None
    ) -> None:
        self.inner.complete_multipart_upload(local_file, upload_id, parts, artifact_path)
        path = destination(local_file, artifact_path)
        self._record([(path, self.fingerprint(path))], origin="read back")

    def abort_multipart_upload(self: Any, *args: Any, **kwargs: Any) -> None:
        self.inner.abort_multipart_upload(*args, **kwargs)


class _PresignedDownloads(MultipartDownloadMixin):  # type: ignore[misc]
    """Downloads from the storage directly to the client: checked before the URL is issued."""

    def get_download_presigned_url(self: Any, artifact_path: str, expiration: int = 300) -> Any:
        self._accept(artifact_path, None, self.fingerprint(artifact_path))
        return self.inner.get_download_presigned_url(artifact_path, expiration)


class _PresignedUploads(PresignedUploadMixin):  # type: ignore[misc]
    """Uploads whose completion is not reported: the file is unknown until it is adopted."""

    def create_presigned_upload_url(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.inner.create_presigned_upload_url(*args, **kwargs)


_ABILITIES = {
    MultipartUploadMixin: _MultipartUploads,
    MultipartDownloadMixin: _PresignedDownloads,
    PresignedUploadMixin: _PresignedUploads,
}


@cache
def _class_for(inner: type[ArtifactRepository]) -> type[CheckedRepository]:
    """A CheckedRepository with the abilities of the wrapped class."""
    streams = _Streams if issubclass(inner, StreamUploadMixin) else _SpooledStreams
    abilities = [ours for theirs, ours in _ABILITIES.items() if issubclass(inner, theirs)]
    return type(CheckedRepository.__name__, (streams, *abilities, CheckedRepository), {})


def wrap(
    inner: ArtifactRepository,
    artifact_uri: str,
    database: DatabaseURI,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
) -> CheckedRepository:
    """Wrap a repository with the ledger."""
    make = cast("Any", _class_for)(type(inner))
    return cast(
        "CheckedRepository", make(inner, artifact_uri, database, tracking_uri, registry_uri)
    )


async def _hashed(chunks: AsyncIterable[bytes], hasher: Hasher) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        hasher.update(chunk)
        yield chunk
