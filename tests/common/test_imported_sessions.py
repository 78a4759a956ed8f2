"""Sessions from files: what is read, and what a calendar makes of them."""

from __future__ import annotations

from datetime import date, datetime, time, timezone

import numpy as np
import pytest

from mlflow_timescale.common.calendar_ends import end_notice, has_ended
from mlflow_timescale.common.calendars import NotASession, TradingCalendar, UnknownCalendar
from mlflow_timescale.common.imported_sessions import (
    Hours,
    ImportedSessions,
    InvalidSessions,
    parse_sessions,
)

SHANGHAI = Hours("Asia/Shanghai", time(9, 30), time(15))


def sessions(*days: str) -> np.ndarray:
    return np.array(days, "M8[D]")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "holds no session"),
        ("\n\n", "holds no session"),
        ("2024-01-02\n\n2024-01-03\n", "line 2: '' is no date"),
        ("2024-01-02\n2024-01-02\n", "line 2: 2024-01-02 stands twice"),
        ("2024-01-03\n2024-01-04\n2024-01-02\n", "line 3: 2024-01-02 comes after 2024-01-04; sort"),
        ("2024-01-02\n20240103\n", "line 2: '20240103' is no date"),
        ("2024-02-30\n", "line 1: '2024-02-30' is no date"),
        ("2024-01-02 09:30:00\n", "line 1: '2024-01-02 09:30:00' is no date"),
        ("datetime\n2024-01-02\n", "line 1: 'datetime' is no date"),
        ("2024-01-02,2024-01-03\n", "line 1: "),
    ],
)
def test_a_line_that_is_no_later_date_is_refused_with_its_number(text: str, error: str) -> None:
    with pytest.raises(InvalidSessions, match=error):
        parse_sessions(text)


@pytest.mark.parametrize("text", ["2024-01-02\n2024-01-03", "\ufeff2024-01-02\r\n2024-01-03\r\n\n"])
def test_the_end_of_a_file_and_its_lines_may_be_of_any_system(text: str) -> None:
    assert parse_sessions(text).tolist() == [date(2024, 1, 2), date(2024, 1, 3)]


def test_between_the_first_and_last_imported_session_only_these_are_sessions() -> None:
    imported = ImportedSessions(sessions("2024-10-01", "2024-10-08", "2024-10-10"), "XSHG")
    calendar = TradingCalendar("XSHG", imported=imported)
    expected = ["2024-09-30", "2024-10-01", "2024-10-08", "2024-10-10", "2024-10-11"]
    days = calendar.sessions_in_range(date(2024, 9, 30), date(2024, 10, 11))
    assert [str(day) for day in days] == expected
    published = TradingCalendar("XSHG")
    assert calendar.session_close(date(2024, 10, 8)) == published.session_close(date(2024, 10, 8))
    # A holiday of the published calendar has the exchange's usual hours.
    assert calendar.session_open(date(2024, 10, 1)).isoformat() == "2024-10-01T01:30:00+00:00"


def test_a_calendar_of_its_own_begins_and_ends_with_its_sessions() -> None:
    days = sessions("2024-01-02", "2024-01-04", "2024-01-05")
    calendar = TradingCalendar("own:fund", imported=ImportedSessions(days, "XSHG"))
    assert calendar.sessions[:3].tolist() == days.tolist()
    assert calendar.known_to == date(2024, 1, 5)
    assert calendar.assumed_from == date(2024, 1, 8)
    assert calendar.session_close(date(2024, 1, 4)).isoformat() == "2024-01-04T07:00:00+00:00"
    with pytest.raises(NotASession, match="lies outside calendar own:fund"):
        calendar.sessions_in_range(date(2023, 12, 29), date(2024, 1, 4))
    with pytest.raises(NotASession, match=r"known to 2024-01-05 only.*--calendar own:fund"):
        calendar.session_close(date(2024, 1, 7))


