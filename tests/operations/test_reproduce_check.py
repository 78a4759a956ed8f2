"""`reproduce --check`: six rows, each answered by trying it."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from feature_store import FeatureStore
from mlflow_timescale import db
from mlflow_timescale.cli import cli
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations import reproduce, reproduce_rerun
from mlflow_timescale.operations.reproduce_check import NAMES, answers

NewDatabase = Callable[..., AbstractContextManager[DatabaseURI]]
CLEAN = {"mlflow.source.git.commit": "4f1c" * 10, "mlops.git.dirty": "false"}


@dataclass(frozen=True)
class Trained:
    """A database with a registered version, and the run that trained it."""

    uri: DatabaseURI
    run_id: str
    folder: Path

    def answers(self) -> dict[str, tuple[str, str]]:
        return {row.name: (row.answer, row.evidence) for row in answers(self.uri, "models:/m/1")}


@pytest.fixture(scope="module")
def trained(
    new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp("snapshots") / "training"
    with new_database() as uri:
        mlflow.set_tracking_uri(uri.url)
        snapshot = training_set(uri, folder)
        with mlflow.start_run(tags=CLEAN) as run:
            mlflow.log_input(snapshot.to_mlflow(), context="training")
            mlflow.log_params({"alpha": "1.0"})
            mlflow.log_metrics({"test/ic": 0.04, "train/ic": 0.05})
            mlflow.log_text("weights", "model.pkl")
        client = MlflowClient()
        client.create_registered_model("m")
        client.create_model_version("m", f"runs:/{run.info.run_id}/", run.info.run_id)
        yield Trained(uri, run.info.run_id, folder)
    mlflow.set_tracking_uri(None)


def training_set(uri: DatabaseURI, folder: Path):  # type: ignore[no-untyped-def]
    close = datetime(2024, 1, 12, 21, tzinfo=timezone.utc)
    with FeatureStore(uri) as store:
        for day in range(3):
            store.write_features(
                "AAPL",
                close + timedelta(days=day),
                {"rsi_14": 60.0 + day},
                availability_lag=timedelta(hours=1),
            )
        times = [close + timedelta(days=day, hours=2) for day in range(3)]
        spine = pd.DataFrame({"entity_key": "AAPL", "as_of": times})
        return store.snapshot(spine, ["rsi_14"], folder)


def check(trained: Trained, *options: str, run: str = "models:/m/1", stdin: str = ""):  # type: ignore[no-untyped-def]
    command = ["reproduce", "--uri", trained.uri.url, run, "--check", *options]
    return CliRunner().invoke(cli, command, input=stdin)


def test_a_version_that_recorded_everything_is_yes_in_all_rows(trained: Trained) -> None:
    rows = trained.answers()
    assert list(rows) == list(NAMES)
    assert {answer for answer, _ in rows.values()} == {"yes"}
    assert "rsi_14=" in rows["feature versions"][1]
    assert "3 rows" in rows["training data"][1]
    assert "gives fingerprint" in rows["training data"][1]
    assert "SHA-256 of each verified" in rows["weights"][1]
    assert check(trained).exit_code == 0


def test_a_history_that_was_changed_is_no(trained: Trained) -> None:
    with db.connect(trained.uri) as conn:
        conn.execute(
            "UPDATE mlops.feature_points SET value_double = value_double + 1 "
            "WHERE event_time = '2024-01-13 21:00Z'"
        )
    try:
        result = check(trained, "--json")
    finally:
        with db.connect(trained.uri) as conn:
            conn.execute(
                "UPDATE mlops.feature_points SET value_double = value_double - 1 "
                "WHERE event_time = '2024-01-13 21:00Z'"
            )
    assert result.exit_code == 3
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert [name for name, row in rows.items() if row["answer"] != "yes"] == ["training data"]
    assert rows["training data"]["answer"] == "no"
    assert "its history was changed" in rows["training data"]["remedy"]


def test_files_of_a_snapshot_that_are_gone_are_no(trained: Trained) -> None:
    hidden = trained.folder.rename(trained.folder.with_name("elsewhere"))
    try:
        answer, evidence = trained.answers()["training data"]
    finally:
        hidden.rename(trained.folder)
    assert answer == "no"
    assert "is no snapshot" in evidence


def test_a_run_that_recorded_nothing_is_unknown_in_all_rows(trained: Trained) -> None:
    run_id = MlflowClient(trained.uri.url).create_run("0").info.run_id
    rows = answers(trained.uri, run_id)
    assert [row.answer for row in rows] == ["unknown"] * 6
    assert all(row.remedy for row in rows)
    assert check(trained, run=run_id).exit_code == 3


def test_a_version_without_a_run_is_unknown(trained: Trained) -> None:
    client = MlflowClient(trained.uri.url, trained.uri.url)
    client.create_registered_model("bare")
    client.create_model_version("bare", "s3://models/bare")
    rows = answers(trained.uri, "models:/bare/1")
    assert {row.answer for row in rows} == {"unknown"}
    assert "has no run" in rows[0].evidence


def test_a_frame_cannot_be_rebuilt(trained: Trained) -> None:
    mlflow.set_tracking_uri(trained.uri.url)
    with mlflow.start_run() as run:
        mlflow.log_input(mlflow.data.from_pandas(pd.DataFrame({"a": [1.0]}), name="prices"))
    rows = {row.name: row for row in answers(trained.uri, run.info.run_id)}
    assert rows["training data"].answer == "unknown"
    assert "snapshot" in rows["training data"].remedy


def test_changed_files_of_code_are_no(trained: Trained) -> None:
    client = MlflowClient(trained.uri.url)
    run = client.create_run("0", tags={**CLEAN, "mlops.git.dirty": "true"})
    [row] = [r for r in answers(trained.uri, run.info.run_id) if r.name == "code version"]
    assert (row.answer, row.remedy) == (
        "no",
        "files differed from the commit: commit before training",
    )


def test_packages_that_are_others_here_are_named(trained: Trained) -> None:
    used = {"numpy": "0.1", "abandoned": "2.0"}
    client = MlflowClient(trained.uri.url)
    run = client.create_run("0", tags={**CLEAN, "mlops.packages": json.dumps(used)})
    [row] = [r for r in answers(trained.uri, run.info.run_id) if r.name == "code version"]
    assert "2 packages are others here" in row.evidence
    assert "abandoned 2.0 (here none)" in row.evidence


def test_a_training_that_fails_is_unknown_with_its_last_line(trained: Trained) -> None:
    context = _context(trained)
    failed = reproduce_rerun.run_again(context, [sys.executable, "-c", "raise SystemExit('no')"])
    assert failed.failure == "the training ended with exit code 1: no"
    assert MlflowClient(trained.uri.url).get_run(failed.run_id).info.status == "FAILED"
    absent = reproduce_rerun.run_again(context, ["/nowhere/train"])
    assert "cannot be started" in absent.failure
    slow = reproduce_rerun.run_again(
        context, [sys.executable, "-c", "import time; time.sleep(60)"], seconds=0.5
    )
    assert "did not end" in slow.failure
    assert "no entry point" in reproduce_rerun.run_again(context, None).failure


def _context(trained: Trained) -> reproduce.Context:
    client = MlflowClient(trained.uri.url)
    return reproduce.Context(client.get_run(trained.run_id), client, trained.uri)


@pytest.mark.parametrize("text", ["[" * 7000, "no JSON", "7", "null", "[]", "[1]", '"train.py"'])
def test_a_tag_that_is_no_command_is_none(trained: Trained, text: str) -> None:
    context = _context(trained)
    context.run.data.tags[reproduce_rerun.COMMAND] = text
    assert reproduce_rerun.recorded_command(context) is None


def test_nothing_runs_before_a_person_has_seen_the_command(
    trained: Trained, tmp_path: Path
) -> None:
    trace = tmp_path / "ran"
    command = f"{sys.executable} -c \"open('{trace}', 'w')\""
    refused = check(trained, "--rerun", "--command", command, stdin="n\n")
    assert refused.exit_code != 0
    assert "To run:" in refused.output
    assert not trace.exists()
    accepted = check(trained, "--rerun", "--command", command, "--yes", "--json")
    assert trace.exists()
    rows = {row["name"]: row for row in json.loads(accepted.stdout)}
    assert rows["metrics"]["answer"] == "unknown"  # it logged nothing
    assert accepted.exit_code == 3


@pytest.mark.slow
def test_a_rerun_compares_parameters_and_metrics(trained: Trained, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, mlflow
            with mlflow.start_run():
                mlflow.log_param("alpha", "1.0")
                mlflow.log_metric("test/ic", float(sys.argv[1]))
            """
        )
    )
    for value, answer in (("0.04", "yes"), ("0.0400001", "no")):
        command = f"{sys.executable} {script} {value}"
        result = check(trained, "--rerun", "--command", command, "--yes", "--json")
        rows = {row["name"]: row for row in json.loads(result.stdout)}
        assert rows["metrics"]["answer"] == answer
        assert "not logged by the training: train/ic" in rows["metrics"]["evidence"]
        assert "the same in the rerun" in rows["parameters"]["evidence"]
    loose = check(trained, "--rerun", "--command", command, "--yes", "--metric-tolerance", "0.001")
    assert loose.exit_code == 0
    tagged = MlflowClient(trained.uri.url).search_runs(
        ["0"], f"tags.`{reproduce_rerun.REPRODUCES}` = '{trained.run_id}'"
    )
    assert len(tagged) >= 3
