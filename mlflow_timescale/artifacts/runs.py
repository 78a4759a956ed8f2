"""The repository of `runs:`: as in MLflow, but a refused file raises its own error.

MLflow 3.17's `RunsArtifactRepository.download_artifacts` swallows every error ("please ensure that
the path is correct"), and for a run with files and a model it returns one without the other. A file
that differs from the ledger must be named. Remove this module when MLflow raises errors.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from functools import partial

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository
from mlflow.utils.file_utils import create_tmp_dir

from mlflow_timescale.artifacts.checks import ArtifactRefused

_logger = logging.getLogger(__name__)


class RunsRepository(RunsArtifactRepository):  # type: ignore[misc]
    """The artifacts of a run and of its models, as in MLflow; refusals are raised."""

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> str:
        """Download from the run and from its model of that name. Raises ArtifactRefused."""
        target = dst_path or create_tmp_dir()
        sources = (
            partial(self.repo.download_artifacts, artifact_path, target),
            partial(self._download_model_artifacts, artifact_path, dst_path=target),
        )
        try:
            arrived = [path for path in map(_attempt, sources) if path]
        except Exception:
            if dst_path is None:
                shutil.rmtree(target, ignore_errors=True)
            raise
        if not arrived:
            raise MlflowException(
                f"Failed to download artifacts from path {artifact_path!r}, "
                "please ensure that the path is correct.",
                error_code=RESOURCE_DOES_NOT_EXIST,
            )
        return arrived[0]


def _attempt(download: Callable[[], str | None]) -> str | None:
    try:
        return download()
    except Exception as exc:
        if is_refusal(exc):
            raise
        _logger.debug("Failed to download artifacts.", exc_info=True)
        return None


def is_refusal(exc: Exception) -> bool:
    """Whether the ledger refused a file, here or on a server, whose response MLflow quotes."""
    return isinstance(exc, ArtifactRefused) or '"error_code":"DATA_LOSS"' in str(exc).replace(
        '": "', '":"'
    )
