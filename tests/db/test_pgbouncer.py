"""Everything through a real PgBouncer in transaction mode, with the settings it comes with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pandas as pd
import pytest
from mlflow.entities import Metric, Param, RunTag
from support.pgbouncer import PROGRAM, pgbouncer

from feature_store import FeatureStore
from mlflow_timescale import db
from mlflow_timescale.db import ConnectionFailed, Database, DatabaseURI, MigrationError
from mlflow_timescale.db.rows import scalar

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="there is no pgbouncer here"),
]
START = datetime(2024, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def pooler(database: DatabaseURI) -> Iterator[DatabaseURI]:
    with pgbouncer(database) as uri:
        yield uri


def in_threads(work, count: int = 6) -> list[object]:
    """Run something in several threads at once, so that they change places on the server."""
    begin = threading.Barrier(count)

    def run(number: int) -> object:
        begin.wait()
        return work(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


def test_tracking_calls_from_several_threads(pooler: DatabaseURI) -> None:
    from mlflow_timescale.tracking.store import TimescaleTrackingStore

    store = TimescaleTrackingStore(pooler.url, "/artifacts")
    runs = [store.create_run("0", "me", 1, [], f"run {i}").info.run_id for i in range(6)]

    def work(number: int) -> None:
        for step in range(30):
            store.log_metric(runs[number], Metric("m", step, step + 1, step))
            store.log_batch(
                runs[number], [Metric("b", step, 1, step)], [Param("p", "1")], [RunTag("t", "1")]
            )
            store.get_run(runs[number])
        store.search_runs(["0"], "metrics.m > 1", 1, 10)

    in_threads(work)
    assert [len(store.get_metric_history(run, "m")) for run in runs] == [30] * 6
    store.engine.dispose()


def test_features_from_several_threads(pooler: DatabaseURI) -> None:
    spine = pd.DataFrame({"entity_key": ["E0"] * 50, "as_of": [START + timedelta(days=9)] * 50})
    with FeatureStore(pooler) as store:

        def work(number: int) -> None:
            for day in range(8):
                event = START + timedelta(days=day)
                store.write_features(f"E{number}", event, {"x": float(day)}, ingest_time=event)
                latest = store.get_latest(f"E{number}", ["x"])["x"]
                assert (latest.value, latest.event_time) == (float(day), event)
            assert len(store.history(f"E{number}", "x")) == 8

        in_threads(work)
        assert store.training_frame(spine, ["x"])["x"].tolist() == [7.0] * 50


def test_a_read_on_several_connections_and_an_export(pooler: DatabaseURI, tmp_path) -> None:
    frame = pd.DataFrame({"entity_key": [f"E{i}" for i in range(50)], "event_time": START})
    with FeatureStore(pooler, readers=2) as store:
        store.write_frame(frame.assign(x=1.0), availability_lag=timedelta(0))
        assert store.export(tmp_path / "lake").points == 50
        with store.database.transaction() as conn:
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            with store.database.readers(conn, 2) as conns:
                assert [scalar(c, "SELECT count(*) FROM mlops.feature_points") for c in conns] == [
                    50,
                    50,
                ]


def test_settings_of_the_database_do_not_change_an_answer(
    database: DatabaseURI, conn: db.Connection
) -> None:
    for setting in ("datestyle = 'German'", "timezone = 'Asia/Kathmandu'"):
        conn.execute(f"ALTER DATABASE {database.dbname} SET {setting}".encode())
    with pgbouncer(database) as uri:
        pooled = Database(uri)

        def work(number: int) -> set[object]:
            with pooled.connection() as conn:
                return {scalar(conn, "SELECT '2024-05-06T00:00Z'::timestamptz") for _ in range(20)}

        moment = datetime(2024, 5, 6, tzinfo=timezone.utc)
        assert in_threads(work) == [{moment}] * 6
        pooled.close()


def test_a_setting_that_the_pooler_cannot_give_is_an_error_that_names_it(
    database: DatabaseURI, conn: db.Connection
) -> None:
    conn.execute(f"ALTER DATABASE {database.dbname} SET extra_float_digits = 0".encode())
    with pgbouncer(database, "ignore_startup_parameters = options") as uri:
        with pytest.raises(ConnectionFailed, match="RESET extra_float_digits") as caught:
            Database(uri).check()
        assert caught.value.permanent


def test_a_direct_connection_prepares_statements_and_one_through_a_pooler_does_not(
    database: DatabaseURI, pooler: DatabaseURI
) -> None:
    with db.connect(database) as direct, db.connect(pooler) as through:
        assert direct.prepare_threshold is not None
        assert through.prepare_threshold is None


def test_the_uri_can_ask_for_prepared_statements(pooler: DatabaseURI) -> None:
    uri = DatabaseURI.parse(f"{pooler.url}?prepared_statements=true")
    with db.connect(uri) as conn:
        assert conn.prepare_threshold is not None


def test_a_new_database_is_not_set_up_through_a_pooler(empty_database: DatabaseURI) -> None:
    with (
        pgbouncer(empty_database) as uri,
        pytest.raises(MigrationError, match="URI of the server itself"),
    ):
        Database(uri).prepare()
    with db.connect(empty_database) as conn:
        assert scalar(conn, "SELECT to_regclass('mlops.migrations')") is None
