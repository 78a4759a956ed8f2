"""The repository of `runs:`: MLflow's, except that a refused file is not taken for a wrong path.

MLflow 3.17's `RunsArtifactRepository.download_artifacts` drops whatever goes wrong ("please ensure
that the path is correct"), and where a run holds files and a model it returns the one without the
other. A file that is not what was logged must be named. Remove this when MLflow raises errors.
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
    """A run's artifacts and those of its models, as in MLflow; refusals are raised."""

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> str:
        """Download from the run and from its model of that name; raises what was refused."""
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
    """Whether the ledger refused a file: here, or at the server, whose answer MLflow quotes."""
    return isinstance(exc, ArtifactRefused) or '"error_code":"DATA_LOSS"' in str(exc).replace(
        '": "', '":"'
    )
