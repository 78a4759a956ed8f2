"""The repository of `mlflow-artifacts:`, whose files a tracking server keeps.

With a server as the tracking URI it is MLflow's own, and refuses names that would arrive changed.
With the database as the tracking URI (`mlflow gc`, a job of the server, a notebook on the same
database) it leads to the place where the server puts the files: MLflow's raises an error there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_STATE
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

from mlflow_timescale.artifacts.databases import connection
from mlflow_timescale.artifacts.locations import IN_DATABASE, canonical, inner_uri, join, owner
from mlflow_timescale.artifacts.paths import destination, refused, tree
from mlflow_timescale.common import logs
from mlflow_timescale.common.text import printable
from mlflow_timescale.db import Connection, load
from mlflow_timescale.db.uri import DatabaseURI

T = TypeVar("T")
DESTINATIONS = ("_MLFLOW_SERVER_ARTIFACT_DESTINATION", "MLFLOW_ARTIFACTS_DESTINATION")
_queries = load("artifacts")
_logger = logs.logger(__name__)
# MLflow's client sends a path without quoting it, and its server decodes it until nothing changes.
_CHANGED_ON_THE_WAY = re.compile(r"[#?\x00-\x1f\x7f]|%[0-9a-fA-F]{2}")


class ProxiedRepository(MlflowArtifactsRepository):  # type: ignore[misc]
    """MLflow's client of a server's artifacts, which refuses names that would arrive changed."""

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Send a file. Raises MlflowException for a name that the server would store differently.

        MLflow stores `a#b` as `a`, and `a%41` as `aA`.
        """
        _require_unchanged(destination(local_file, artifact_path))
        super().log_artifact(local_file, artifact_path)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Send a directory, if every name in it arrives as it is."""
        for path in tree(local_dir, artifact_path):
            _require_unchanged(path)
        super().log_artifacts(local_dir, artifact_path)


def _require_unchanged(path: str) -> None:
    if match := _CHANGED_ON_THE_WAY.search(path):
        raise refused(
            path,
            f"contains {match[0]!r}, which MLflow's proxy does not transfer; rename the file, or "
            f"log it with the database as the tracking URI",
        )


class BehindProxy(ArtifactRepository):  # type: ignore[misc]
    """The places where a server keeps the files of an `mlflow-artifacts:` URI."""

    def __init__(self, artifact_uri: str, repositories: list[ArtifactRepository]) -> None:
        super().__init__(artifact_uri)
        self.repositories = repositories

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Log a file where the others are."""
        self._first(lambda repository: repository.log_artifact(local_file, artifact_path))

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Log a directory where the other files are."""
        self._first(lambda repository: repository.log_artifacts(local_dir, artifact_path))

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """The files of all places."""
        return [item for place in self.repositories for item in place.list_artifacts(path)]

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> str:
        """Download from the first place."""
        return self._first(lambda place: str(place.download_artifacts(artifact_path, dst_path)))

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        self._first(lambda place: place._download_file(remote_file_path, local_path))

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete in all places; a warning if none is known, since `mlflow gc` must go on."""
        for repository in self.repositories:
            repository.delete_artifacts(artifact_path)
        if not self.repositories:
            _logger.warning("No file of %s was deleted: %s", printable(self.artifact_uri), _UNKNOWN)

    def _first(self, call: Callable[[Any], T]) -> T:
        if self.repositories:
            return call(self.repositories[0])
        raise MlflowException(f"cannot reach {self.artifact_uri}: {_UNKNOWN}", INVALID_STATE)


_UNKNOWN = (
    "the ledger has none. If the server keeps files elsewhere, set MLFLOW_ARTIFACTS_DESTINATION to "
    "its --artifacts-destination, or use the server as the tracking URI"
)


def behind_proxy(
    artifact_uri: str,
    database: DatabaseURI,
    open_place: Callable[[str, DatabaseURI], ArtifactRepository],
) -> BehindProxy:
    """The repository of an `mlflow-artifacts:` URI for a client of the database."""
    with connection(database) as conn:
        found = places(conn, artifact_uri)
    return BehindProxy(artifact_uri, [open_place(place, database) for place in found])


def places(conn: Connection, artifact_uri: str) -> list[str]:
    """The canonical locations to which a server put the files of an `mlflow-artifacts:` URI."""
    path = "/" + urlsplit(artifact_uri).path.strip("/")
    run_id, model_id, _ = owner(path)
    values = {"path": path, "run_id": run_id, "model_id": model_id}
    found = {row[0] for row in conn.execute(_queries.places_behind_proxy, values)}
    roots = {os.environ[name] for name in DESTINATIONS if os.environ.get(name)}
    likely = [join(canonical(inner_uri(root)), path) for root in {f"{IN_DATABASE}:/", *roots}]
    recorded = conn.execute(_queries.recorded, {"places": likely})
    return sorted(found | {row[0] for row in recorded})
