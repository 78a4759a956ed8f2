"""Who writes: a producer, its code version, and the MLflow run that is active."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path


@cache
def git_version(directory: Path) -> str | None:
    """The commit that a directory is at, with "-dirty" if files differ; None outside of git."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def default_producer() -> str | None:
    """The name of the script that runs; None in an interactive session."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(main).stem if main else None


def active_run_id() -> str | None:
    """The MLflow run that is active here, if MLflow is imported at all."""
    mlflow = sys.modules.get("mlflow")
    run = mlflow.active_run() if mlflow is not None and hasattr(mlflow, "active_run") else None
    return run.info.run_id if run is not None else None
