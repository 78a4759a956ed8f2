"""How often a call waits for the server: once."""

from __future__ import annotations

import pytest
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy import event, text

from mlflow_timescale.tracking.store import TimescaleTrackingStore


class Wire:
    """What libpq sends and receives on the connections of a store."""

    def __init__(self, store, path):
        self.path = path
        self.file = path.open("wb", buffering=0)
        event.listen(store.engine, "connect", self.listen)
        store.engine.dispose()

    def listen(self, connection, record):
        connection.pgconn.trace(self.file.fileno())

    def round_trips(self, call):
        """The server reports that it is ready once per wait of the client."""
        call()  # statements are prepared, the pool knows the connection
        before = self.heard()
        call()
        return self.heard() - before

    def heard(self):
        return self.path.read_text(errors="replace").count("ReadyForQuery")


@pytest.fixture
def store(database):
    return TimescaleTrackingStore(database.url, "/artifacts")


@pytest.fixture
def run(store):
    return store.create_run("0", "me", 1, [], "run").info.run_id


@pytest.fixture
def wire(store, run, tmp_path):
    return Wire(store, tmp_path / "trace")


CALLS = {
    "log_metric": lambda store, run: store.log_metric(run, Metric("m", 1.0, 1, 1)),
    "log_param": lambda store, run: store.log_param(run, Param("p", "1")),
    "set_tag": lambda store, run: store.set_tag(run, RunTag("t", "1")),
    "log_batch of metrics": lambda store, run: store.log_batch(
        run, [Metric("m", float(i), i, i) for i in range(1000)], [], []
    ),
    "log_batch of everything": lambda store, run: store.log_batch(
        run, [Metric("m", 1.0, 1, 1)], [Param("p", "1")], [RunTag("t", "1")]
    ),
    "create_run": lambda store, run: store.create_run("0", "me", 1, [RunTag("t", "1")], "r"),
    "get_run": lambda store, run: store.get_run(run),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_one_round_trip(store, run, wire, name):
    assert wire.round_trips(lambda: CALLS[name](store, run)) == 1


def test_a_search_is_few_round_trips(store, run, wire):
    # A session of MLflow's: begin, the search, what belongs to the runs, commit.
    assert wire.round_trips(lambda: store.search_runs(["0"], "", 1, 10)) == 4


def test_a_connection_that_the_server_ended_is_replaced_at_once(store, run, conn):
    store.log_metric(run, Metric("m", 1.0, 1, 1))
    conn.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE application_name LIKE 'mlflow %' AND datname = current_database()"
    )
    store.log_metric(run, Metric("m", 2.0, 2, 2))
    assert store.get_run(run).data.metrics == {"m": 2.0}


def test_a_connection_that_rested_is_asked_whether_it_is_alive(store, run, wire, monkeypatch):
    monkeypatch.setattr("mlflow_timescale.db.connection.TRUSTED_SECONDS", 0.0)
    assert wire.round_trips(lambda: store.log_metric(run, Metric("m", 1.0, 1, 1))) == 2


def test_a_session_after_a_native_call_still_rolls_back(store, run):
    store.log_metric(run, Metric("m", 1.0, 1, 1))

    def fail_half_way():
        with store.ManagedSessionMaker(read_only=False) as session:
            session.execute(text("DELETE FROM latest_metrics"))
            raise ZeroDivisionError

    with pytest.raises(MlflowException):
        fail_half_way()
    assert store.get_run(run).data.metrics == {"m": 1.0}
