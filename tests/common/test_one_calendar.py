"""Features, drift, health and lags use one calendar, with the overrides of the database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import psycopg
import pytest
from click.testing import CliRunner, Result

from drift import DriftMonitor
from feature_store import FeatureStore, FeatureView, SessionRule
from mlflow_timescale.cli import cli
from mlflow_timescale.common import schedules
from mlflow_timescale.common.calendar_overrides import read_calendar
from mlflow_timescale.common.calendars import TradingCalendar, UnknownCalendar
from mlflow_timescale.common.time import InvalidTime
from mlflow_timescale.db.uri import DatabaseURI

UTC, NEW_YORK = timezone.utc, ZoneInfo("America/New_York")
FRIDAY, TUESDAY = date(2024, 1, 12), date(2024, 1, 16)  # Monday is a holiday
UNKNOWN = r"no trading calendar 'XNYX' \(did you mean .*XNYS"


def close(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 16, tzinfo=NEW_YORK)


@pytest.fixture
def store(database: DatabaseURI) -> Iterator[FeatureStore]:
    with FeatureStore(database, producer="tests") as opened:
        yield opened


@pytest.fixture
def monitor(database: DatabaseURI) -> DriftMonitor:
    monitor = DriftMonitor(database, "momentum", tracking_uri=False, notify=())
    monitor.configure()
    return monitor


@pytest.fixture
def run(database: DatabaseURI) -> Callable[..., Result]:
    def call(*arguments: str) -> Result:
        return CliRunner().invoke(cli, [*arguments, "--uri", database.url])

    return call


def test_a_storm_day_ages_no_feature(store: FeatureStore, monitor: DriftMonitor) -> None:
    view = FeatureView("technical", ["rsi"], max_staleness=timedelta(days=1))
    store.register(view)
    store.write_features("AAPL", close(FRIDAY), {"rsi": 1.0}, ingest_time=close(FRIDAY))
    wednesday = close(date(2024, 1, 17))
    before = store.health(as_of=wednesday, calendar="XNYS")
    assert [entry.age for entry in before.stale] == [timedelta(days=2)]
    assert TUESDAY in before.sessions
    monitor.override_session(TUESDAY, is_session=False, why="storm")
    after = store.health(as_of=wednesday, calendar="XNYS")
    assert (after.stale, after.freshness[0].age) == ([], timedelta(days=1))
    assert TUESDAY not in after.sessions


def test_a_lag_waits_for_the_session_after_a_storm_day(
    store: FeatureStore, monitor: DriftMonitor
) -> None:
    monitor.override_session(TUESDAY, is_session=False, why="storm")
    known = datetime(2024, 1, 17, 9, 30, tzinfo=NEW_YORK)
    store.write_features("A", close(FRIDAY), {"x": 1.0}, availability_lag="XNYS next open")
    assert store.get_latest("A")["x"].ingest_time == known
    frame = pd.DataFrame({"entity_key": ["B"], "event_time": [close(FRIDAY)], "x": [1.0]})
    store.write_frame(
        iter([frame, frame.assign(entity_key="C")]), availability_lag="NYSE next open"
    )
    assert store.get_latest("C")["x"].ingest_time == known
    rule = SessionRule(TradingCalendar("XNYS"))  # a calendar that is given is used as it is
    store.write_features("D", close(FRIDAY), {"x": 1.0}, availability_lag=rule)
    assert store.get_latest("D")["x"].ingest_time == known - timedelta(days=1)


def test_an_override_holds_under_every_name_of_a_calendar(
    monitor: DriftMonitor, conn: psycopg.Connection
) -> None:
    monitor.override_session(TUESDAY, is_session=False, why="storm")
    assert not read_calendar(conn, "NYSE").is_session(TUESDAY)
    assert not monitor.calendar.is_session(TUESDAY)
    assert read_calendar(conn, "XLON").is_session(TUESDAY)


def test_weekdays_are_a_calendar_for_every_command(
    run: Callable[..., Result], store: FeatureStore, tmp_path: Path
) -> None:
    frame = {"entity_key": ["A"], "event_time": ["2024-01-12T21:00Z"], "x": [1.0]}
    pd.DataFrame(frame).to_csv(tmp_path / "x.csv", index=False)
    written = run("features", "write", str(tmp_path / "x.csv"), "--lag", "weekdays next open")
    assert written.exit_code == 0, written.output
    assert store.get_latest("A")["x"].ingest_time == datetime(2024, 1, 15, tzinfo=UTC)
    health = ("--calendar", "weekdays", "--as-of", "2024-01-15T21:00Z", "--json")
    report = json.loads(run("features", "health", *health).output)
    assert report["freshness"][0]["age"] == 86_400
    again = run("features", "write", str(tmp_path / "x.csv"), "--lag", "24/7 next close")
    assert again.exit_code == 0, again.output
    limit = ("--calendar", "XNYS", "--as-of", "2024-01-16T21:00Z", "--max-staleness")
    assert run("features", "health", *limit, "1 session").exit_code == 0
    assert run("features", "health", *limit, "23h").exit_code != 0
    DriftMonitor(store.uri, "weekly", calendar="weekdays", tracking_uri=False).configure()


def test_an_unknown_calendar_is_one_error_everywhere(
    store: FeatureStore, run: Callable[..., Result]
) -> None:
    rule = "XNYX next open"
    refused: list[Callable[[], object]] = [
        lambda: TradingCalendar("XNYX"),
        lambda: store.health(calendar="XNYX"),
        lambda: store.write_features("A", close(FRIDAY), {"x": 1}, availability_lag=rule),
        lambda: DriftMonitor(store.uri, "new", calendar="XNYX", tracking_uri=False).configure(),
    ]
    for call in refused:
        with pytest.raises(UnknownCalendar, match=UNKNOWN):
            call()


def test_weekdays_follow_a_calendars_end_in_the_feature_store_too(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = schedules._published

    def ends_soon(name: str, first: date, last: date) -> schedules.Schedule:
        return published(name, first, min(last, date(2024, 6, 28)))

    monkeypatch.setattr(schedules, "_published", ends_soon)
    schedules.schedule.cache_clear()
    try:
        wednesday = close(date(2024, 7, 3))
        store.write_features("A", wednesday, {"x": 1.0}, availability_lag="XNYS next open")
        known = store.get_latest("A")["x"].ingest_time
        report = store.health(as_of=close(date(2024, 7, 8)), calendar="XNYS")
    finally:
        schedules.schedule.cache_clear()
    # Independence Day and the weekend: the calendar no longer knows the former.
    assert known == datetime(2024, 7, 4, 9, 30, tzinfo=NEW_YORK)
    assert report.freshness[0].age == timedelta(days=3)


def test_a_limit_may_count_sessions(store: FeatureStore) -> None:
    store.write_features("A", close(FRIDAY), {"x": 1.0}, ingest_time=close(FRIDAY))
    wednesday = close(date(2024, 1, 17))
    assert not store.health(as_of=wednesday, calendar="XNYS", max_staleness="2 sessions").is_stale
    assert store.health(as_of=wednesday, calendar="XNYS", max_staleness="1 session").is_stale
    assert store.health(as_of=wednesday, max_staleness="4d").is_stale
    with pytest.raises(InvalidTime, match="2 sessions, which needs a calendar"):
        store.health(as_of=wednesday, max_staleness="2 sessions")


def test_durations_in_python_are_spelled_as_in_commands(store: FeatureStore) -> None:
    view = FeatureView("technical", ["x"], max_staleness="3d")
    assert view == FeatureView("technical", ["x"], max_staleness=timedelta(days=3))
    store.register(view)
    assert store.views() == [view]
    store.write_features("A", close(FRIDAY), {"x": 1.0}, availability_lag="4h")
    tuesday = close(TUESDAY)
    assert store.get_latest("A", as_of=tuesday, max_age="5d")["x"].value == 1.0
    assert store.get_latest("A", as_of=tuesday, max_age="3d") == {}
    spine = [("A", tuesday)]
    assert store.training_frame(spine, "x", max_age="5d")["x"].tolist() == [1.0]
    assert store.training_frame(spine, "x", max_age="3d")["x"].isna().all()
    assert len(store.get_point_in_time(spine, ["x"], max_age="4d 12h")) == 1
    with pytest.raises(InvalidTime, match="max_age is 1 session, which has no fixed length"):
        store.training_frame(spine, "x", max_age="1 session")
    with pytest.raises(InvalidTime, match="max_age 'soon' is not a duration"):
        store.get_latest("A", max_age="soon")
