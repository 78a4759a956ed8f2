"""The repository of `runs:`: as in MLflow, but refusals are raised, and every name is reached.

MLflow 3.17's `RunsArtifactRepository.download_artifacts` swallows every error ("please ensure that
the path is correct"), and for a run with files and a model it returns one without the other. A file
that differs from the ledger must be named. And `mlflow.artifacts.download_artifacts(run_id=...,
artifact_path=...)` composes a URI and parses it, which takes `#` and `?` for a fragment and a
query, and drops tabs and line ends. Remove this module when MLflow raises errors and quotes names.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST
from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository
from mlflow.utils.file_utils import create_tmp_dir

from mlflow_timescale.artifacts.refusals import ArtifactRefused
from mlflow_timescale.common import logs

T = TypeVar("T")
_logger = logs.logger(__name__)
# What a URI does not keep of a name: tabs, line ends, an empty query or fragment.
_LOST = re.compile(r"[\t\r\n]|\?(?=#)|[?#]+\Z")


class RunsRepository(RunsArtifactRepository):  # type: ignore[misc]
    """The artifacts of a run and of its models, as in MLflow; refusals are raised."""

    def __init__(
        self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
    ) -> None:
        parts = urlsplit(artifact_uri)
        # MLflow splits "runs:/ID/a#b/c" into "runs:/ID#b/c" and "a".
        self._rest = urlunsplit(("", "", "", parts.query, parts.fragment))
        plain = parts._replace(query="", fragment="").geturl()
        super().__init__(plain, tracking_uri, registry_uri)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """The artifacts of the run, and of its model of that name."""
        return cast("list[FileInfo]", super().list_artifacts((path or "") + self._rest or None))

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> str:
        """Download from the run and from its model of that name. Raises ArtifactRefused."""
        target = dst_path or create_tmp_dir()
        path = (artifact_path or "") + self._rest
        try:
            arrived = self._from_run_and_model(path, target) or self._behind_uri(path, target)
        except Exception:
            if dst_path is None:
                shutil.rmtree(target, ignore_errors=True)
            raise
        if not arrived:
            raise MlflowException(
                f"Failed to download artifacts from path {path!r}, "
                "please ensure that the path is correct.",
                error_code=RESOURCE_DOES_NOT_EXIST,
            )
        return arrived[0]

    def _from_run_and_model(self, path: str, target: str) -> list[str]:
        sources = (
            partial(self.repo.download_artifacts, path, target),
            partial(self._download_model_artifacts, path, dst_path=target),
        )
        return [arrived for arrived in map(_attempt, sources) if arrived]

    def _download_model_artifacts(self, artifact_path: str, dst_path: str) -> str | None:
        # MLflow's own parses a URI here too.
        run_id, directory = RunsArtifactRepository.parse_runs_uri(self.artifact_uri)
        path = posixpath.join(directory or "", artifact_path).rstrip("/")
        name, _, below = path.partition("/")
        repository = self._get_logged_model_artifact_repo(run_id, name) if name else None
        if repository is None:
            return None
        target = Path(dst_path, name)
        target.mkdir(parents=True, exist_ok=True)
        return str(repository.download_artifacts(below, str(target)))

    def _behind_uri(self, path: str, target: str) -> list[str]:
        """Download what a URI made `path` of: a name that has what URIs do not keep.

        Raises MlflowException if several names come into question.
        """
        run_id, directory = RunsArtifactRepository.parse_runs_uri(self.artifact_uri)
        run = RunsRepository(f"runs:/{run_id}", self.tracking_uri, self.registry_uri)
        path = posixpath.join(directory or "", path)
        names = run._names_like(path)
        if len(names) > 1:
            raise MlflowException(
                f"{path!r} could be any of {sorted(names)}: a URI does not keep tabs, line ends or "
                f"a last # or ?; MlflowClient.download_artifacts takes the name as it is",
                INVALID_PARAMETER_VALUE,
            )
        return run._from_run_and_model(names[0], target) if names else []

    def _names_like(self, path: str) -> list[str]:
        names = [""]
        for segment in path.split("/"):
            listed = [_attempt(partial(self.repo.list_artifacts, name or None)) for name in names]
            names = [
                item.path
                for items in listed
                for item in items or ()
                if _kept(posixpath.basename(item.path)) == _kept(segment)
            ]
        return names


def _kept(name: str) -> str:
    """What a URI keeps of a name.

    >>> _kept("equity\\tcurve#")
    'equitycurve'
    """
    return _LOST.sub("", name)


def _attempt(call: Callable[[], T]) -> T | None:
    try:
        return call()
    except Exception as exc:
        if is_refusal(exc):
            raise
        _logger.debug("Failed to read artifacts.", exc_info=True)
        return None


def is_refusal(exc: Exception) -> bool:
    """Whether the ledger refused a file, here or on a server, whose response MLflow quotes.

    Or the database a right, which is no reason to look elsewhere either.
    """
    if isinstance(exc, ArtifactRefused) or getattr(exc, "error_code", "") == "PERMISSION_DENIED":
        return True
    return '"error_code":"DATA_LOSS"' in str(exc).replace('": "', '":"')
