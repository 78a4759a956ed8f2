"""No call loads more than it returns: the memory of a process follows what is asked for."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from support.databases import vanilla_url

from mlflow_timescale import db
from mlflow_timescale.operations.adopt import adopt, release
from mlflow_timescale.operations.importing import import_from
from mlflow_timescale.registry.store import TimescaleRegistryStore
from mlflow_timescale.tracking.store import TimescaleTrackingStore

RESET, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
MB = 2**20
POINTS = 200_000
# All points take several times this as a result of the driver's; a page of them, a fraction.
ALLOWED = 12 * MB

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not RESET.exists(), reason="needs Linux's peak memory of a process"),
]


def peak(call):
    """By how many bytes does a process grow while it does this, C libraries included?"""
    gc.collect()
    RESET.write_text("5")
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _status(field):
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def add_points(uri, run, points=POINTS):
    with db.connect(uri, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan)"
            " SELECT %s, 'm', i, 1600000000000 + i * 1000, i, false"
            " FROM generate_series(1, %s) AS i",
            [run, points],
        )
        conn.execute(
            "INSERT INTO latest_metrics (run_uuid, key, value, timestamp, step, is_nan)"
            " VALUES (%s, 'm', 1, 1, 1, false) ON CONFLICT DO NOTHING",
            [run],
        )


def start(store, experiment="0"):
    return store.create_run(experiment, "me", 1, [], "run").info.run_id


@pytest.fixture(scope="module")
def shared(new_database):
    """A store with one long run and one short one, in the module's own database."""
    with new_database() as uri:
        store = TimescaleTrackingStore(uri.url, "/artifacts")
        long, short = start(store), start(store)
        add_points(uri, long)
        add_points(uri, short, 1000)
        yield store, long, short


CALLS = {
    "get_run": lambda store, run: store.get_run(run),
    "first page": lambda store, run: store.get_metric_history(run, "m", 500),
    "every page": lambda store, run: [
        token
        for offset in range(0, 1000, 100)
        for token in [store.get_metric_history(run, "m", 100, _token(store, run, offset)).token]
    ],
    "chart": lambda store, run: store.get_metric_history_bulk_interval([run], "m", 320, None, None),
    "zoomed chart": lambda store, run: store.get_metric_history_bulk_interval(
        [run], "m", 320, 10, 900
    ),
    "bulk": lambda store, run: store.get_metric_history_bulk([run], "m", 500),
    "steps": lambda store, run: store.get_metric_history_bulk_interval_from_steps(
        run, "m", [1, 500], 10
    ),
    "max step": lambda store, run: store.get_max_step_for_metric(run, "m"),
    "search_runs": lambda store, run: store.search_runs(["0"], "metrics.m >= 0", ViewType.ALL, 10),
    "log_batch": lambda store, run: store.log_batch(
        run,
        [Metric("n", i, i, i) for i in range(500)],
        [Param("p", "1")],
        [RunTag("t", "1")],
    ),
    "delete_run": lambda store, run: (store.delete_run(run), store.restore_run(run)),
}


def _token(store, run, offset):
    return store.get_metric_history(run, "m", offset).token if offset else None


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_call_on_a_long_run_takes_the_memory_of_one_on_a_short_run(shared, call):
    store, long, short = shared
    call(store, short)  # sets up what is set up once
    assert peak(lambda: call(store, long)) < ALLOWED


def test_the_meter_sees_a_whole_history(shared):
    store, long, _ = shared
    found = []
    assert peak(lambda: found.append(store.get_metric_history(long, "m"))) > 2 * ALLOWED


def test_deleting_a_long_run_for_good_takes_no_memory(database):
    store = TimescaleTrackingStore(database.url, "/artifacts")
    experiment = store.create_experiment("long")
    runs = [start(store, experiment) for _ in range(3)]
    for run in runs[1:]:
        add_points(database, run)
    store.delete_run(runs[0])
    store._hard_delete_run(runs[0])
    assert peak(lambda: store._hard_delete_run(runs[1])) < ALLOWED
    store.delete_experiment(experiment)
    assert peak(lambda: store._hard_delete_experiment(experiment)) < ALLOWED


@pytest.mark.slow
def test_a_page_of_many_runs_takes_no_memory_for_the_others(database):
    store = TimescaleTrackingStore(database.url, "/artifacts")
    with db.connect(database, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO runs (run_uuid, name, status, start_time, lifecycle_stage, artifact_uri,"
            " experiment_id, user_id, source_type)"
            " SELECT md5(i::text), 'r', 'FINISHED', i, 'active', '/a', 0, 'me', 'UNKNOWN'"
            " FROM generate_series(1, 5000) AS i"
        )
        conn.execute(
            "INSERT INTO params (run_uuid, key, value)"
            " SELECT md5(i::text), 'p' || k, repeat('v', 90)"
            " FROM generate_series(1, 5000) AS i, generate_series(1, 40) AS k"
        )
    store.search_runs(["0"], "", ViewType.ALL, 10, ["params.p1"])
    assert (
        peak(lambda: store.search_runs(["0"], "params.p1 != ''", ViewType.ALL, 10, ["params.p2"]))
        < ALLOWED
    )
    found = []
    assert peak(lambda: found.append(store.search_runs(["0"], "", ViewType.ALL, 5000))) > ALLOWED


@pytest.mark.slow
def test_a_page_of_many_model_versions_takes_no_memory_for_the_others(database):
    store = TimescaleRegistryStore(database.url)
    store.create_registered_model("model")
    with db.connect(database, autocommit=True) as conn:
        conn.execute("ALTER TABLE model_versions DISABLE TRIGGER USER")
        conn.execute("ALTER TABLE model_version_tags DISABLE TRIGGER USER")
        conn.execute(
            "INSERT INTO model_versions (name, version, creation_time, current_stage, status)"
            " SELECT 'model', i, i, 'None', 'READY' FROM generate_series(1, 8000) AS i"
        )
        conn.execute(
            "INSERT INTO model_version_tags (name, version, key, value)"
            " SELECT 'model', i, 'k' || k, repeat('v', 100)"
            " FROM generate_series(1, 8000) AS i, generate_series(1, 5) AS k"
        )
        conn.execute("ANALYZE")
    store.search_model_versions("name = 'model'", 10)
    store.search_registered_models()
    assert peak(lambda: store.search_model_versions("tags.k1 LIKE 'v%'", 10)) < ALLOWED
    assert peak(lambda: store.search_registered_models("name LIKE 'm%'")) < ALLOWED


@pytest.mark.slow
def test_adopting_releasing_and_importing_take_no_memory_for_the_points(vanilla_database, database):
    store = SqlAlchemyStore(vanilla_url(vanilla_database), "/artifacts")
    add_points(vanilla_database, start(store))
    with (
        db.connect(vanilla_database, autocommit=True) as theirs,
        db.connect(database, autocommit=True) as ours,
    ):
        # A row of the source at a time would be 10,000 of them: its driver's window.
        assert peak(lambda: import_from(vanilla_url(vanilla_database), ours)) < 2 * ALLOWED
        assert peak(lambda: adopt(theirs)) < ALLOWED
        assert peak(lambda: release(theirs)) < ALLOWED
