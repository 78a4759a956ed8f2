"""A full spool, and workspaces: the policies of a spool through the store and MLflow's client."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.utils.workspace_context import WorkspaceContext
from support.spools import wait_until_empty

from benchmarks.databases import Switch
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.spool import Spool
from mlflow_timescale.tracking.opening import open_store
from mlflow_timescale.tracking.spooling import SpoolingTracking
from mlflow_timescale.tracking.store import WorkspaceAwareTimescaleTrackingStore

MEBIBYTE = 2**20
MANY = {f"weights/{number:04}": float(number) for number in range(1000)}  # about 40 kB in a spool


def with_spool(uri: DatabaseURI, folder: Path, full: str) -> str:
    separator = "&" if "?" in uri.url else "?"
    return f"{uri.url}{separator}spool={folder}/spool&spool_limit=1&spool_full={full}"


def spool_of(folder: Path) -> Spool:
    return Spool(folder / "spool")


@pytest.mark.slow
def test_a_full_spool_that_blocks_holds_mlflows_client_until_it_is_drained(
    shared_database: DatabaseURI, switch: Switch, tmp_path: Path
) -> None:
    mlflow.set_tracking_uri(with_spool(shared_database, tmp_path, "block"))
    run_id = MlflowClient().create_run("0").info.run_id
    logged: list[int] = []

    def train() -> None:
        for step in range(60):
            mlflow.log_metrics(MANY, step=step, run_id=run_id)
            logged.append(step)

    trainer = threading.Thread(target=train, daemon=True)
    with switch.away():
        trainer.start()
        while len(logged) < 10 or logged[-1] != wait_and_last(logged):
            assert trainer.is_alive()
        assert len(logged) < 60
        assert spool_of(tmp_path).status().bytes <= MEBIBYTE
    trainer.join(60)
    assert logged == list(range(60))
    wait_until_empty(spool_of(tmp_path))
    status = spool_of(tmp_path).status()
    assert (status.dropped, status.refused) == (0, [])
    history = MlflowClient(shared_database.url).get_metric_history(run_id, "weights/0007")
    assert [metric.step for metric in history] == list(range(60))


def log_twice(store: Any, run_id: str, metrics: list[Metric]) -> None:
    for _ in range(2):
        store.log_batch(run_id, metrics, [], [])


def wait_and_last(logged: list[int]) -> int:
    time.sleep(1.0)
    return logged[-1]


@pytest.mark.slow
def test_a_full_spool_that_raises_leaves_the_client_usable(
    shared_database: DatabaseURI, switch: Switch, tmp_path: Path
) -> None:
    mlflow.set_tracking_uri(with_spool(shared_database, tmp_path, "raise"))
    run_id = MlflowClient().create_run("0").info.run_id
    logged = 0
    with switch.away():
        while spool_of(tmp_path).status().bytes < MEBIBYTE - 60_000:
            mlflow.log_metrics(MANY, step=logged, run_id=run_id)
            logged += 1
        with pytest.raises(MlflowException, match="has its limit of 1,048,576 bytes") as failure:
            mlflow.log_metrics({key + 200 * "x": 1.0 for key in MANY}, run_id=run_id)
        assert failure.value.error_code == "RESOURCE_EXHAUSTED"
        assert "\n" not in failure.value.message
        assert MlflowClient().get_run(run_id).data.metrics["weights/0007"] == 7.0
    wait_until_empty(spool_of(tmp_path))
    mlflow.log_metrics(MANY, step=100, run_id=run_id)
    history = MlflowClient(shared_database.url).get_metric_history(run_id, "weights/0007")
    assert [metric.step for metric in history] == [*range(logged), 100]
    assert 10 < logged < 60


@pytest.mark.slow
def test_a_spool_that_an_earlier_process_filled_blocks_only_until_the_database_is_back(
    shared_database: DatabaseURI, switch: Switch, tmp_path: Path
) -> None:
    uri = with_spool(shared_database, tmp_path, "raise")
    first = open_store(uri, "timescaledb-artifacts:/", None, False)
    run_id = first.create_run("0", "ann", 1, [], "run").info.run_id
    metrics = [Metric(key, value, 1, 0) for key, value in MANY.items()]
    with switch.away():
        while spool_of(tmp_path).status().bytes < MEBIBYTE - 60_000:
            first.log_batch(run_id, metrics, [], [])
        assert isinstance(first, SpoolingTracking)
        first._outbox.close()
        uri = with_spool(shared_database, tmp_path, "block")
        second = open_store(uri, "timescaledb-artifacts:/", None, False)
        later = [Metric(key, value, 2, 1) for key, value in MANY.items()]
        writer = threading.Thread(target=log_twice, args=(second, run_id, later))
        writer.start()
        writer.join(0.5)
        assert writer.is_alive()
    writer.join(60)
    wait_until_empty(spool_of(tmp_path))
    assert second.get_run(run_id).data._metric_objs[0].step == 1


@pytest.mark.slow
def test_a_write_of_a_workspace_arrives_in_it(
    server: DatabaseURI,
    database: DatabaseURI,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Experiments of one name in two workspaces, and runs and a store of the outage."""
    switch = Switch(server, database.dbname)
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    separator = "&" if "?" in database.url else "?"
    uri = f"{database.url}{separator}spool={tmp_path}/spool"
    mlflow.set_tracking_uri(uri)
    workspaces = ("desk", "lab")
    for workspace in workspaces:
        monkeypatch.setenv("MLFLOW_WORKSPACE", workspace)
        mlflow.set_experiment("signals")
    runs: dict[str, str] = {}
    with switch.away():
        for workspace in (*workspaces, *workspaces):
            monkeypatch.setenv("MLFLOW_WORKSPACE", workspace)
            mlflow.set_experiment("signals")
            with mlflow.start_run(run_id=runs.get(workspace)) as run:
                runs[workspace] = run.info.run_id
                mlflow.log_metric("ic", 0.5, step=len(runs))
                mlflow.set_tag("workspace", workspace)
                mlflow.log_text(workspace, "name.txt")
        with WorkspaceContext("desk"):
            offline = open_store(uri, "timescaledb-artifacts:/", None, True)
            known = offline.get_experiment_by_name("signals")
            assert known is not None
            begun = offline.create_run(known.experiment_id, "ann", 1, [], "offline").info.run_id
    wait_until_empty(spool_of(tmp_path))
    assert spool_of(tmp_path).status().refused == []
    plain = WorkspaceAwareTimescaleTrackingStore(database.url, "timescaledb-artifacts:/")
    with WorkspaceContext("desk"):
        assert plain.get_run(begun).info.run_name == "offline"
    for workspace, other in (workspaces, workspaces[::-1]):
        with WorkspaceContext(workspace):
            stored = plain.get_run(runs[workspace])
            experiment = plain.get_experiment_by_name("signals")
        assert experiment is not None
        assert stored.info.experiment_id == experiment.experiment_id
        assert stored.info.status == "FINISHED"
        assert (stored.data.metrics, stored.data.tags["workspace"]) == ({"ic": 0.5}, workspace)
        monkeypatch.setenv("MLFLOW_WORKSPACE", workspace)
        assert mlflow.artifacts.load_text(f"{stored.info.artifact_uri}/name.txt") == workspace
        with WorkspaceContext(other), pytest.raises(MlflowException, match="not found"):
            plain.get_run(runs[workspace])
