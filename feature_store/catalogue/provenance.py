"""Who writes: a producer, its code version, and the MLflow run that is active."""

from __future__ import annotations

import sys
from pathlib import Path


def default_producer() -> str | None:
    """The name of the script that runs; None in an interactive session."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(main).stem if main else None


def active_run_id() -> str | None:
    """The MLflow run that is active here, if MLflow is imported at all."""
    mlflow = sys.modules.get("mlflow")
    run = mlflow.active_run() if mlflow is not None and hasattr(mlflow, "active_run") else None
    return run.info.run_id if run is not None else None
