"""Retention goes by when a run was last written, and keeps what others need."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import mlflow
import psycopg
import pytest
from click.testing import CliRunner, Result
from mlflow.entities import Metric, RunTag

from mlflow_timescale import db
from mlflow_timescale.cli import cli
from mlflow_timescale.db.migrations import facts
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.adopt import release
from mlflow_timescale.operations.retention import RetentionError, forecast, remove
from mlflow_timescale.registry.store import TimescaleRegistryStore
from mlflow_timescale.tracking.store import TimescaleTrackingStore

DAY = 86_400_000
NOW = datetime.now(timezone.utc)
NOW_MS = int(NOW.timestamp() * 1000)
YEAR_AGO = NOW - timedelta(days=365)
MARKET_TIME = 1_451_606_400_000  # 2016


@pytest.fixture
def store(database: DatabaseURI) -> TimescaleTrackingStore:
    return TimescaleTrackingStore(database.url, "/artifacts")


Log = Callable[..., str]


@pytest.fixture
def log(store: TimescaleTrackingStore, conn: psycopg.Connection) -> Log:
    """Makes a run with 250 points of 2016, as a backtest does, written `days` ago."""

    def make(days: int, *tags: RunTag) -> str:
        start = NOW_MS - days * DAY
        run_id = store.create_run("0", "me", start, list(tags), f"{days} days ago").info.run_id
        points = [Metric("equity", float(s), MARKET_TIME + s * DAY, s) for s in range(250)]
        store.log_batch(run_id, points, [], [])
        conn.execute(
            "UPDATE mlops.run_ranges SET written_on = current_date - %s WHERE run_uuid = %s",
            [days, run_id],
        )
        return run_id

    return make


def invoke(database: DatabaseURI, *arguments: str, answer: str = "y\n") -> Result:
    command = ["retention", "--uri", database.url, *arguments]
    return CliRunner().invoke(cli, command, input=answer, catch_exceptions=False)


def points(store: TimescaleTrackingStore, run_id: str) -> int:
    return len(store.get_metric_history(run_id, "equity"))


def test_a_backtest_of_today_keeps_its_points_of_years_ago(
    database: DatabaseURI, store: TimescaleTrackingStore, log: Log
) -> None:
    new, old = log(0), log(400)
    result = invoke(database, "--days", "365")
    assert "to remove: 250 points of 1 runs last written before" in result.output
    assert "points of 2016-01-01 to 2016-09-06" in result.output
    assert f"written {NOW - timedelta(days=399):%Y-%m-%d}" in result.output
    assert "removed 250 points" in result.output
    assert (points(store, new), points(store, old)) == (250, 0)
    assert store.get_run(old).data.metrics == {"equity": 249.0}


def test_a_run_of_long_ago_that_is_written_today_is_kept(
    store: TimescaleTrackingStore, conn: psycopg.Connection, log: Log
) -> None:
    run_id = log(400)
    store.log_metric(run_id, Metric("equity", 1.0, MARKET_TIME, 9999))
    assert forecast(conn, YEAR_AGO).points == 0
    assert remove(conn, YEAR_AGO) == 0
    assert points(store, run_id) == 251


@pytest.mark.parametrize("arguments", [("--dry-run",), ()])
def test_a_dry_run_and_an_answer_of_no_change_nothing(
    database: DatabaseURI, store: TimescaleTrackingStore, log: Log, arguments: tuple[str, ...]
) -> None:
    old = log(400)
    result = invoke(database, "--days", "365", *arguments, answer="n\n")
    assert "to remove: 250 points" in result.output
    assert points(store, old) == 250


def test_points_go_by_their_own_time_on_request_only(
    database: DatabaseURI, store: TimescaleTrackingStore, log: Log
) -> None:
    new = log(0)
    assert "nothing to remove" in invoke(database, "--days", "365").output
    result = invoke(database, "--days", "365", "--by-point-time", "--yes")
    assert "250 points of 1 runs with timestamps before" in result.output
    assert points(store, new) == 0


def test_a_run_that_lies_about_the_cut_keeps_its_later_points(
    store: TimescaleTrackingStore, conn: psycopg.Connection, log: Log
) -> None:
    run_id = log(0)
    before = datetime.fromtimestamp((MARKET_TIME + 100 * DAY) / 1000, timezone.utc)
    assert remove(conn, before, by_point_time=True) == 100
    history = store.get_metric_history(run_id, "equity")
    assert [metric.step for metric in history] == list(range(100, 250))


def test_runs_of_versions_and_of_the_monitor_are_kept(
    database: DatabaseURI, store: TimescaleTrackingStore, conn: psycopg.Connection, log: Log
) -> None:
    by_run_id, by_source, by_model = log(400), log(400), log(400)
    of_deleted, other = log(400), log(400)
    series, session = log(400, RunTag("drift.role", "series")), log(400)
    mlflow.set_tracking_uri(database.url)  # by which the registry finds a logged model
    registry = TimescaleRegistryStore(database.url)
    registry.create_registered_model("momentum")
    registry.create_model_version("momentum", "s3://elsewhere", by_run_id)
    registry.create_model_version("momentum", f"runs:/{by_source}/model")
    model = store.create_logged_model("0", "model", by_model)
    registry.create_model_version("momentum", f"models:/{model.model_id}")
    registry.create_model_version("momentum", "s3://elsewhere", of_deleted)
    registry.delete_model_version("momentum", "4")
    conn.execute(
        "INSERT INTO mlops.drift_runs (strategy_id, session, revision, session_number, status,"
        " as_of, mlflow_run_id) VALUES ('s', '2024-01-02', 1, 1, 'ok', now(), %s)",
        [session],
    )
    for by_point_time in (False, True):
        going = forecast(conn, YEAR_AGO, by_point_time=by_point_time)
        assert going.run_ids == sorted([of_deleted, other])
        assert going.needed == {"a registered version": 3, "the drift monitor": 2}
    assert (
        "kept: 3 runs that a registered version needs"
        in invoke(database, "--days", "365", "--yes").output
    )
    for run_id in (by_run_id, by_source, by_model, series, session):
        assert points(store, run_id) == 250
    assert points(store, other) == 0


def test_of_runs_from_before_this_version_their_own_times_decide(
    store: TimescaleTrackingStore, conn: psycopg.Connection, log: Log
) -> None:
    old, recent = log(400), log(10)
    conn.execute("UPDATE mlops.run_ranges SET written_on = NULL")
    assert forecast(conn, YEAR_AGO).run_ids == [old]
    store.update_run_info(old, None, NOW_MS, None)
    assert forecast(conn, YEAR_AGO).run_ids == []
    assert points(store, recent) == 250


def test_chunks_without_a_point_are_dropped(
    store: TimescaleTrackingStore, conn: psycopg.Connection, log: Log
) -> None:
    if "timescale" not in facts(conn):
        pytest.skip("needs TimescaleDB")
    log(400)
    chunks = "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'metrics'"
    assert conn.execute(chunks).fetchone() > (5,)
    remove(conn, YEAR_AGO)
    assert conn.execute(chunks).fetchone() == (0,)
    assert points(store, log(0)) == 250


def test_a_database_of_plain_mlflow_is_refused(vanilla_database: DatabaseURI) -> None:
    with db.connect(vanilla_database, autocommit=True) as conn:
        db.migrate(conn)
        release(conn)
        with pytest.raises(RetentionError, match="adopt"):
            forecast(conn, YEAR_AGO)
