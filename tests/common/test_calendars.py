"""Sessions of a trading calendar."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from functools import cache

import exchange_calendars
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_timescale.common import schedules
from mlflow_timescale.common.calendars import (
    NotASession,
    Override,
    TradingCalendar,
)
from mlflow_timescale.common.errors import UnknownCalendar
from mlflow_timescale.db import Error

NYSE = TradingCalendar("XNYS")
# With early closes, lunch breaks, opens on the day before, sessions of 24 hours.
NAMES = ("XNYS", "XLON", "XTKS", "CMES", "24/7", "BVMF", "weekdays")
START, END = date(2000, 1, 1), date(2025, 12, 31)


def instants(*texts: str) -> np.ndarray:
    return np.array(texts, dtype="datetime64[us]")


def test_a_holiday_is_not_a_session() -> None:
    assert not NYSE.is_session(date(2024, 1, 15))
    assert NYSE.session_offset(date(2024, 1, 12), 1) == date(2024, 1, 16)
    assert NYSE.session_offset(date(2024, 1, 16), -1) == date(2024, 1, 12)


def test_a_stranger_is_named_with_its_neighbours() -> None:
    with pytest.raises(NotASession, match=r"2024-01-15 is not a session.*2024-01-12.*2024-01-16"):
        NYSE.session_close(date(2024, 1, 15))


def test_the_day_after_thanksgiving_closes_early() -> None:
    assert NYSE.session_close(date(2024, 11, 29)) == datetime(2024, 11, 29, 18, tzinfo=timezone.utc)
    assert NYSE.session_close(date(2024, 11, 27)) == datetime(2024, 11, 27, 21, tzinfo=timezone.utc)


def test_closes_move_with_daylight_saving() -> None:
    assert NYSE.session_close(date(2024, 3, 8)).hour == 21
    assert NYSE.session_close(date(2024, 3, 11)).hour == 20


def test_an_instant_belongs_to_the_session_that_opened_last() -> None:
    evening, night, before_open, at_open = NYSE.instants_to_sessions(
        instants("2024-01-12T22:00", "2024-01-16T03:00", "2024-01-16T14:29:59", "2024-01-16T14:30")
    ).tolist()
    assert evening == night == before_open == date(2024, 1, 12)
    assert at_open == date(2024, 1, 16)


def test_instants_outside_the_calendar_are_refused() -> None:
    with pytest.raises(NotASession, match="1970"):
        NYSE.instants_to_sessions(instants("1970-01-01T00:00"))
    with pytest.raises(NotASession, match="2100"):
        NYSE.instants_to_sessions(instants("2100-01-01T00:00"))


def test_the_last_closed_session_is_not_one_still_open() -> None:
    noon = datetime(2024, 1, 16, 17, tzinfo=timezone.utc)
    assert NYSE.last_sessions(1, noon) == [date(2024, 1, 12)]
    assert NYSE.last_sessions(1, NYSE.session_close(date(2024, 1, 16))) == [date(2024, 1, 16)]


def test_sessions_are_counted_not_days() -> None:
    assert NYSE.sessions_apart(date(2024, 1, 12), date(2024, 1, 16)) == 1
    assert NYSE.sessions_apart(date(2024, 1, 16), date(2024, 1, 12)) == -1
    assert len(NYSE.sessions_in_range(date(2023, 1, 1), date(2023, 12, 31))) == 250


def test_a_day_of_mourning_is_an_override() -> None:
    published = TradingCalendar("XNYS", [])
    carter = date(2025, 1, 9)
    open_after_all = TradingCalendar("XNYS", [Override(carter, True)])
    assert not published.is_session(carter)
    assert open_after_all.session_close(carter) == datetime(2025, 1, 9, 21, tzinfo=timezone.utc)
    closed = TradingCalendar("XNYS", [Override(date(2025, 1, 8), False)])
    assert closed.session_offset(date(2025, 1, 7), 1) == date(2025, 1, 10)


def test_an_override_may_change_the_close() -> None:
    early = datetime(2024, 1, 16, 17, tzinfo=timezone.utc)
    changed = TradingCalendar("XNYS", [Override(date(2024, 1, 16), True, early)])
    assert changed.session_close(date(2024, 1, 16)) == early
    assert NYSE.session_close(date(2024, 1, 16)) != early


def test_weekdays_are_sessions_past_a_calendars_end(monkeypatch: pytest.MonkeyPatch) -> None:
    published = schedules._published

    def ends_soon(name: str, first: date, last: date) -> schedules.Schedule:
        return published(name, first, date(2024, 6, 28))

    monkeypatch.setattr(schedules, "_published", ends_soon)
    schedules.schedule.cache_clear()
    try:
        short = TradingCalendar("XNYS")
    finally:
        schedules.schedule.cache_clear()
    assert short.assumed_from == date(2024, 7, 1)
    assert short.is_session(date(2024, 7, 4))  # a holiday that the calendar no longer knows
    assert not short.is_session(date(2024, 7, 6))
    assert short.session_close(date(2024, 7, 1)) == datetime(2024, 7, 1, 20, tzinfo=timezone.utc)
    assert short.session_close(date(2024, 12, 2)) == datetime(2024, 12, 2, 21, tzinfo=timezone.utc)


def test_a_calendar_that_reaches_far_enough_assumes_nothing() -> None:
    assert NYSE.assumed_from is None
    assert TradingCalendar("weekdays").assumed_from is not None


def test_markets_that_never_close_have_a_session_every_day() -> None:
    always = TradingCalendar("24/7")
    assert always.is_session(date(2024, 1, 13))
    assert not always.has_hours


def test_an_unknown_calendar_is_an_error_that_helps() -> None:
    with pytest.raises(Error, match=r"no trading calendar 'NYSEE'.*XNYS"):
        TradingCalendar("NYSEE")


@cache
def ours(name: str) -> TradingCalendar:
    return TradingCalendar(name)


@cache
def theirs(name: str) -> exchange_calendars.ExchangeCalendar:
    """The calendar of exchange_calendars itself; weekdays are those of its calendar WEEKDAYS."""
    return exchange_calendars.get_calendar(
        "24/5" if name == "weekdays" else name, start=str(START), end=str(END)
    )


days = st.dates(START + timedelta(days=30), END - timedelta(days=30))
minutes = st.datetimes(
    datetime(2000, 2, 1),  # noqa: DTZ001
    datetime(2025, 11, 30),  # noqa: DTZ001
    timezones=st.just(timezone.utc),
).map(lambda moment: moment.replace(second=0, microsecond=0))


@settings(deadline=None)  # the first example of a name builds its calendars
@given(st.sampled_from(NAMES), days)
def test_days_are_sessions_as_in_exchange_calendars(name: str, day: date) -> None:
    calendar, reference = ours(name), theirs(name)
    assert calendar.is_session(day) == reference.is_session(str(day))
    for direction in ("next", "previous"):
        session = reference.date_to_session(str(day), direction)
        assert calendar.date_to_session(day, direction) == session.date()


@settings(deadline=None)  # the first example of a name builds its calendars
@given(st.sampled_from(NAMES), days, st.integers(-15, 15))
def test_sessions_open_close_and_follow_as_in_exchange_calendars(
    name: str, day: date, count: int
) -> None:
    calendar, reference = ours(name), theirs(name)
    label = reference.date_to_session(str(day), "next")
    session = label.date()
    assert calendar.session_open(session) == reference.session_open(label)
    assert calendar.session_close(session) == reference.session_close(label)
    assert calendar.next_session(session) == reference.next_session(label).date()
    assert calendar.previous_session(session) == reference.previous_session(label).date()
    shifted = calendar.session_offset(session, count)
    assert shifted == reference.session_offset(label, count).date()
    assert calendar.sessions_apart(session, shifted) == count


@pytest.mark.slow
@settings(deadline=None)  # the first example of a name builds its calendars
@given(st.sampled_from(NAMES), minutes)
def test_moments_are_found_as_in_exchange_calendars(name: str, moment: datetime) -> None:
    calendar, reference = ours(name), theirs(name)
    minute = pd.Timestamp(moment)
    assert calendar.next_open(moment) == reference.next_open(minute)
    assert calendar.next_close(moment) == reference.next_close(minute)
    session = reference.minute_to_session(minute, "previous")
    utc = np.array([moment.replace(tzinfo=None)], dtype="datetime64[us]")
    assert calendar.instants_to_sessions(utc)[0] == np.datetime64(session.date())


@settings(deadline=None)  # the first example of a name builds its calendars
@given(st.sampled_from(NAMES), days, days)
def test_ranges_hold_the_sessions_of_exchange_calendars(name: str, one: date, two: date) -> None:
    start, end = sorted((one, two))
    sessions = theirs(name).sessions_in_range(str(start), str(end))
    assert ours(name).sessions_in_range(start, end) == [session.date() for session in sessions]


@settings(deadline=None)  # the first example of a name builds its calendars
@given(st.sampled_from(NAMES), st.lists(minutes, min_size=1, max_size=20), st.integers(1, 5))
def test_many_moments_give_what_each_one_gives(
    name: str, moments: list[datetime], count: int
) -> None:
    micros = np.array([int(moment.timestamp()) * 1_000_000 for moment in moments])
    opens = ours(name).next_opens(micros, count).view("datetime64[us]")
    for moment, found in zip(moments, opens.tolist(), strict=True):
        expected = moment
        for _ in range(count):
            expected = ours(name).next_open(expected)
        assert found == expected.replace(tzinfo=None)


@settings(deadline=None)  # the first example of a name builds its calendars
@given(st.sampled_from(NAMES), minutes, st.timedeltas(timedelta(0), timedelta(days=60)))
def test_an_age_is_the_time_on_session_days(name: str, moment: datetime, span: timedelta) -> None:
    """The definition, day by day."""
    calendar, then = ours(name), moment - span
    expected, day = timedelta(0), then.astimezone(calendar.tz).date()
    while calendar.day_start(day) < moment:
        following = day + timedelta(days=1)
        if calendar.is_session(day):
            # By the wall clock of the exchange: every session day has 24 hours.
            begin, end = calendar.day_start(day), calendar.day_start(following)
            low, high = max(then, begin), min(moment, end)
            expected += _wall(calendar, high) - _wall(calendar, low)
        day = following
    event = np.array(
        [(then - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)]
    )
    assert timedelta(microseconds=int(calendar.age(event, moment)[0])) == expected


def _wall(calendar: TradingCalendar, moment: datetime) -> timedelta:
    return moment.astimezone(calendar.tz).replace(tzinfo=None) - datetime(1970, 1, 1)  # noqa: DTZ001


def test_an_alias_is_the_same_calendar() -> None:
    assert TradingCalendar("NYSE").name == "XNYS"


def test_an_unknown_calendar_names_similar_ones() -> None:
    with pytest.raises(UnknownCalendar, match=r"'weekday' \(did you mean .*weekdays"):
        TradingCalendar("weekday")


@pytest.mark.slow
def test_moments_outside_the_usual_range_have_opens_and_ages_too() -> None:
    kennedy = datetime(1963, 11, 22, 21, tzinfo=timezone.utc)
    assert NYSE.next_open(kennedy) == datetime(1963, 11, 26, 14, 30, tzinfo=timezone.utc)
    later = datetime(2035, 1, 3, tzinfo=timezone.utc)
    assert NYSE.next_open(later) == datetime(2035, 1, 3, 14, 30, tzinfo=timezone.utc)
    micros = np.array([int(kennedy.timestamp()) * 1_000_000])
    assert NYSE.age(micros, datetime(1963, 11, 26, 21, tzinfo=timezone.utc))[0] == 24 * 3600 * 10**6
    with pytest.raises(UnknownCalendar, match="begins on 1956-01-01"):
        TradingCalendar("XKRX").next_open(datetime(1950, 1, 1, tzinfo=timezone.utc))


def test_a_session_that_is_added_has_the_exchanges_own_hours() -> None:
    """By its wall clock: the session before is on the other side of the change to summer time."""
    sunday = Override(date(2024, 3, 10), True)
    assert TradingCalendar("XNYS", [sunday]).session_open(date(2024, 3, 10)) == datetime(
        2024, 3, 10, 13, 30, tzinfo=timezone.utc
    )
    night = TradingCalendar("CMES", [Override(date(2024, 1, 6), True)])
    friday, saturday = date(2024, 1, 5), date(2024, 1, 6)
    assert night.session_open(saturday) - night.session_open(friday) == timedelta(days=1)


def test_an_override_outside_the_calendar_does_not_stretch_it() -> None:
    far = Override(date(2090, 1, 2), True)
    calendar = TradingCalendar("XNYS", [far])
    assert not calendar.is_session(far.session)
    assert calendar.next_open(datetime(2090, 1, 1, tzinfo=timezone.utc)).day == 2


def test_a_naive_close_is_refused() -> None:
    with pytest.raises(Error, match="has no time zone; say which one is meant"):
        Override(date(2024, 1, 16), True, datetime(2024, 1, 16, 17))  # noqa: DTZ001
