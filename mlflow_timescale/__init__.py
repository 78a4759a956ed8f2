"""MLflow on TimescaleDB: tracking store, model registry and artifacts in one database."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mlflow_timescale.version import __version__

if TYPE_CHECKING:
    from mlflow_timescale.artifacts.versions import artifact_at, artifact_versions
    from mlflow_timescale.common.attribution import because
    from mlflow_timescale.drift import Serving
    from mlflow_timescale.operations.qlib_online import qlib_online
    from mlflow_timescale.registry.model_registry import ModelRegistry
    from mlflow_timescale.tracking.metric_extremes import metric_extremes
    from mlflow_timescale.tracking.metric_table import metrics
    from mlflow_timescale.tracking.tag_history import run_tag_history

__all__ = [
    "ModelRegistry",
    "Serving",
    "__version__",
    "artifact_at",
    "artifact_versions",
    "because",
    "metric_extremes",
    "metrics",
    "qlib_online",
    "run_tag_history",
]
_HOMES = {
    "ModelRegistry": "mlflow_timescale.registry.model_registry",
    "Serving": "mlflow_timescale.drift",
    "artifact_at": "mlflow_timescale.artifacts.versions",
    "artifact_versions": "mlflow_timescale.artifacts.versions",
    "because": "mlflow_timescale.common.attribution",
    "metric_extremes": "mlflow_timescale.tracking.metric_extremes",
    "metrics": "mlflow_timescale.tracking.metric_table",
    "qlib_online": "mlflow_timescale.operations.qlib_online",
    "run_tag_history": "mlflow_timescale.tracking.tag_history",
}


def __getattr__(name: str) -> Any:
    """Import lazily: `import mlflow` imports this package, and must stay quick."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
