"""The base of both repositories: the ledger, and downloads that are verified first."""

from __future__ import annotations

import posixpath
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from mlflow_timescale.artifacts import checks, ledger
from mlflow_timescale.artifacts.checks import Check
from mlflow_timescale.artifacts.databases import connection
from mlflow_timescale.artifacts.hashing import FileDigest
from mlflow_timescale.artifacts.locations import canonical, join, owner
from mlflow_timescale.artifacts.placing import make_stage, move_into
from mlflow_timescale.artifacts.refusals import ArtifactFrozen, ArtifactMismatch, ArtifactRefused
from mlflow_timescale.common import attribution, logs
from mlflow_timescale.common.text import printable
from mlflow_timescale.db import Connection
from mlflow_timescale.db.masking import without_secrets
from mlflow_timescale.db.uri import DatabaseURI

_logger = logs.logger(__name__)


class LedgeredRepository(ArtifactRepository):  # type: ignore[misc]
    """An artifact repository that records what is logged and checks what is downloaded."""

    def __init__(
        self,
        artifact_uri: str,
        database: DatabaseURI,
        tracking_uri: str | None = None,
        registry_uri: str | None = None,
    ) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self.database = database
        self.location = canonical(artifact_uri)

    def __repr__(self) -> str:
        uri = without_secrets(self.artifact_uri)
        return f"{type(self).__name__}({uri!r}, database={str(self.database)!r})"

    def connection(self) -> AbstractContextManager[Connection]:
        """A connection to the ledger's database, in a transaction."""
        return connection(self.database)

    def download_artifacts(self, artifact_path: str | None, dst_path: str | None = None) -> str:
        """Download a file or a directory; all bytes are verified before `dst_path` changes.

        Raises ArtifactMismatch, which names the file, the expected and the actual checksum; the
        downloaded files are then removed.
        """
        if dst_path is not None and not Path(dst_path).is_dir():
            return str(super().download_artifacts(artifact_path, dst_path))  # raises MLflow's error
        stage = make_stage(dst_path)
        try:
            arrived = Path(self._fetch(artifact_path, str(stage)))
            if dst_path is None:
                return str(arrived)
            move_into(stage, Path(dst_path).absolute())
            return str(Path(dst_path).absolute() / arrived.relative_to(stage))
        except MlflowException as exc:
            shutil.rmtree(stage, ignore_errors=True)
            if exc.error_code == "DATA_LOSS" and not isinstance(exc, ArtifactRefused):
                # MLflow collects the errors of all files into one MlflowException.
                raise ArtifactMismatch(exc.message) from exc
            raise
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise

    def _fetch(self, artifact_path: str | None, directory: str) -> str:
        """Download a file or a directory into an empty directory."""
        return str(super().download_artifacts(artifact_path, directory))

    def _accept(
        self,
        path: str,
        arrived: Path | None,
        found: FileDigest,
        expected: ledger.Entry | None = None,
    ) -> None:
        """Compare a downloaded file with the ledger; on a difference remove, record and raise."""
        if expected is not None and expected.fingerprint == found:
            return
        location = join(self.location, path)
        try:
            with self.connection() as conn:
                checks.compare(conn, location, found, expected)
        except ArtifactRefused as exc:
            if arrived:
                arrived.unlink(missing_ok=True)
            self._remember(location, found, exc)
            raise

    def _remember(self, location: str, found: FileDigest | None, exc: ArtifactRefused) -> None:
        outcome = "mismatch" if isinstance(exc, ArtifactMismatch) else "unknown"
        with self.connection() as conn:
            entry = ledger.current(conn, location).get(location)
            artifact_id = entry.artifact_id if entry else None
            check = Check(location, outcome, artifact_id, found=found)
            checks.remember(conn, [check], purpose="download")

    def _kept(self, conn: Connection, artifact_path: str | None) -> list[str]:
        """The files that stay when a path is deleted, because a registered version needs them.

        Raises ArtifactFrozen, unless all files of a run or a logged model are to go, as in
        `mlflow gc`: then the others go, and a warning names the version.
        """
        location = join(self.location, artifact_path)
        needed = ledger.needed(conn, location)
        if not needed or attribution.current().override:
            return []
        is_whole = not artifact_path or not owner(location)[2]
        if not is_whole:
            raise ArtifactFrozen.of(*next(iter(needed.items())), "deleted")
        versions = ", ".join(sorted(set(needed.values())))
        _logger.warning(
            "Kept %s files of %s: version %s needs them. When it is deleted, "
            "`mlflow-timescale artifacts prune` removes them.",
            len(needed),
            printable(location),
            versions,
        )
        return list(needed)

    def _record(self, files: Iterable[tuple[str, FileDigest]], origin: str = "logged") -> None:
        with self.connection() as conn:
            placed = [(join(self.location, path), fingerprint) for path, fingerprint in files]
            ledger.record(conn, placed, origin=origin)


def walk(repository: ArtifactRepository, path: str | None = None) -> Iterator[str]:
    """The paths of all files of a repository."""
    for item in repository.list_artifacts(path):
        if posixpath.normpath(item.path) in (".", path):  # some stores list a directory in itself
            continue
        if item.is_dir:
            yield from walk(repository, item.path)
        else:
            yield item.path
