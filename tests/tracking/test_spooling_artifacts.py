"""Artifacts, tables and models of an outage arrive with their checksums."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from support.spools import wait_until_empty

from benchmarks.databases import Switch
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.spool import Spool, folder


def test_artifacts_of_an_outage_arrive_with_their_checksums(
    uri: str,
    shared_database: DatabaseURI,
    switch: Switch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("artifacts")
    local = tmp_path / "folder"
    (local / "deep").mkdir(parents=True)
    (local / "deep" / "a.bin").write_bytes(b"a" * 100_000)
    (local / "b.txt").write_text("b")
    spool = Spool(DatabaseURI.parse(uri).option("spool"))
    with mlflow.start_run() as run:
        mlflow.log_text("before", "before.txt")
        with switch.away():
            mlflow.log_text("text", "texts/one.txt")
            mlflow.log_artifacts(str(local), "folder")
            shutil.rmtree(local)
            assert spool.status().bytes > 100_000
            with pytest.raises(MlflowException, match="cannot be listed or read"):
                mlflow.artifacts.list_artifacts(run_id=run.info.run_id)
            waiting = MlflowClient().download_artifacts(run.info.run_id, "texts/one.txt")
            assert Path(waiting).read_text() == "text"
            with pytest.raises(MlflowException):
                MlflowClient().download_artifacts(run.info.run_id, "before.txt")
            assert any("artifacts of a run that began before" in line for line in caplog.messages)
        wait_until_empty(spool)
    assert spool.status().refused == []
    assert not list(spool.path.glob("file-*"))
    mlflow.set_tracking_uri(shared_database.url)
    stored = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=""))
    names = sorted(p.relative_to(stored).as_posix() for p in stored.rglob("*") if p.is_file())
    assert names == ["before.txt", "folder/b.txt", "folder/deep/a.bin", "texts/one.txt"]
    assert (stored / "folder/deep/a.bin").read_bytes() == b"a" * 100_000


def test_a_table_grows_in_an_outage_that_its_run_began_in(
    uri: str, shared_database: DatabaseURI, switch: Switch, tmp_path: Path
) -> None:
    """MLflow lists and downloads a table before it logs the longer one."""
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("tables")
    spool = Spool(DatabaseURI.parse(uri).option("spool"))
    with mlflow.start_run() as before:
        pass
    with switch.away():
        with mlflow.start_run() as run:
            mlflow.log_text("b", "texts/b.txt")
            for number in range(3):
                mlflow.log_table({"answer": [number]}, "a.json")
            listed = MlflowClient().list_artifacts(run.info.run_id)
            assert [(f.path, f.is_dir) for f in listed] == [("a.json", False), ("texts", True)]
            texts = MlflowClient().download_artifacts(run.info.run_id, "texts")
            assert Path(texts, "b.txt").read_text() == "b"
            assert listed[0].file_size == len(
                mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/a.json")
            )
        with pytest.raises(MlflowException, match="the database is away") as failure:
            mlflow.log_table({"answer": [1]}, "a.json", before.info.run_id)
        assert "\n" not in failure.value.message
    wait_until_empty(spool)
    mlflow.set_tracking_uri(shared_database.url)
    assert mlflow.load_table("a.json", [run.info.run_id])["answer"].tolist() == [0, 1, 2]


@pytest.mark.slow
def test_a_table_that_still_waits_is_not_replaced_when_the_database_is_back(
    uri: str, shared_database: DatabaseURI, switch: Switch
) -> None:
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("tables")
    spool = Spool(DatabaseURI.parse(uri).option("spool"))
    with mlflow.start_run() as run:
        mlflow.log_table({"answer": [0]}, "a.json")
        mlflow.log_text("b", "b.txt")
        with folder.opened(spool.path) as directory, folder.locked(directory, "drain.lock"):
            with switch.away():
                mlflow.log_metric("ic", 1.0)
            for number in (1, 2):
                mlflow.log_table({"answer": [number]}, "a.json")
            names = [f.path for f in MlflowClient().list_artifacts(run.info.run_id)]
            assert names == ["a.json", "b.txt"]
    wait_until_empty(spool)
    mlflow.set_tracking_uri(shared_database.url)
    assert mlflow.load_table("a.json", [run.info.run_id])["answer"].tolist() == [0, 1, 2]


def test_an_artifact_whose_bytes_changed_in_the_spool_is_refused(
    uri: str, shared_database: DatabaseURI, switch: Switch
) -> None:
    mlflow.set_tracking_uri(uri)
    spool = Spool(DatabaseURI.parse(uri).option("spool"))
    mlflow.set_experiment("changed")
    with mlflow.start_run(), switch.away():
        mlflow.log_text("text", "one.txt")
        [file] = spool.path.glob("file-*")
        file.write_text("else")
    wait_until_empty(spool)
    [refused] = spool.status().refused
    assert "the bytes of one.txt changed" in refused.reason
    assert file.read_text() == "else"


class Doubles(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[float]) -> list[float]:
        return [2 * value for value in model_input]


@pytest.mark.slow
def test_a_model_of_an_outage_can_be_loaded_afterwards(
    uri: str, shared_database: DatabaseURI, switch: Switch
) -> None:
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("models")
    with switch.away(), mlflow.start_run() as run:
        info = mlflow.pyfunc.log_model(
            name="model", python_model=Doubles(), pip_requirements=["mlflow"]
        )
        model = mlflow.get_logged_model(info.model_id)
        assert (model.status, model.source_run_id) == ("READY", run.info.run_id)
        with pytest.raises(MlflowException) as failure:
            mlflow.register_model(info.model_uri, "doubles")
        assert "\n" not in failure.value.message
        assert "the database is away" in failure.value.message
    spool = Spool(DatabaseURI.parse(uri).option("spool"))
    wait_until_empty(spool)
    assert spool.status().refused == []
    mlflow.set_tracking_uri(shared_database.url)
    stored = mlflow.get_logged_model(info.model_id)
    assert stored.to_dictionary() | {"last_updated_timestamp": 0} == model.to_dictionary() | {
        "last_updated_timestamp": 0
    }
    assert mlflow.pyfunc.load_model(info.model_uri).predict([1.0, 2.0]) == [2.0, 4.0]
    outputs = mlflow.get_run(run.info.run_id).outputs.model_outputs
    assert [output.model_id for output in outputs] == [info.model_id]


@pytest.mark.slow
def test_a_model_of_a_run_that_began_before_the_outage_has_the_runs_metrics(
    uri: str, shared_database: DatabaseURI, switch: Switch
) -> None:
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("models")
    with mlflow.start_run() as run:
        mlflow.log_metric("sent", 1.0, step=0)
        with switch.away():
            mlflow.log_metric("waits", 2.0, step=0)
            info = mlflow.pyfunc.log_model(
                name="model", python_model=Doubles(), pip_requirements=["mlflow"]
            )
    spool = Spool(DatabaseURI.parse(uri).option("spool"))
    wait_until_empty(spool)
    assert spool.status().refused == []
    mlflow.set_tracking_uri(shared_database.url)
    metrics = mlflow.get_logged_model(info.model_id).metrics
    assert {(m.key, m.value, m.run_id) for m in metrics} == {
        ("sent", 1.0, run.info.run_id),
        ("waits", 2.0, run.info.run_id),
    }
