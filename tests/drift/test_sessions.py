"""Sessions of a trading calendar."""

from __future__ import annotations

from datetime import date, datetime, timezone

import numpy as np
import pytest

from drift.sessions import NotASession, Override, Sessions
from mlflow_timescale.db import Error

NYSE = Sessions("XNYS")


def instants(*texts: str) -> np.ndarray:
    return np.array(texts, dtype="datetime64[us]")


def test_a_holiday_is_not_a_session() -> None:
    assert date(2024, 1, 15) not in NYSE
    assert NYSE.shift(date(2024, 1, 12), 1) == date(2024, 1, 16)
    assert NYSE.shift(date(2024, 1, 16), -1) == date(2024, 1, 12)


def test_a_stranger_is_named_with_its_neighbours() -> None:
    with pytest.raises(NotASession, match=r"2024-01-15 is not a session.*2024-01-12.*2024-01-16"):
        NYSE.close(date(2024, 1, 15))


def test_the_day_after_thanksgiving_closes_early() -> None:
    assert NYSE.close(date(2024, 11, 29)) == datetime(2024, 11, 29, 18, tzinfo=timezone.utc)
    assert NYSE.close(date(2024, 11, 27)) == datetime(2024, 11, 27, 21, tzinfo=timezone.utc)


def test_closes_move_with_daylight_saving() -> None:
    assert NYSE.close(date(2024, 3, 8)).hour == 21
    assert NYSE.close(date(2024, 3, 11)).hour == 20


def test_an_instant_belongs_to_the_session_that_opened_last() -> None:
    evening, night, before_open, at_open = NYSE.of_instants(
        instants("2024-01-12T22:00", "2024-01-16T03:00", "2024-01-16T14:29:59", "2024-01-16T14:30")
    ).tolist()
    assert evening == night == before_open == date(2024, 1, 12)
    assert at_open == date(2024, 1, 16)


def test_instants_outside_the_calendar_are_refused() -> None:
    with pytest.raises(NotASession, match="1970"):
        NYSE.of_instants(instants("1970-01-01T00:00"))
    with pytest.raises(NotASession, match="2100"):
        NYSE.of_instants(instants("2100-01-01T00:00"))


def test_the_last_closed_session_is_not_one_still_open() -> None:
    noon = datetime(2024, 1, 16, 17, tzinfo=timezone.utc)
    assert NYSE.last_closed(noon) == date(2024, 1, 12)
    assert NYSE.last_closed(NYSE.close(date(2024, 1, 16))) == date(2024, 1, 16)


def test_sessions_are_counted_not_days() -> None:
    assert NYSE.count(date(2024, 1, 12), date(2024, 1, 16)) == 1
    assert NYSE.count(date(2024, 1, 16), date(2024, 1, 12)) == -1
    assert len(NYSE.between(date(2023, 1, 1), date(2023, 12, 31))) == 250


def test_a_day_of_mourning_is_an_override() -> None:
    published = Sessions("XNYS", [])
    carter = date(2025, 1, 9)
    open_after_all = Sessions("XNYS", [Override(carter, True)])
    assert carter not in published
    assert open_after_all.close(carter) == datetime(2025, 1, 9, 21, tzinfo=timezone.utc)
    closed = Sessions("XNYS", [Override(date(2025, 1, 8), False)])
    assert closed.shift(date(2025, 1, 7), 1) == date(2025, 1, 10)


def test_an_override_may_change_the_close() -> None:
    early = datetime(2024, 1, 16, 17, tzinfo=timezone.utc)
    changed = Sessions("XNYS", [Override(date(2024, 1, 16), True, early)])
    assert changed.close(date(2024, 1, 16)) == early
    assert NYSE.close(date(2024, 1, 16)) != early


def test_weekdays_are_sessions_past_a_calendars_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from drift import sessions

    published = sessions._published

    def ends_soon(calendar: str, until: date) -> tuple[sessions._Table, date]:
        table, _ = published(calendar, date(2024, 6, 28))
        return table, date(2024, 6, 28)

    monkeypatch.setattr(sessions, "_published", ends_soon)
    sessions._table.cache_clear()
    try:
        short = Sessions("XNYS")
    finally:
        sessions._table.cache_clear()
    assert short.assumed_from == date(2024, 7, 1)
    assert date(2024, 7, 4) in short  # a holiday that the calendar no longer knows
    assert date(2024, 7, 6) not in short
    assert short.close(date(2024, 7, 1)) == datetime(2024, 7, 1, 20, tzinfo=timezone.utc)
    assert short.close(date(2024, 12, 2)) == datetime(2024, 12, 2, 21, tzinfo=timezone.utc)


def test_a_calendar_that_reaches_far_enough_assumes_nothing() -> None:
    assert NYSE.assumed_from is None
    assert Sessions("weekdays").assumed_from is not None


def test_markets_that_never_close_have_a_session_every_day() -> None:
    always = Sessions("24/7")
    assert date(2024, 1, 13) in always
    assert not always.has_hours


def test_an_unknown_calendar_is_an_error_that_helps() -> None:
    with pytest.raises(Error, match=r"no calendar 'NYSEE'.*XNYS"):
        Sessions("NYSEE")
