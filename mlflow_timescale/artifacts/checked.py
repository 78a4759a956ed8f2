"""The repository of `sha256+<scheme>:`: any repository of MLflow, with the ledger around it.

    sha256+s3://bucket/prefix        sha256+file:///data/artifacts

The wrapped repository stores the bytes, by its own code. Its optional abilities (streams, multipart
uploads, presigned URLs) are offered too: MLflow's server detects them by `isinstance`, so the class
is built from the mixins of the wrapped one.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.artifact.artifact_repo import (
    ArtifactRepository,
    MultipartDownloadMixin,
    MultipartUploadMixin,
    PresignedUploadMixin,
    StreamUploadMixin,
)
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.utils.uri import validate_path_within_directory

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
from mlflow_timescale.artifacts.paths import (
    destination,
    require_regular,
    require_text,
    require_tree,
    tree,
)
from mlflow_timescale.artifacts.refusals import ArtifactFrozen
from mlflow_timescale.artifacts.repository import LedgeredRepository, walk
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
        require_regular(Path(local_file))
        self._admit({path: Path(local_file)})
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
        self._admit(files)
        with hashed_alongside(list(files.values())) as fingerprints:
            self.inner.log_artifacts(local_dir, artifact_path)
            for path, file in _behind_links(local_dir, files):
                self.inner.log_artifact(str(file), posixpath.dirname(path) or None)
        self._record((path, fingerprints[file].result()) for path, file in files.items())

    def _admit(self, files: Mapping[str, Path | None]) -> None:
        """Refuse files before their upload, since the wrapped store takes any.

        Raises MlflowException for a path that is a file on one side and a directory on the other,
        and for other bytes where a registered version is (None: bytes that are not here yet).
        """
        require_tree(files)
        by_location = {join(self.location, path): file for path, file in files.items()}
        with self.connection() as conn:
            ledger.require_no_clash(conn, sorted(by_location))
            frozen = ledger.frozen(conn, by_location)
        for location, entry in frozen.items():
            file = by_location[location]
            if file is None or hash_file(file).sha256 != entry.sha256:
                raise ArtifactFrozen.of(location, entry.version, "logged with other bytes")

    def _is_frozen(self, path: str) -> bool:
        with self.connection() as conn:
            return bool(ledger.frozen(conn, [join(self.location, path)]))

    def _stream(self, stream: Any, path: str, file_name: str, artifact_path: str | None) -> None:
        reader = HashingReader(stream)
        self.inner.log_artifact_from_stream(reader, file_name, artifact_path)
        self._record([(path, reader.fingerprint)])

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """The files that the wrapped repository lists."""
        require_text(path or "")
        return cast("list[FileInfo]", self.inner.list_artifacts(path))

    def _is_directory(self, artifact_path: str) -> bool:
        return bool(self.inner._is_directory(artifact_path))

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Remove a file or a directory; its ledger rows are closed, not deleted.

        What a registered version needs stays, as `_kept` describes.
        """
        require_text(artifact_path or "")
        with self.connection() as conn:
            kept = self._kept(conn, artifact_path)
        if kept:
            for path in walk(self, artifact_path):
                if join(self.location, path) not in kept:
                    self._delete(path)
        else:
            self._delete(artifact_path or "")
        with self.connection() as conn:
            ledger.forget(conn, join(self.location, artifact_path), kept)

    def _delete(self, path: str) -> None:
        if not isinstance(self.inner, LocalArtifactRepository):
            self.inner.delete_artifacts(path or None)
        elif (file := Path(self.inner.artifact_dir, path)) and os.path.lexists(file):
            _remove(_local(self.inner, path))

    def _fetch(self, artifact_path: str | None, directory: str) -> str:
        """Read the ledger rows of the directory in one query, then download as MLflow does."""
        require_text(artifact_path or "")
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
        # A name of its own: one derived from the file's could be longer than a disk takes.
        arriving = target.with_name(f".unchecked-{uuid.uuid4().hex}")
        try:
            fingerprint = self._receive(path, arriving)
            expected = self._expected.get(join(self.location, path))
            self._accept(path, arriving, fingerprint, expected)
            arriving.replace(target)
        finally:
            arriving.unlink(missing_ok=True)

    def _receive(self, path: str, arriving: Path) -> FileDigest:
        if isinstance(self.inner, LocalArtifactRepository):
            return copy_hashed(_local(self.inner, path), arriving)
        self.inner._download_file(path, str(arriving))
        return hash_file(arriving)

    def fingerprint(self, artifact_path: str) -> FileDigest:
        """What a stored file's bytes are now."""
        if isinstance(self.inner, LocalArtifactRepository):
            return hash_file(_local(self.inner, artifact_path))
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
        if self._is_frozen(path):
            _log_spooled(self, stream, artifact_file_name, artifact_path)
            return
        self._admit({path: None})
        self._stream(stream, path, artifact_file_name, artifact_path)

    async def log_artifact_from_async_stream(
        self: Any,
        chunks: AsyncIterable[bytes],
        artifact_file_name: str,
        artifact_path: str | None = None,
    ) -> None:
        path, hasher = destination(artifact_file_name, artifact_path), Hasher()
        with attribution.uploading(chunks):
            if await streams.in_thread(self._is_frozen, path):
                store = partial(
                    _log_spooled,
                    self,
                    artifact_file_name=artifact_file_name,
                    artifact_path=artifact_path,
                )
                await streams.store(chunks, store)
                return
            await streams.in_thread(self._admit, {path: None})
            await self.inner.log_artifact_from_async_stream(
                _hashed(chunks, hasher), artifact_file_name, artifact_path
            )
            await streams.in_thread(self._record, [(path, hasher.fingerprint)])


