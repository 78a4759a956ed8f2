"""A run records what a repetition needs, and `reproduce` lists what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import mlflow
import numpy as np
import psycopg
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput

from mlflow_timescale import run_context
from mlflow_timescale.cli import cli
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations import reproduce
from mlflow_timescale.operations.reproduce import checklist

TRAINER = """
    import mlflow, numpy as np, pandas as pd, sys
    np.random.seed(42)
    mlflow.set_tracking_uri(sys.argv[1])
    with mlflow.start_run() as run:
        frame = pd.DataFrame({"rsi_14": [61.0, 62.5]})
        mlflow.log_input(mlflow.data.from_pandas(frame, name="prices"))
        mlflow.log_params({"max_depth": 5, "feature_versions": "rsi_14=2"})
        mlflow.log_metric("test/ic", 0.04)
        mlflow.log_text("weights", "model.pkl")
    print(run.info.run_id)
"""


def git(directory: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=ann", "-c", "user.email=ann@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=directory, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(textwrap.dedent(TRAINER))
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "train.py")
    git(tmp_path, "commit", "-qm", "Train")
    return tmp_path


def train(repository: Path, uri: DatabaseURI) -> str:
    command = [sys.executable, str(repository / "train.py"), uri.url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


@pytest.mark.slow
def test_a_run_that_recorded_everything_can_be_repeated(
    repository: Path, database: DatabaseURI, conn: psycopg.Connection
) -> None:
    run_id = train(repository, database)
    items = checklist(database, run_id)
    assert [(item.name, item.holds, item.missing) for item in items] == [
        (name, True, "")
        for name in (
            "code version",
            "feature versions",
            "training data",
            "parameters",
            "weights",
            "metrics",
        )
    ]
    tags = MlflowClient(database.url).get_run(run_id).data.tags
    assert tags["mlops.git.dirty"] == "false"
    assert json.loads(tags["mlops.seeds"])["numpy"] == 42
    assert {"numpy", "pandas", "mlflow"} <= set(json.loads(tags["mlops.packages"]))
    conn.execute("UPDATE mlops.artifact_chunks SET data = 'changed'")
    failed = {item.name: item.missing for item in checklist(database, run_id) if not item.holds}
    assert list(failed) == ["weights"]
    assert "model.pkl: mismatch" in failed["weights"]


@pytest.mark.slow
def test_changed_code_and_missing_records_are_named(
    repository: Path, database: DatabaseURI
) -> None:
    script = repository / "train.py"
    kept = [line for line in script.read_text().splitlines() if "log_" not in line]
    script.write_text("\n".join(kept))
    run_id = train(repository, database)
    result = CliRunner().invoke(cli, ["reproduce", "--uri", database.url, run_id, "--json"])
    assert result.exit_code == 3
    items = {item["name"]: item for item in json.loads(result.stdout)}
    assert not any(item["holds"] for item in items.values())
    assert "commit before training" in items["code version"]["missing"]
    assert "mlflow.log_input" in items["training data"]["missing"]


def test_the_table_is_readable(database: DatabaseURI) -> None:
    mlflow.set_tracking_uri(database.url)
    with mlflow.start_run() as run:
        mlflow.log_param("a", 1)
    result = CliRunner().invoke(cli, ["reproduce", "--uri", database.url, run.info.run_id])
    assert "parameters" in result.output


def test_runs_elsewhere_are_left_alone(
    database: DatabaseURI, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    provider = run_context.RunContext()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    assert not provider.in_context()
    monkeypatch.setenv(run_context.RUN_CONTEXT.name, "true")
    assert provider.in_context()
    mlflow.set_tracking_uri(database.url)
    monkeypatch.setenv(run_context.RUN_CONTEXT.name, "false")
    assert not provider.in_context()


def test_a_seed_is_told_only_while_it_can_be() -> None:
    state = np.random.get_state()
    try:
        np.random.seed(7)
        assert json.loads(run_context.seeds() or "{}")["numpy"] == 7
        np.random.rand()
        assert "numpy" not in json.loads(run_context.seeds() or "{}")
    finally:
        np.random.set_state(state)


def test_outside_of_git_there_is_no_dirty_state(tmp_path: Path) -> None:
    assert run_context.dirty(tmp_path) is None


@pytest.mark.parametrize("text", ["[" * 7000, "no JSON", "7", "null"])
def test_a_tag_that_is_no_list_of_packages_is_none(text: str) -> None:
    assert reproduce.packages_of(text) == {}


def test_a_run_cannot_make_a_reader_connect_to_a_host(database: DatabaseURI) -> None:
    client = MlflowClient(database.url)
    run_id = client.create_run("0").info.run_id
    with HTTPServer(("127.0.0.1", 0), Asked) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        source = {"url": f"http://127.0.0.1:{host.server_port}/latest", "fingerprint": "0"}
        dataset = Dataset("d", "0" * 8, "feature_snapshot", json.dumps(source))
        client.log_inputs(run_id, [DatasetInput(dataset, [])])
        [item] = [row for row in checklist(database, run_id) if row.name == "training data"]
        host.shutdown()
    assert "MLFLOW_TIMESCALE_SNAPSHOT_STORES" in item.missing
    assert Asked.paths == []


class Asked(BaseHTTPRequestHandler):
    """Records what is requested."""

    paths: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_error(404)


@pytest.mark.parametrize(
    "source", ["[" * 100_000, "{}", "7", json.dumps({"url": 7, "fingerprint": "0"}), "not JSON"]
)
def test_a_dataset_whose_source_cannot_be_read_is_named(
    source: str,
) -> None:
    dataset = Dataset("odd", "0" * 8, "feature_snapshot", source)
    assert reproduce._problem_with(dataset).startswith("odd: ")
