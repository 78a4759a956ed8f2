"""One read on several connections."""

from __future__ import annotations

import threading
from datetime import timedelta

import numpy as np
import pandas as pd
import psycopg
import pytest
from support.bitemporal import at

from feature_store import FeatureStore
from feature_store.read import lookups, plans
from feature_store.read.readers import Readers
from feature_store.values import stored
from mlflow_timescale.db import Database, arrays
from mlflow_timescale.db.rows import scalar

CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'together %'"


@pytest.fixture
def database(store: FeatureStore):
    made = Database(store.uri, setup=arrays.register)
    yield made
    made.close()


def pid_of(conn, meeting=None):
    if meeting:
        meeting.wait(timeout=30)
    return conn.execute("SELECT pg_backend_pid()").fetchone()[0]


def test_parts_are_asked_at_once_and_answered_in_their_order(database):
    meeting = threading.Barrier(3)  # passed only if three are under way together
    with database.connection() as conn, conn.transaction(), Readers(conn, database, 3) as readers:
        found = list(readers.map(lambda c, part: (part, pid_of(c, meeting)), range(6)))
    assert [part for part, _ in found] == list(range(6))
    assert len({pid for _, pid in found}) == 3


def test_one_part_is_asked_on_the_connection_itself(database):
    with database.connection() as conn, conn.transaction(), Readers(conn, database, 3) as readers:
        assert list(readers.map(lambda c, _: pid_of(c), [0])) == [conn.info.backend_pid]


def test_all_see_what_the_transaction_sees(database, store):
    store.write_features("A", at(0), {"rsi": 1.0}, ingest_time=at(0))

    def count(conn, _):
        return conn.execute("SELECT count(*) FROM mlops.feature_points").fetchone()[0]

    with database.connection() as conn, conn.transaction(), Readers(conn, database, 3) as readers:
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        assert count(conn, None) == 1
        store.write_features("A", at(1), {"rsi": 2.0}, ingest_time=at(1))
        assert list(readers.map(count, range(6))) == [1] * 6


def test_an_error_in_a_part_is_the_callers_and_no_connection_is_lost(database):
    def ask(conn, part):
        return conn.execute("SELECT 1 / %s", [part]).fetchone()[0]

    with (
        pytest.raises(psycopg.errors.DivisionByZero),
        database.connection() as conn,
        conn.transaction(),
        Readers(conn, database, 3) as readers,
    ):
        list(readers.map(ask, [1, 1, 1, 0, 1, 1, 1]))
    with database.connection() as conn, conn.transaction(), Readers(conn, database, 3) as readers:
        assert list(readers.map(ask, [1] * 5)) == [1] * 5


@pytest.mark.parametrize("plan", ["lookup", "stream"])
@pytest.mark.parametrize("max_age", [None, timedelta(hours=30)])
def test_a_shared_read_gives_the_frame_of_a_single_one(store, monkeypatch, plan, max_age):
    rng = np.random.default_rng(7)
    keys = pd.MultiIndex.from_product([[f"E{i}" for i in range(12)], range(0, 240, 24)])
    events = pd.DatetimeIndex([at(hour) for hour in keys.get_level_values(1)])
    frame = pd.DataFrame({"entity_key": keys.get_level_values(0), "event_time": events})
    for feature in ("rsi", "beta", "size"):
        frame[feature] = rng.normal(size=len(frame))
    store.write_frame(frame, availability_lag=timedelta(hours=4))
    store.write_frame(frame.assign(rsi=0.5), ingest_time=None, restate=True)
    hours = rng.uniform(-10, 260, 400)
    spine = pd.DataFrame(
        {"entity_key": [f"E{i}" for i in rng.integers(0, 13, 400)], "as_of": [at(h) for h in hours]}
    )
    wanted = {"max_age": max_age, "plan": plan, "event_times": True}
    with FeatureStore(store.uri, readers=1) as alone:
        expected = alone.training_frame(spine, ["rsi", "beta", "size"], **wanted)
    for module in (lookups, plans):
        monkeypatch.setattr(module, "_SMALLEST_PART", 1)
    shared = Database(store.uri, application="together", setup=stored.register)
    with FeatureStore(shared, readers=3) as together:
        found = together.training_frame(spine, ["rsi", "beta", "size"], **wanted)
        with store.connection() as conn:
            assert scalar(conn, CONNECTIONS) == 3
    pd.testing.assert_frame_equal(found, expected)
    assert found["rsi"].notna().sum() > 100