class _SpooledStreams(StreamUploadMixin):  # type: ignore[misc]
    """Streams into repositories that take files only: by way of a temporary one."""

    def log_artifact_from_stream(
        self: Any, stream: BinaryIO, artifact_file_name: str, artifact_path: str | None = None
    ) -> None:
        _log_spooled(self, stream, artifact_file_name, artifact_path)

    async def log_artifact_from_async_stream(
        self: Any,
        chunks: AsyncIterable[bytes],
        artifact_file_name: str,
        artifact_path: str | None = None,
    ) -> None:
        destination(artifact_file_name, artifact_path)
        with attribution.uploading(chunks), tempfile.TemporaryDirectory() as directory:
            file = Path(directory, Path(artifact_file_name).name)
            with file.open("wb") as target:
                await streams.receive(chunks, target)
            await streams.in_thread(self.log_artifact, str(file), artifact_path)


class _MultipartUploads(MultipartUploadMixin):  # type: ignore[misc]
    """Uploads from the client directly to the storage: read back and hashed when complete."""

    def create_multipart_upload(
        self: Any, local_file: str, num_parts: int = 1, artifact_path: str | None = None
    ) -> Any:
        self._admit({destination(local_file, artifact_path): None})
        return self.inner.create_multipart_upload(local_file, num_parts, artifact_path)

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


def _log_spooled(
    repository: CheckedRepository,
    stream: BinaryIO,
    artifact_file_name: str,
    artifact_path: str | None,
) -> None:
    """Log a stream as a file, so that its bytes are known before the wrapped store gets them."""
    destination(artifact_file_name, artifact_path)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, Path(artifact_file_name).name)
        with file.open("wb") as target:
            shutil.copyfileobj(stream, target, BLOCK)
        repository.log_artifact(str(file), artifact_path)


def _local(repository: LocalArtifactRepository, path: str) -> Path:
    """The local file of a path, taken literally: MLflow decodes `%41` and refuses `#`."""
    file = Path(repository.artifact_dir, path).absolute()
    validate_path_within_directory(str(repository.artifact_dir), str(file))
    if not os.path.lexists(file):
        raise MlflowException(f"No such artifact: '{path}'", RESOURCE_DOES_NOT_EXIST)
    return file


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _behind_links(local_dir: str, files: dict[str, Path]) -> list[tuple[str, Path]]:
    """The files that MLflow's repositories of remote stores do not upload: they follow no links."""
    walked = {Path(where, name) for where, _, names in os.walk(local_dir) for name in names}
    return [(path, file) for path, file in files.items() if file not in walked]


async def _hashed(chunks: AsyncIterable[bytes], hasher: Hasher) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        hasher.update(chunk)
        yield chunk
