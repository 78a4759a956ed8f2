"""How old a value may be: max_age, the maximum staleness of views, calendars, and no limit."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from feature_store import FeatureStore, FeatureView, InvalidFrame, InvalidTime, Lake, load_snapshot
from feature_store.files.snapshots import rebuild
from feature_store.read.ages import AgeLimit, on_calendars
from feature_store.read.query import PointInTimeQuery
from mlflow_timescale.common.calendar_overrides import record_override
from mlflow_timescale.common.calendars import UnknownCalendar
from mlflow_timescale.common.schedules import Override
from mlflow_timescale.common.time import SessionCount

NEW_YORK = ZoneInfo("America/New_York")
NOW = timedelta(0)
FRIDAY = datetime(2024, 1, 5, 16, tzinfo=NEW_YORK)  # the close
MONDAY = datetime(2024, 1, 8, 9, tzinfo=NEW_YORK)
MONDAY_EVENING = datetime(2024, 1, 8, 16, 1, tzinfo=NEW_YORK)
ONE_SESSION = FeatureView("momentum", ["x"], max_staleness="1 session", calendar="XNYS")
ONE_DAY = FeatureView("momentum", ["x"], max_staleness="1d")
FOREVER = datetime.max.replace(tzinfo=timezone.utc)


@pytest.fixture
def filled(store: FeatureStore) -> FeatureStore:
    store.write_features("A", FRIDAY, {"x": 1.0}, availability_lag=NOW)
    return store


def answers(store: FeatureStore, as_of: datetime, features: Any, **limits: Any) -> set[bool]:
    """Whether each way to read has the value; the same for all of them."""
    spine = [("A", as_of)]
    frames = [store.training_frame(spine, features, plan=p, **limits) for p in ("lookup", "stream")]
    reason = store.explain(spine, features, **limits)["reason"][0]
    assert reason in ("expired", None) or pd.isna(reason)
    return {
        *(not np.isnan(frame["x"][0]) for frame in frames),
        "x" in store.get_latest("A", features, as_of=as_of, **limits),
        len(store.get_point_in_time(spine, features, **limits)) == 1,
        reason != "expired",
    }


def test_one_session_is_a_long_weekend_and_no_longer(filled: FeatureStore) -> None:
    assert answers(filled, MONDAY, "x", max_age="1d") == {False}
    assert answers(filled, MONDAY, "x", max_age="1 session", calendar="XNYS") == {True}
    assert answers(filled, MONDAY_EVENING, "x", max_age="1 session", calendar="XNYS") == {False}
    assert answers(filled, MONDAY_EVENING, "x", max_age="2 sessions", calendar="XNYS") == {True}
    assert answers(filled, MONDAY, "x", max_age="17h", calendar="XNYS") == {True}
    assert answers(filled, MONDAY, "x", max_age="16h", calendar="XNYS") == {False}
    assert answers(filled, MONDAY, ["x"], max_age=SessionCount(1), calendar="NYSE") == {True}


def test_sessions_need_a_calendar_of_the_call_or_of_the_view(filled: FeatureStore) -> None:
    message = "max_age is 1 session, which has no fixed length without a calendar; give calendar="
    for read in (filled.training_frame, filled.explain):
        with pytest.raises(InvalidTime, match=message):
            read([("A", MONDAY)], "x", max_age="1 session")
    with pytest.raises(InvalidTime, match=message):
        filled.get_latest("A", max_age="1 session")
    with pytest.raises(UnknownCalendar, match="XNYX"):
        filled.get_latest("A", max_age="1 session", calendar="XNYX")
    assert answers(filled, MONDAY, ONE_SESSION, max_age="1 session") == {True}


def test_a_feature_is_counted_by_the_calendar_of_its_registered_view(filled: FeatureStore) -> None:
    filled.register(ONE_SESSION)
    assert answers(filled, MONDAY, "x", max_age="1 session") == {True}
    assert answers(filled, MONDAY_EVENING, "x", max_age="1 session") == {False}
    assert "x" in filled.get_latest("A", as_of=MONDAY, max_age="1 session")
    assert "x" not in filled.get_latest("A", as_of=MONDAY_EVENING, max_age="1 session")
    filled.write_features("A", FRIDAY, {"y": 1.0}, availability_lag=NOW)
    with pytest.raises(InvalidTime, match="has no fixed length without a calendar"):
        filled.training_frame([("A", MONDAY)], ["x", "y"], max_age="1 session")


def test_the_maximum_staleness_of_a_view_holds_when_the_view_is_read(filled: FeatureStore) -> None:
    assert answers(filled, MONDAY, ONE_SESSION) == {True}
    assert answers(filled, MONDAY_EVENING, ONE_SESSION) == {False}
    assert answers(filled, MONDAY, ONE_DAY) == {False}
    assert answers(filled, MONDAY_EVENING, ONE_SESSION, max_staleness=None) == {True}
    assert answers(filled, MONDAY_EVENING, ONE_SESSION, max_staleness="2 sessions") == {True}
    assert answers(filled, MONDAY_EVENING, ONE_SESSION, max_age="30d") == {False}  # both hold
    assert answers(filled, MONDAY_EVENING, ["x"]) == {True}  # the feature, not the view


def test_a_view_keeps_its_calendar(store: FeatureStore) -> None:
    assert store.register(ONE_SESSION)
    assert not store.register(ONE_SESSION)
    assert store.view("momentum") == ONE_SESSION
    assert FeatureView("v", ["x"], calendar="NYSE").calendar == "XNYS"
    with pytest.raises(InvalidTime, match="give a calendar such as 'XNYS'"):
        FeatureView("v", ["x"], max_staleness="1 session")
    with pytest.raises(UnknownCalendar, match="XNYX"):
        FeatureView("v", ["x"], calendar="XNYX")


def test_health_ages_a_view_by_its_own_calendar(filled: FeatureStore) -> None:
    filled.register(ONE_SESSION)
    assert not filled.health(as_of=MONDAY).is_stale
    [stale] = filled.health(as_of=MONDAY_EVENING).stale
    assert stale.max_staleness == timedelta(days=1)
    assert stale.age == timedelta(days=1, minutes=1)


def test_a_closed_day_that_is_recorded_ages_nothing(filled: FeatureStore) -> None:
    tuesday = datetime(2024, 1, 9, 9, tzinfo=NEW_YORK)
    spine = {"entity_key": ["A"], "as_of": [tuesday]}
    query = PointInTimeQuery(ONE_SESSION)
    with filled.connection() as conn, conn.transaction(force_rollback=True):
        assert on_calendars(conn, query.limits)["x"][0].expired(*micros(FRIDAY, tuesday)).all()
        record_override(conn, "XNYS", Override(date(2024, 1, 8), False, why="storm"))
        limit = on_calendars(conn, query.limits)["x"][0]
    assert not limit.expired(*micros(FRIDAY, tuesday)).any()
    recorded = AgeLimit.from_dict(json.loads(json.dumps(limit.to_dict())))
    assert not recorded.expired(*micros(FRIDAY, tuesday)).any()
    assert filled.training_frame(spine, ONE_SESSION)["x"].isna().all()


def micros(*moments: datetime) -> list[Any]:
    return [np.array([int(moment.timestamp() * 1_000_000)]) for moment in moments]


def test_a_snapshot_records_the_rule_and_rebuilds_by_it(
    filled: FeatureStore, tmp_path: Path
) -> None:
    spine = [("A", MONDAY), ("A", MONDAY_EVENING)]
    written = filled.snapshot(spine, ONE_SESSION, tmp_path / "s", max_age="5d")
    values = written.to_pandas()["x"]
    assert values[0] == 1.0
    assert np.isnan(values[1])
    rules = json.loads((tmp_path / "s" / "manifest.json").read_text())["age_limits"]["x"]
    assert [(rule["length"], rule["calendar"]) for rule in rules] == [
        ("5d", None),
        ("1 session", "XNYS"),
    ]
    assert rebuild(filled.database, load_snapshot(tmp_path / "s")) == written.fingerprint
    free = filled.snapshot(spine, ONE_SESSION, tmp_path / "free", max_staleness=None)
    assert free.to_pandas()["x"].tolist() == [1.0, 1.0]
    sessions = filled.snapshot(spine, "x", tmp_path / "n", max_age="1 session", calendar="XNYS")
    assert load_snapshot(tmp_path / "n").manifest.max_age == SessionCount(1)
    assert sessions.fingerprint == written.fingerprint


def test_an_older_manifest_rebuilds_without_the_rule(filled: FeatureStore, tmp_path: Path) -> None:
    spine = [("A", MONDAY_EVENING)]
    filled.register(ONE_SESSION)
    written = filled.snapshot(spine, ONE_SESSION, tmp_path / "s", max_staleness=None)
    path = tmp_path / "s" / "manifest.json"
    plain = json.loads(path.read_text())
    older = {k: v for k, v in plain.items() if k not in ("age_limits", "fingerprint_version")}
    path.write_text(json.dumps(older))
    assert rebuild(filled.database, load_snapshot(tmp_path / "s")) == written.fingerprint
    path.write_text(json.dumps(older | {"max_age": 3600.0}))
    assert rebuild(filled.database, load_snapshot(tmp_path / "s")) != written.fingerprint


def test_the_lake_has_the_same_limits(filled: FeatureStore, tmp_path: Path) -> None:
    filled.export(tmp_path / "lake")
    lake = Lake(tmp_path / "lake")
    spine = [("A", MONDAY), ("A", MONDAY_EVENING)]
    for options in ({}, {"max_staleness": None}, {"max_age": "1h"}, {"max_age": "1 session"},
                    {"max_age": "1h", "calendar": "XNYS"}, {"max_age": timedelta.max}):  # fmt: skip
        left = lake.training_frame(spine, ONE_SESSION, **options)
        pd.testing.assert_frame_equal(left, filled.training_frame(spine, ONE_SESSION, **options))


@pytest.mark.parametrize(
    "longest", [timedelta.max, "999999999d", timedelta(days=4_000_000), "2000000 sessions"]
)
def test_the_longest_duration_is_no_limit(filled: FeatureStore, longest: Any) -> None:
    calendar = "XNYS" if "sessions" in str(longest) else None
    for as_of in (MONDAY,) if calendar else (MONDAY, FOREVER):
        assert answers(filled, as_of, "x", max_age=longest, calendar=calendar) == {True}
    view = FeatureView("v", ["x"], max_staleness=longest, calendar=calendar)
    assert answers(filled, MONDAY, view) == {True}
    filled.register(view)
    assert not filled.health(as_of=MONDAY).is_stale


def test_a_limit_that_reaches_before_the_year_1_is_a_limit_still(store: FeatureStore) -> None:
    first = datetime(1, 1, 2, tzinfo=timezone.utc)
    store.write_features("A", first, {"x": 1.0}, availability_lag=NOW)
    assert answers(store, FOREVER, "x", max_age=timedelta(days=3_600_000)) == {False}
    assert answers(store, MONDAY, "x", max_age=timedelta(days=800_000)) == {True}
    spine = [("A", FOREVER)] * 600  # enough to count how dense the points are
    assert store.training_frame(spine, "x", plan="lookup")["x"].tolist() == [1.0] * 600


@pytest.mark.parametrize("edge", [datetime.min, datetime.max])  # noqa: DTZ901
def test_a_moment_outside_of_what_is_kept_is_invalid(filled: FeatureStore, edge: datetime) -> None:
    zone = ZoneInfo("America/New_York" if edge.year > 1 else "Asia/Tokyo")
    moment = edge.replace(tzinfo=zone)
    calls = [
        lambda: filled.get_latest("A", as_of=moment),
        lambda: filled.training_frame([("A", moment)], "x"),
        lambda: filled.training_frame({"entity_key": ["A"], "as_of": [moment]}, "x"),
        lambda: filled.write_features("A", moment, {"x": 1.0}, availability_lag=NOW),
        lambda: filled.diff(moment, moment),
        lambda: filled.training_frame([("A", MONDAY)], "x", written_by=moment),
    ]
    for call in calls:
        with pytest.raises(InvalidTime, match="outside the years 1 to 9999"):
            call()


def test_a_lag_beyond_the_last_year_is_invalid(store: FeatureStore) -> None:
    for lag in (timedelta.max, timedelta(days=3_000_000)):
        with pytest.raises(InvalidTime, match="beyond the year 9999"):
            store.write_features("A", FRIDAY, {"x": 1.0}, availability_lag=lag)


def test_a_missing_as_of_names_its_rows(filled: FeatureStore) -> None:
    times = pd.Series(pd.to_datetime([MONDAY, None, MONDAY, None], utc=True))
    spine = pd.DataFrame({"entity_key": "A", "as_of": times})
    for given in (spine, spine.to_dict("list"), list(spine.itertuples(index=False, name=None))):
        with pytest.raises(InvalidTime, match="as_of is missing in 2 rows: 1, 3"):
            filled.training_frame(given, "x")
    with pytest.raises(InvalidTime, match="as_of is missing in row 0"):
        filled.explain([("A", None)], "x")
    nameless = spine.assign(entity_key=[None, "A", None, "A"], as_of=MONDAY)
    with pytest.raises(InvalidFrame, match=r"entity_key is missing in 2 row\(s\): 0, 2"):
        filled.training_frame(nameless, "x")


@pytest.mark.parametrize("names", [["f", "f__event_time"], ["f__event_time", "f"]])
def test_a_feature_named_as_the_event_times_of_another_is_refused(
    store: FeatureStore, names: list[str]
) -> None:
    store.write_features("A", FRIDAY, {"f": 1.0, "f__event_time": 7.0}, availability_lag=NOW)
    with pytest.raises(InvalidFrame, match="two columns 'f__event_time'"):
        store.training_frame([("A", MONDAY)], names, event_times=True)
    frame = store.training_frame([("A", MONDAY)], names)
    assert frame[names].iloc[0].tolist() == [1.0 if name == "f" else 7.0 for name in names]


def test_a_spine_with_a_column_of_that_name_is_refused(store: FeatureStore) -> None:
    store.write_features("A", FRIDAY, {"f": 1.0}, availability_lag=NOW)
    for output in ("pandas", "arrow", "polars"):
        spine = {"entity_key": ["A"], "as_of": [MONDAY], "f__event_time": ["mine"]}
        with pytest.raises(InvalidFrame, match="columns named f__event_time already"):
            store.training_frame(spine, ["f"], event_times=True, output=output)
        assert store.training_frame(spine, ["f"], output=output)["f__event_time"][0] is not None
