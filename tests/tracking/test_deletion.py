"""Deleting for good: `mlflow gc` as users run it, and experiments with all that is below them."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import pytest
from mlflow.entities import (
    Dataset,
    DatasetInput,
    ExperimentTag,
    Metric,
    Param,
    RunTag,
    TraceInfo,
    TraceLocation,
    TraceState,
)
from mlflow.exceptions import MlflowException
from mlflow.store.db.base_sql_model import Base
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from psycopg import sql
from support.databases import vanilla_url
from support.servers import run_mlflow, with_password

from mlflow_timescale import db
from mlflow_timescale.db.migrations import facts
from mlflow_timescale.tracking.store import TimescaleTrackingStore

DAY = 86_400_000


def fill(store, name, runs=3):
    """An experiment with something in every table below it."""
    experiment = store.create_experiment(name, tags=[ExperimentTag("t", "1")])
    for number in range(runs):
        run = store.create_run(experiment, "me", 1, [RunTag("a", "b")], f"r{number}").info.run_id
        points = [Metric("m", i, i * DAY * 3, i) for i in range(200)]
        store.log_batch(run, points, [Param("p", "1")], [RunTag("c", "d")])
        store.log_inputs(run, [DatasetInput(Dataset(name, "d", "local", "x"), [])])
        model = store.create_logged_model(experiment, f"model{number}", run)
        store.log_metric(run, Metric("of model", 1.0, 1, 1, model_id=model.model_id))
        trace = TraceInfo(
            trace_id=f"tr-{name}-{number}",
            trace_location=TraceLocation.from_experiment_id(experiment),
            request_time=1,
            state=TraceState.OK,
            tags={"k": "v"},
            trace_metadata={"m": "v"},
        )
        store.start_trace(trace)
    return experiment


def rows(uri):
    """How many rows are in each table of MLflow's?"""
    with db.connect(uri) as conn:
        query = sql.SQL("SELECT count(*) FROM {}")
        return Counter(
            {
                name: conn.execute(query.format(sql.Identifier(name))).fetchone()[0]
                for name in Base.metadata.tables
            }
        )


@pytest.mark.slow
def test_an_experiment_goes_with_all_that_goes_with_mlflows_own_store(database, vanilla_database):
    theirs = SqlAlchemyStore(vanilla_url(vanilla_database), "/artifacts")
    ours = TimescaleTrackingStore(database.url, "/artifacts")
    for store in (theirs, ours):
        gone, kept = fill(store, "gone"), fill(store, "kept")
        store.delete_experiment(gone)
        with pytest.raises(MlflowException, match="No Experiment with id="):
            store._hard_delete_experiment(kept)
        store._hard_delete_experiment(gone)
        with pytest.raises(MlflowException, match="No Experiment with id="):
            store._hard_delete_experiment(gone)
        assert [found.name for found in store.search_experiments()] == ["kept", "Default"]
    assert rows(database) == rows(vanilla_database)
    with db.connect(database) as conn:
        (marked,) = conn.execute("SELECT count(*) FROM mlops.run_ranges").fetchone()
    assert marked == 3


def test_deleting_an_experiment_takes_no_memory_for_its_points(database):
    store = TimescaleTrackingStore(database.url, "/artifacts")
    peaks = []
    for points in (100, 100, 20_000):  # the first pays for what is set up once
        experiment = store.create_experiment(f"{len(peaks)} {points}")
        run = store.create_run(experiment, "me", 1, [], "r").info.run_id
        with db.connect(database, autocommit=True) as conn:
            conn.execute(
                "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan)"
                " SELECT %s, 'm', i, i, i, false FROM generate_series(1, %s) AS i",
                [run, points],
            )
        store.delete_experiment(experiment)
        tracemalloc.start()
        store._hard_delete_experiment(experiment)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.5 * peaks[1]
    assert rows(database)["metrics"] == 0


@pytest.mark.slow
def test_mlflow_gc_removes_the_points_of_deleted_runs_and_experiments_everywhere(
    database, tmp_path
):
    store = TimescaleTrackingStore(database.url, f"file://{tmp_path}")
    gone, kept = fill(store, "gone"), fill(store, "kept")
    lost, *left = [run.info.run_id for run in store.search_runs([kept], "", 1)]
    with db.connect(database, autocommit=True) as conn:
        if "community" in facts(conn):
            conn.execute("SELECT compress_chunk(chunk) FROM show_chunks('metrics') AS chunk")
    before = [repr(store.get_metric_history(run, "m")) for run in left]
    store.delete_experiment(gone)
    store.delete_run(lost)
    uri = with_password(database).url
    done = run_mlflow("gc", "--backend-store-uri", uri, "--tracking-uri", uri)
    assert done.returncode == 0, done.stderr
    assert f"Run with ID {lost} has been permanently deleted" in done.stdout
    assert f"Experiment with ID {gone} has been permanently deleted" in done.stdout
    with db.connect(database) as conn:
        for table in ("metrics", "latest_metrics", "mlops.run_ranges", "mlops.metric_marks"):
            query = sql.SQL("SELECT DISTINCT run_uuid FROM {}").format(
                sql.Identifier(*table.split("."))
            )
            assert {run for (run,) in conn.execute(query)} == set(left), table
    assert [repr(store.get_metric_history(run, "m")) for run in left] == before
