"""Artifact repositories whose uploads wait in a spool while the database is away."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TypeVar, cast

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from mlflow_timescale.artifacts import spooled
from mlflow_timescale.artifacts.paths import destination, require_regular, tree
from mlflow_timescale.artifacts.refusals import refusals_of_the_spool
from mlflow_timescale.artifacts.repository import LedgeredRepository
from mlflow_timescale.artifacts.waiting import WaitingFiles
from mlflow_timescale.common import logs
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.spool import Away, Outbox
from mlflow_timescale.spool.outages import is_outage
from mlflow_timescale.spool.places import patience_of, spool_of
from mlflow_timescale.spool.senders import sender_of

T = TypeVar("T")
logger = logs.logger(__name__)


def with_spool(repository: LedgeredRepository) -> ArtifactRepository:
    """The repository itself, or one with the spool that its database's URI names."""
    outbox = _outbox(repository.database)
    return repository if outbox is None else SpoolingRepository(repository, outbox)


@cache
def _outbox(database: DatabaseURI) -> Outbox | None:
    spool = spool_of(database)
    if spool is None:
        return None
    return Outbox(spool, sender_of(database), is_outage=is_outage, what="artifacts")


class SpoolingRepository(ArtifactRepository):  # type: ignore[misc]
    """Delegates to a repository; its uploads go into the spool while the database is away."""

    def __init__(self, inner: LedgeredRepository, outbox: Outbox) -> None:
        super().__init__(inner.artifact_uri, inner.tracking_uri, inner.registry_uri)
        self.inner, self._outbox = inner, outbox
        self._seconds = patience_of(inner.database)

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Log a file, or keep a copy of it."""
        path = destination(local_file, artifact_path)
        require_regular(Path(local_file))
        self._write(
            partial(self.inner.log_artifact, local_file, artifact_path), {path: Path(local_file)}
        )

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Log a directory, or keep a copy of each file."""
        files = tree(local_dir, artifact_path)
        if files:
            self._write(partial(self.inner.log_artifacts, local_dir, artifact_path), files)

    def _write(self, now: Callable[[], None], files: dict[str, Path]) -> None:
        (path, file), *others = files.items()

        def keep_others() -> None:
            for other_path, other in others:
                self._outbox.append(spooled.to_record(self.artifact_uri, other_path, other))

        with refusals_of_the_spool():
            self._outbox.write_long(
                now,
                lambda: spooled.to_record(self.artifact_uri, path, file),
                keep_others,
                probe=self._probe,
                seconds=self._seconds,
            )

    def _probe(self) -> None:
        with self.inner.connection():
            pass

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """The files that are stored, and those that wait.

        Raises MlflowException if the database is away, unless the run waits too.
        """
        # What waits is read first: a file that is sent in between is in both.
        waiting = self._waiting()
        stored = [] if waiting.is_new else self._read(partial(self.inner.list_artifacts, path))
        return waiting.listed(path, stored) if waiting.files else stored

    def download_artifacts(self, artifact_path: str | None, dst_path: str | None = None) -> str:
        """Download what is stored, and copy what waits."""
        waiting = self._waiting()
        files = waiting.below(artifact_path)
        if not files or (dst_path is not None and not Path(dst_path).is_dir()):
            try:
                self._read(self._probe)
            except MlflowException as exc:
                # MLflow replaces it by "please ensure that the path is correct".
                logger.warning("%s", exc.message)
                raise
            return self.inner.download_artifacts(artifact_path, dst_path)
        folder = Path(dst_path or tempfile.mkdtemp())
        is_file = (artifact_path or "") in files
        if not (is_file or waiting.is_new) and self._read(
            partial(self.inner.list_artifacts, artifact_path)
        ):
            self.inner.download_artifacts(artifact_path, str(folder))
        return waiting.copy(artifact_path, folder)

    def _waiting(self) -> WaitingFiles:
        return WaitingFiles.of(self._outbox.spool, self.artifact_uri)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        self.inner._download_file(remote_file_path, local_path)

    def _is_directory(self, artifact_path: str) -> bool:
        return bool(self._read(partial(self.inner._is_directory, artifact_path)))

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete what is stored."""
        self._read(partial(self.inner.delete_artifacts, artifact_path))

    def for_workspace(self, workspace: str) -> ArtifactRepository:
        """The repository of a workspace, if the wrapped one supports workspaces."""
        if not hasattr(self.inner, "for_workspace"):
            return self
        return SpoolingRepository(
            cast("LedgeredRepository", self.inner.for_workspace(workspace)), self._outbox
        )

    def _read(self, now: Callable[[], T]) -> T:
        with _named():
            return self._outbox.read(now, seconds=self._seconds)


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except Away as exc:
        raise MlflowException(
            f"{exc}, and the artifacts of a run that began before cannot be listed or read; only "
            f"uploads can wait in the spool",
            TEMPORARILY_UNAVAILABLE,
        ) from exc