def test_hours_may_be_others_and_reach_past_midnight() -> None:
    night = Hours("America/Chicago", time(17), time(16))
    days = sessions("2024-01-02", "2024-01-03")
    calendar = TradingCalendar("own:night", imported=ImportedSessions(days, hours=night))
    assert calendar.session_open(date(2024, 1, 2)).isoformat() == "2024-01-02T23:00:00+00:00"
    assert calendar.session_close(date(2024, 1, 2)).isoformat() == "2024-01-03T22:00:00+00:00"
    assert str(calendar.tz) == "America/Chicago"


def test_a_calendar_without_imported_sessions_says_how_to_import_them() -> None:
    with pytest.raises(UnknownCalendar, match="sessions import FILE --calendar own:fund"):
        TradingCalendar("own:fund")
    with pytest.raises(UnknownCalendar, match="no trading calendar 'own:a/b'"):
        TradingCalendar("own:a/b")


def test_imported_sessions_survive_a_manifest() -> None:
    imported = ImportedSessions(sessions("2024-01-02", "2024-01-03"), "XSHG", SHANGHAI)
    again = ImportedSessions.from_dict(imported.to_dict())
    assert again.to_dict() == imported.to_dict()
    assert again.hours == SHANGHAI


def ending(last: str) -> TradingCalendar:
    return TradingCalendar("own:fund", imported=ImportedSessions(sessions(last), "XSHG"))


@pytest.mark.parametrize(
    ("last", "notice"),
    [
        ("2025-03-02", ""),
        ("2025-03-01", "calendar own:fund ends on 2025-03-01"),
        ("2025-01-30", "calendar own:fund ends on 2025-01-30"),
        ("2025-01-29", "calendar own:fund ended on 2025-01-29"),
    ],
)
def test_a_calendar_that_ends_is_announced_30_days_before(last: str, notice: str) -> None:
    # In Shanghai it is the 30th.
    now = datetime(2025, 1, 29, 17, tzinfo=timezone.utc)
    said = end_notice(ending(last), now)
    assert said.startswith(notice)
    assert bool(said) == bool(notice)
    assert has_ended(ending(last), now) == ("ended" in said)


def test_the_published_calendar_of_shanghai_is_announced_before_its_end() -> None:
    calendar = TradingCalendar("XSHG")
    end = calendar.known_to
    if end is None:
        pytest.skip("the installed exchange_calendars reaches beyond the next year")
    december = datetime(end.year, 12, 2, 12, tzinfo=timezone.utc)
    assert end_notice(calendar, december).startswith(f"calendar XSHG ends on {end}; weekdays are")
    assert "pip install -U exchange_calendars" in end_notice(calendar, december)
    assert not end_notice(calendar, datetime(end.year, 11, 26, tzinfo=timezone.utc))
    with pytest.raises(NotASession, match=f"known to {end} only.*exchange_calendars"):
        calendar.session_close(
            date(end.year + 1, 1, 2 if date(end.year + 1, 1, 2).weekday() > 4 else 3)
        )


def test_calendars_without_an_end_are_not_announced() -> None:
    now = datetime(2300, 1, 1, tzinfo=timezone.utc)
    assert not any(end_notice(TradingCalendar(name), now) for name in ("24/7", "weekdays", "XNYS"))


def test_an_import_moves_the_end_of_a_published_calendar() -> None:
    end = TradingCalendar("XSHG").known_to
    if end is None:
        pytest.skip("the installed exchange_calendars reaches beyond the next year")
    later = np.datetime64(end) + np.array([4, 5])
    calendar = TradingCalendar("XSHG", imported=ImportedSessions(later, "XSHG"))
    assert calendar.known_to == later[-1].item()
    assert calendar.assumed_from is not None
    assert calendar.assumed_from > later[-1].item()


def test_beyond_its_end_a_calendar_of_its_own_goes_on_as_the_exchange_that_it_is_like() -> None:
    days = np.array(["2024-09-29", "2024-09-30"], "M8[D]")
    like = TradingCalendar("own:desk", (), ImportedSessions(days, "XSHG"))
    later = datetime(2024, 10, 4, tzinfo=timezone.utc)
    assert "; the sessions of XSHG are taken after it: " in end_notice(like, later)
    golden_week = like.sessions_in_range(date(2024, 9, 30), date(2024, 10, 8))
    assert [day.isoformat() for day in golden_week] == ["2024-09-30", "2024-10-08"]
