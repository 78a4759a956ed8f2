"""A clock moved only if the event times left their usual hour, not where a close was early."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import numpy as np
import pytest

from drift.skew.clock import changes
from drift.skew.served import ServedTable
from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.common.time import to_micros

CALENDAR = TradingCalendar("XNYS")
# 2023-07-03 closed at 13:00, and so did 2023-11-24.
HALF_DAYS = [date(2023, 7, 3), date(2023, 11, 24)]


def table(days: list[date], events: list[datetime]) -> ServedTable:
    count = len(days)
    moments = np.array([to_micros(event) for event in events])
    return ServedTable(
        features={"rsi_14": 0},
        source="caller",
        reading={},
        sessions=np.array(days, dtype=object),
        entities=np.array(["AAPL"] * count, dtype=object),
        as_of=moments,
        recorded_at=moments,
        values=np.zeros((count, 1)),
        absent=np.zeros((count, 1), dtype=bool),
        event=moments[:, None],
        others={},
    )


@pytest.mark.parametrize("half_day", HALF_DAYS)
@pytest.mark.parametrize("before", [0, 1])
def test_an_early_close_moves_no_clock(half_day: date, before: int) -> None:
    """Features that describe the close of their session, or of the session before."""
    days = CALENDAR.sessions_in_range(half_day - timedelta(days=20), half_day + timedelta(days=6))
    events = [CALENDAR.session_close(CALENDAR.session_offset(day, -before)) for day in days]
    assert list(changes("rsi_14", table(days, events), None, CALENDAR)) == []


@pytest.mark.parametrize("hours", [-8, -5, 4, 6])
def test_a_time_zone_moves_the_clock(hours: int) -> None:
    days = CALENDAR.sessions_in_range(date(2023, 6, 12), date(2023, 7, 14))
    moved = [timedelta(hours=hours if day >= date(2023, 7, 10) else 0) for day in days]
    events = [CALENDAR.session_close(day) + by for day, by in zip(days, moved, strict=True)]
    [change] = changes("rsi_14", table(days, events), None, CALENDAR)
    assert (change.moved, change.first) == (timedelta(hours=hours), date(2023, 7, 10))
