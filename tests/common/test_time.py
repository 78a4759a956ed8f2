"""Times and durations: one text has one meaning, and what has none is refused."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlflow_timescale.common.time import (
    InvalidTime,
    SessionCount,
    duration_micros,
    fixed_duration,
    format_duration,
    from_micros,
    parse_day,
    parse_duration,
    parse_time,
    require_zone,
    to_micros,
)
from mlflow_timescale.db import Error

UTC = timezone.utc
NEW_YORK = ZoneInfo("America/New_York")
NAIVE = "has no time zone; say which one is meant"
naive = datetime(2024, 1, 15)  # noqa: DTZ001
zones = st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Apia"]).map(ZoneInfo)


def test_an_aware_datetime_is_its_microseconds_in_utc_and_back() -> None:
    for moment in (
        datetime(2024, 1, 15, 16, 0, 0, 1, tzinfo=NEW_YORK),
        datetime(1600, 2, 29, tzinfo=UTC),
        datetime(2024, 1, 15, 16, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        pd.Timestamp("2024-01-15 16:00:00.000001", tz="Asia/Tokyo"),
    ):
        assert from_micros(to_micros(moment)) == moment


def test_the_two_halves_of_a_repeated_hour_are_an_hour_apart() -> None:
    first = datetime(2024, 11, 3, 1, 30, tzinfo=NEW_YORK)
    assert to_micros(first.replace(fold=1)) - to_micros(first) == 3_600_000_000


def test_a_skipped_hour_is_refused() -> None:
    with pytest.raises(InvalidTime, match="daylight saving skips it in America/New_York"):
        to_micros(datetime(2024, 3, 10, 2, 30, tzinfo=NEW_YORK))


def test_a_day_over_a_daylight_saving_change_is_23_hours() -> None:
    saturday = datetime(2024, 3, 9, 12, tzinfo=NEW_YORK)
    sunday = datetime(2024, 3, 10, 12, tzinfo=NEW_YORK)
    assert to_micros(sunday) - to_micros(saturday) == 23 * 3_600_000_000


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-01-12T21:00Z", datetime(2024, 1, 12, 21, tzinfo=UTC)),
        ("2024-01-12 21:00:00.25z", datetime(2024, 1, 12, 21, 0, 0, 250_000, tzinfo=UTC)),
        (" 2024-01-12T16:00-05:00 ", datetime(2024, 1, 12, 21, tzinfo=UTC)),
        ("2024-01-12T16:00 America/New_York", datetime(2024, 1, 12, 21, tzinfo=UTC)),
        ("2024-01-12 16:00:00 EST5EDT", datetime(2024, 1, 12, 21, tzinfo=UTC)),
        ("2024-01-12 21:00 UTC", datetime(2024, 1, 12, 21, tzinfo=UTC)),
    ],
)
def test_a_text_names_its_time_zone(text: str, moment: datetime) -> None:
    assert parse_time(text) == moment


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2024-01-12T21:00", NAIVE),
        ("2024-01-12", NAIVE),
        (naive, NAIVE),
        (None, "not a datetime"),
        (date(2024, 1, 12), "not a datetime"),
        ("yesterday", "'yesterday' is not a time; write 2024-01-12T21:00Z"),
        ("", "is not a time"),
        ("2024-01-12T21:00 Mars/Olympus", "'Mars/Olympus', which does not exist"),
        ("2024-01-12T21:00Z America/New_York", "both an offset and time zone"),
        ("2024-01-12T21:00:00.000000001Z", "finer than a microsecond"),
        ("2024-03-10T02:30 America/New_York", "daylight saving skips it"),
        ("2024-11-03T01:30 America/New_York", "occurs twice in America/New_York"),
    ],
)
def test_a_text_without_one_meaning_is_refused_by_name(text: Any, message: str) -> None:
    with pytest.raises(InvalidTime, match=message) as refused:
        parse_time(text, "until")
    assert str(refused.value).startswith("until ")


@example(datetime(2000, 10, 29, 5), ZoneInfo("America/New_York"))  # noqa: DTZ001
@given(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)), zones)  # noqa: DTZ001
def test_the_iso_text_of_a_time_is_read_back(moment: datetime, zone: ZoneInfo) -> None:
    instant = moment.replace(tzinfo=UTC)
    exact = instant.astimezone(zone)
    offset = exact.utcoffset()
    assert offset is not None
    # Python never takes a time of a repeated hour for equal to one of another zone: compare in UTC.
    if offset.seconds % 60 == 0:  # local mean times have seconds
        read = parse_time(exact.isoformat())
        assert (read.astimezone(UTC), read.utcoffset()) == (instant, offset)
    assert from_micros(to_micros(exact)) == instant


def test_naive_times_have_one_error_however_they_are_given() -> None:
    for refuse in (
        lambda: require_zone(naive, "close"),
        lambda: to_micros(naive, "close"),
        lambda: parse_time(naive, "close"),
    ):
        with pytest.raises(InvalidTime) as refused:
            refuse()
        assert str(refused.value) == (
            "close 2024-01-15T00:00:00 has no time zone; say which one is meant: "
            "datetime(..., tzinfo=ZoneInfo('America/New_York'))"
        )
    assert issubclass(InvalidTime, Error)
    assert issubclass(InvalidTime, ValueError)


def test_a_date_is_a_date_or_its_text() -> None:
    assert parse_day("2024-01-12") == parse_day(date(2024, 1, 12)) == date(2024, 1, 12)
    for wrong in ("12.1.2024", "2024-01-32", "", naive, pd.Timestamp(naive), 20240112, None):
        with pytest.raises(InvalidTime, match=r"session .* a date such as 2024-01-12"):
            parse_day(wrong, "session")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("5d", timedelta(days=5)),
        ("4h", timedelta(hours=4)),
        ("45m", timedelta(minutes=45)),
        ("90s", timedelta(seconds=90)),
        ("1.5d", timedelta(hours=36)),
        ("1d 12h", timedelta(hours=36)),
        ("1d12h", timedelta(hours=36)),
        ("0s", timedelta(0)),
        ("1 session", SessionCount(1)),
        ("3 sessions", SessionCount(3)),
    ],
)
def test_durations_have_one_spelling(text: str, duration: timedelta | SessionCount) -> None:
    assert parse_duration(text) == parse_duration(duration) == duration


@pytest.mark.parametrize(
    "wrong",
    ["", "5", "d", "5 days", "12h 1d", "1d 1d", "-5d", "1M", "1.d", "0 sessions", "1.5 sessions",
     "1e3s", "9" * 12 + "d", -timedelta(1), pd.Timedelta(-1), pd.NaT, 5, None],
)  # fmt: skip
def test_what_is_no_duration_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidTime):
        parse_duration(wrong)


def test_sessions_are_no_fixed_duration() -> None:
    with pytest.raises(InvalidTime, match="max_age is 3 sessions, which has no fixed length"):
        fixed_duration("3 sessions", "max_age")
    assert fixed_duration("5d") == timedelta(days=5)
    assert duration_micros("1.5s") == 1_500_000


durations = st.timedeltas(timedelta(0), timedelta(days=99_999))


@given(durations | st.builds(SessionCount, st.integers(1, 999)))
def test_the_text_of_a_duration_is_read_back(duration: timedelta | SessionCount) -> None:
    assert parse_duration(format_duration(duration)) == duration
