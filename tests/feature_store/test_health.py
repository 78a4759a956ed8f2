"""Health: fresh by the clock of the exchange, complete, plausible, in time."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from feature_store import FeatureView, UnknownCalendar, UnknownFeature
from feature_store.health import check_health
from mlflow_timescale.common.calendars import TradingCalendar

UTC = timezone.utc
NEW_YORK = ZoneInfo("America/New_York")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Monday, 15 January 2024 is Martin Luther King Day; the 12th is the Friday before.
SESSIONS = [date(2024, 1, d) for d in (8, 9, 10, 11, 12, 16, 17)]


def close(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 16, tzinfo=NEW_YORK)


@pytest.fixture
def written(store):
    store.register(FeatureView("technical", {"rsi": "number", "ghost": "number"}, owner="alpha",
                               max_staleness=DAY))  # fmt: skip
    for i, day in enumerate(SESSIONS):
        for entity in ("AAPL", "MSFT", "LATE"):
            if entity == "MSFT" and day.day in (10, 11):
                continue  # a gap
            if entity == "LATE" and day < date(2024, 1, 12):
                continue  # not listed yet
            rsi = float("nan") if (entity, i) == ("AAPL", 1) else 10.0 * i
            at = close(day)
            store.write_features(entity, at, {"rsi": rsi}, ingest_time=at + (1 + i % 2) * HOUR)
    return store


def report(store, moment=None, **options):
    moment = moment or close(SESSIONS[-1]) + 5 * HOUR
    return check_health(store.database, ["rsi"], as_of=moment, **{"calendar": "XNYS", **options})


def test_a_value_of_friday_is_a_day_old_on_tuesday_after_a_long_weekend(written):
    tuesday = datetime(2024, 1, 16, 16, tzinfo=NEW_YORK) - timedelta(microseconds=1)
    fresh = report(written, tuesday).freshness
    assert {entry.age for entry in fresh} == {DAY - timedelta(microseconds=1)}
    assert not any(entry.is_stale for entry in fresh)
    by_every_day = report(written, tuesday, calendar=None).freshness
    assert {entry.age for entry in by_every_day} == {4 * DAY - timedelta(microseconds=1)}
    assert all(entry.is_stale for entry in by_every_day)


def test_what_is_older_than_its_definition_allows_is_stale(written):
    stale = report(written, close(date(2024, 1, 19))).stale
    assert [(e.entity_key, e.event_time, e.age) for e in stale] == [
        (entity, close(date(2024, 1, 17)), 2 * DAY) for entity in ("AAPL", "LATE", "MSFT")
    ]
    assert report(written, close(date(2024, 1, 18))).stale == []


def test_freshness_is_that_of_the_moment_not_of_today(written):
    entry = report(written, close(SESSIONS[3]) + HOUR).freshness[0]
    assert (entry.entity_key, entry.event_time) == ("AAPL", close(SESSIONS[2]))
    assert entry.ingest_time == close(SESSIONS[2]) + HOUR  # the 11th comes an hour later


def test_an_entity_whose_first_value_is_not_known_yet_has_no_age(written):
    late = next(e for e in report(written, close(SESSIONS[0])).freshness if e.entity_key == "LATE")
    assert (late.event_time, late.age, late.is_stale) == (None, None, True)


def test_features_without_a_definition_are_never_stale_unless_a_limit_is_given(store):
    store.write_features("A", close(SESSIONS[0]), {"x": 1.0})
    later = datetime(2035, 1, 1, tzinfo=UTC)
    assert not check_health(store.database, as_of=later).is_stale
    assert check_health(store.database, as_of=later, max_staleness=DAY).is_stale


def test_only_the_newest_version_counts(written):
    written.register(FeatureView("technical", {"rsi": "number"}, version=2))
    written.write_features("AAPL", close(SESSIONS[-1]), {"rsi": 5.0}, feature_version=2,
                           ingest_time=close(SESSIONS[-1]))  # fmt: skip
    versions = {e.entity_key: e.feature_version for e in report(written).freshness}
    assert versions == {"AAPL": 2, "LATE": 1, "MSFT": 1}
    assert not any(e.entity_key == "AAPL" for e in report(written, close(date(2024, 2, 1))).stale)


def test_gaps_are_sessions_without_a_value_after_the_first_one(written):
    gaps = report(written, sessions=7).gaps
    assert [(g.entity_key, g.sessions) for g in gaps] == [("MSFT", SESSIONS[2:4])]


def test_a_session_that_all_entities_miss_needs_the_calendar_to_be_seen(written):
    thursday = close(date(2024, 1, 18)) + 5 * HOUR
    with_calendar = report(written, thursday, sessions=1)
    assert with_calendar.sessions == [date(2024, 1, 18)]
    assert [g.entity_key for g in with_calendar.gaps] == ["AAPL", "LATE", "MSFT"]
    assert report(written, thursday, sessions=3, calendar=None).gaps == []


def test_a_session_is_expected_only_when_it_is_over(written):
    thursday = close(date(2024, 1, 18)) - HOUR
    assert report(written, thursday, sessions=2).sessions == SESSIONS[-2:]


def test_features_that_may_be_old_are_not_expected_every_session(store):
    store.register(FeatureView("fundamental", ["eps"], max_staleness=100 * DAY))
    for day in (SESSIONS[0], SESSIONS[4]):
        store.write_features("A", close(day), {"eps": 1.0}, ingest_time=close(day))
    store.write_features("B", close(SESSIONS[0]), {"eps": 1.0}, ingest_time=close(SESSIONS[0]))
    found = check_health(
        store.database, as_of=close(SESSIONS[-1]) + HOUR, calendar="XNYS", sessions=7
    )
    assert [(g.entity_key, g.sessions) for g in found.gaps] == [("B", [SESSIONS[4]])]


def test_statistics_of_a_session_are_those_of_numpy(store):
    rng = np.random.default_rng(1)
    values = rng.normal(size=50)
    values[:5] = np.nan
    day = close(SESSIONS[0])
    frame = pd.DataFrame({"entity_key": [f"E{i}" for i in range(50)], "x": values})
    frame = frame.assign(event_time=day, ingest_time=day + HOUR)
    store.write_frame(frame, ingest_time="ingest_time")
    revised = frame[10:20].assign(x=0.5, ingest_time=day + 2 * HOUR)
    store.write_frame(revised, ingest_time="ingest_time")
    store.write_frame(
        frame[:5].assign(x=9.0, ingest_time=day + 30 * DAY), ingest_time="ingest_time"
    )
    found = check_health(store.database, as_of=day + DAY, calendar="XNYS").statistics
    assert len(found) == 1
    values[10:20] = 0.5  # known a day later; the last revision is not
    assert (found[0].session, found[0].n, found[0].entities, found[0].undefined) == (
        SESSIONS[0], 50, 50, 5,
    )  # fmt: skip
    seen = [found[0].mean, found[0].sd, found[0].min, found[0].max]
    kept = values[5:]
    np.testing.assert_allclose(seen, [kept.mean(), kept.std(ddof=1), kept.min(), kept.max()])


def test_structures_are_counted_and_nothing_else(store):
    day = close(SESSIONS[0])
    store.write_features("A", day, {"curve": [1, 2]}, ingest_time=day)
    found = check_health(store.database, as_of=day + DAY, calendar="XNYS").statistics[0]
    assert (found.n, found.structures, found.undefined, found.mean) == (1, 1, 0, None)


def test_write_lag_is_that_of_first_values_which_somebody_observed(store):
    for i, day in enumerate(SESSIONS[:5]):
        at = close(day)
        store.write_features("A", at, {"x": 1.0}, ingest_time=at + (i + 1) * HOUR)
        store.write_features("A", at, {"x": 2.0}, ingest_time=at + 20 * DAY)  # a revision
    store.write_features("B", close(SESSIONS[0]), {"x": 1.0}, availability_lag=99 * HOUR)
    lag = check_health(
        store.database, as_of=close(SESSIONS[0]) + 40 * DAY, calendar="XNYS", sessions=40
    )
    assert len(lag.write_lag) == 1
    entry = lag.write_lag[0]
    assert (entry.n, entry.p50, entry.max) == (6, 3 * 3600, 5 * 3600)
    assert entry.p90 == pytest.approx(4.6 * 3600)
    assert entry.assumed == pytest.approx(1 / 6)


def test_what_is_defined_and_never_written_is_said(written):
    found = check_health(written.database, as_of=close(SESSIONS[-1]), calendar="XNYS")
    assert [entry.feature_name for entry in found.never_written] == ["ghost"]
    assert found.is_stale


def test_a_report_is_json(written):
    plain = json.loads(json.dumps(report(written, sessions=7).to_dict()))
    assert plain["is_stale"] is False
    assert plain["freshness"][0]["max_staleness"] == 86_400
    assert plain["gaps"][0]["sessions"] == ["2024-01-10", "2024-01-11"]
    assert plain["statistics"][0]["session"] == "2024-01-08"


def test_wrong_questions_are_errors(written):
    with pytest.raises(UnknownFeature, match="did you mean rsi"):
        check_health(written.database, ["rsj"])
    with pytest.raises(UnknownCalendar, match="XNYX"):
        check_health(written.database, calendar="XNYX")
    with pytest.raises(ValueError, match="no time zone"):
        check_health(written.database, as_of=datetime(2024, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="one at least"):
        check_health(written.database, sessions=0)


def test_an_empty_store_is_healthy(store):
    found = check_health(store.database, calendar="XNYS")
    assert (found.freshness, found.gaps, found.statistics, found.is_stale) == ([], [], [], False)


def test_daily_data_stamped_at_midnight_in_utc_belongs_to_its_own_day(store):
    for day in SESSIONS:
        at = datetime(day.year, day.month, day.day, tzinfo=UTC)
        store.write_features("A", at, {"x": 1.0}, ingest_time=at + DAY)
    later = close(SESSIONS[-1]) + 12 * HOUR
    found = check_health(store.database, as_of=later, calendar="XNYS", zone="UTC", sessions=7)
    assert [entry.session for entry in found.statistics] == SESSIONS
    assert found.gaps == []


def test_an_hour_that_daylight_saving_skips_does_not_disturb_ages():
    friday, monday = (
        datetime(2024, 3, 8, 16, tzinfo=NEW_YORK),
        datetime(2024, 3, 11, 16, tzinfo=NEW_YORK),
    )
    age = TradingCalendar("XNYS").age(np.array([int(friday.timestamp() * 1e6)]), monday)
    assert timedelta(microseconds=int(age[0])) == DAY
