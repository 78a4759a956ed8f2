"""Every call of the stores needs one connection, also where MLflow opens sessions in sessions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from mlflow.entities import (
    Dataset,
    DatasetInput,
    LoggedModelTag,
    Metric,
    RunTag,
    TraceInfo,
    TraceLocation,
    TraceState,
)
from mlflow.exceptions import MlflowException
from sqlalchemy.pool import AssertionPool, QueuePool

from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.registry.store import TimescaleRegistryStore
from mlflow_timescale.tracking.store import TimescaleTrackingStore

THREADS = 16


@pytest.fixture(scope="module")
def uri(new_database: Any) -> Iterator[DatabaseURI]:
    # AssertionPool raises where a second connection is taken from it.
    with pytest.MonkeyPatch.context() as patch, new_database() as database:
        patch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "AssertionPool")
        tracking = TimescaleTrackingStore(database.url, "/artifacts")
        assert isinstance(tracking.engine.pool, AssertionPool)
        TimescaleRegistryStore(database.url)
        yield database


@pytest.fixture(scope="module")
def tracking(uri: DatabaseURI) -> TimescaleTrackingStore:
    return TimescaleTrackingStore(uri.url, "/artifacts")


@pytest.fixture(scope="module")
def registry(uri: DatabaseURI) -> TimescaleRegistryStore:
    return TimescaleRegistryStore(uri.url)


def inputs(name: str) -> list[DatasetInput]:
    return [DatasetInput(Dataset(name, "1", "local", "{}", "{}", "{}"), [])]


def trace(trace_id: str) -> TraceInfo:
    location = TraceLocation.from_experiment_id("0")
    return TraceInfo(trace_id, location, request_time=1, state=TraceState.OK)


def new_run(store: TimescaleTrackingStore) -> str:
    return str(store.create_run("0", "me", 1, [], None).info.run_id)


def name_tag(store: TimescaleTrackingStore, run_id: str) -> None:
    store.set_tag(run_id, RunTag("mlflow.runName", "renamed"))
    assert store.get_run(run_id).info.run_name == "renamed"


def batch(store: TimescaleTrackingStore, run_id: str) -> None:
    model_id = store.create_logged_model("0", "model").model_id
    metrics = [Metric("m", 1.0, 1, 1, model_id=model_id)]
    store.log_batch(run_id, metrics, [], [RunTag("mlflow.runName", "batched")])


def log_inputs(store: TimescaleTrackingStore, run_id: str) -> None:
    store.log_inputs(run_id, inputs("train"))
    assert len(store.get_run(run_id).inputs.dataset_inputs) == 1


def start_trace(store: TimescaleTrackingStore, run_id: str) -> None:
    store.start_trace(trace(f"tr-{run_id}"))
    assert store.get_trace_info(f"tr-{run_id}").experiment_id == "0"


def logged_model(store: TimescaleTrackingStore, run_id: str) -> None:
    model = store.create_logged_model("0", "model", run_id, [LoggedModelTag("a", "b")])
    assert store.get_logged_model(model.model_id).tags == {"a": "b"}


def scorers(store: TimescaleTrackingStore, run_id: str) -> None:
    # In an experiment of its own: MLflow's list fails on a scorer that is deleted meanwhile.
    experiment_id = store.create_experiment(f"{run_id} {uuid4()}")
    store.register_scorer(experiment_id, "judge", '{"name": "scorer"}')
    assert store.get_scorer(experiment_id, "judge").scorer_version == 1
    assert store.list_scorer_versions(experiment_id, "judge")
    assert store.list_scorers_across_experiments([experiment_id])
    store.delete_scorer(experiment_id, "judge")


def datasets(store: TimescaleTrackingStore, run_id: str) -> None:
    dataset = store.create_dataset(run_id, {"a": "b"}, ["0"])
    assert dataset.dataset_id in [found.dataset_id for found in store.search_datasets(["0"])]


def experiments(store: TimescaleTrackingStore, run_id: str) -> None:
    # An id that MLflow's own create_run must judge.
    assert store.create_run("+0", "me", 1, [], None).info.experiment_id == "+0"


CALLS = [
    name_tag,
    batch,
    log_inputs,
    start_trace,
    logged_model,
    scorers,
    datasets,
    experiments,
]


@pytest.mark.parametrize("call", CALLS)
def test_a_call_takes_one_connection(
    tracking: TimescaleTrackingStore, call: Callable[[TimescaleTrackingStore, str], None]
) -> None:
    call(tracking, new_run(tracking))


def test_a_registered_model_that_exists_is_refused_on_one_connection(
    registry: TimescaleRegistryStore,
) -> None:
    registry.create_registered_model("momentum")
    with pytest.raises(MlflowException) as error:
        registry.create_registered_model("momentum")
    assert error.value.error_code == "RESOURCE_ALREADY_EXISTS"


def test_a_version_is_registered_on_one_connection(registry: TimescaleRegistryStore) -> None:
    registry.create_registered_model("carry")
    assert registry.create_model_version("carry", "s3://bucket/model").version == 1
    source = "models:/carry/1"
    assert registry.create_model_version("carry", source).version == 2


def test_what_an_inner_session_wrote_goes_with_the_outer_one(
    tracking: TimescaleTrackingStore,
) -> None:
    run_id = new_run(tracking)

    def fail_after_logging() -> None:
        with tracking.ManagedSessionMaker(read_only=False):
            tracking.log_inputs(run_id, inputs("lost"))
            raise ZeroDivisionError

    with pytest.raises(MlflowException):
        fail_after_logging()
    assert tracking.get_run(run_id).inputs.dataset_inputs == []


def test_an_inner_session_that_fails_leaves_the_outer_one_usable(
    tracking: TimescaleTrackingStore,
) -> None:
    run_id = new_run(tracking)
    with tracking.ManagedSessionMaker(read_only=False):
        with pytest.raises(MlflowException):
            tracking.log_inputs(run_id, inputs("train\0"))
        tracking.log_inputs(run_id, inputs("valid"))
    assert len(tracking.get_run(run_id).inputs.dataset_inputs) == 1


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_many_threads_share_two_connections(
    database: DatabaseURI, call: Callable[[TimescaleTrackingStore, str], None]
) -> None:
    store = TimescaleTrackingStore(database.url, "/artifacts")
    # MLflow's settings cannot express "no overflow".
    store.engine.pool = QueuePool(
        store.engine.pool._creator,
        pool_size=2,
        max_overflow=0,
        timeout=20,
        pre_ping=True,
        dialect=store.engine.dialect,
    )
    runs = [new_run(store) for _ in range(THREADS)]
    start = threading.Barrier(THREADS)

    def one(run_id: str) -> None:
        start.wait()
        for _ in range(3):
            call(store, run_id)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, runs))
