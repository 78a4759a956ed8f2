"""A directory with packages that have our generic names, and a check that ours work there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from mlflow_timescale.db.uri import DatabaseURI

NAMES = ("feature_store", "drift")
SESSION = """
import sys
import mlflow
assert not {"feature_store", "drift"} & set(sys.modules)
import drift, feature_store
assert drift.OWNER == feature_store.OWNER == "the repository"

from datetime import datetime, timezone
from mlflow.data.dataset_source_registry import get_registered_sources
from mlflow_timescale.drift import DriftMonitor, calculate_ic, metrics
from mlflow_timescale.features import FeatureStore, Snapshot

assert "SnapshotSource" in [source.__name__ for source in get_registered_sources()]
assert metrics.calculate_ic is calculate_ic
day, later = (datetime(2024, 1, day, tzinfo=timezone.utc) for day in (2, 3))
with FeatureStore(sys.argv[1]) as store:
    store.write_features("AAPL", day, {"momentum": 0.5}, ingest_time=day)
    snapshot = store.snapshot([("AAPL", later)], ["momentum"], "snapshot")
mlflow.set_tracking_uri(sys.argv[1])
with mlflow.start_run() as run:
    mlflow.log_metric("ic", 0.05)
    mlflow.log_input(snapshot.to_mlflow(), context="training")
(used,) = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
source = mlflow.data.get_source(used)
assert source.load().fingerprint == snapshot.fingerprint
assert isinstance(source.load(), Snapshot)
import feature_store.core
"""
COMMANDS = (["features", "list", "--json"], ["drift", "alerts", "--help"], ["daily", "--help"])
RUN = "import sys; from mlflow_timescale.cli import main; main(sys.argv[1:])"


def write(folder: Path) -> None:
    """Write packages with our generic names into a folder."""
    for name in NAMES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("OWNER = 'the repository'\n")
        (folder / name / "core.py").write_text("")


def check(python: str, folder: Path, database: DatabaseURI) -> None:
    """Train in that folder, and run our commands, with an interpreter that has us installed."""
    environment = {**os.environ, "MLFLOW_TIMESCALE_URI": database.url}

    def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [python, "-c", code, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done

    lines = run("import mlflow").stderr.splitlines()
    assert len(lines) == 1
    assert "import ours as mlflow_timescale.features and mlflow_timescale.drift" in lines[0]
    run(SESSION, database.url)
    for command in COMMANDS:
        assert run(RUN, *command).stdout
