"""When the event times of served values left their usual hour: a time zone that was mistaken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np

from mlflow_timescale.common.calendars import NotASession, TradingCalendar
from mlflow_timescale.common.micros import MISSING, Micros
from mlflow_timescale.common.time import to_micros

from ..metrics.clock import Clock, Reading, shift
from .comparing import Comparison
from .served import ServedTable

__all__ = ["ClockChange", "changes", "misdated"]

MINUTE = 60_000_000
DAY = 1440.0
USUAL = 5  # sessions from which the usual hour is known
LEAST = 30.0  # minutes: feeds of a few minutes' delay are no matter of time zones


@dataclass(frozen=True)
class ClockChange:
    """Event times that moved against their usual hour.

    Attributes
    ----------
    moved
        The time by which they moved; positive is later.
    usual, hour
        The usual time of day and the present one, with the name of the time zone.
    first, last, sessions
        Since when, until when, in how many sessions.
    behind
        The further sessions by which the values are behind since then.
    reading
        What it looks like; "" for nothing known.
    """

    moved: timedelta
    usual: str
    hour: str
    first: date
    last: date
    sessions: int
    behind: int
    reading: str


def changes(
    feature: str, table: ServedTable, earlier: ServedTable | None, calendar: TradingCalendar
) -> Iterator[ClockChange]:
    """The change of one feature's clock, if its events have left their usual hour."""
    days, readings = _readings(feature, table, earlier, calendar)
    start = min(table.sessions, default=None)
    usual: list[Reading] = []
    moved: list[tuple[date, float, Reading, Clock]] = []
    for day, reading in zip(days, readings, strict=True):
        is_usual = len(usual) < USUAL or _agrees(reading, usual[-1])
        clock = None if is_usual else Clock.fit(usual[-60:])
        if clock is not None and abs(shift(reading, clock)) >= LEAST:
            moved.append((day, _moved(reading, usual), reading, clock))
        else:
            usual.append(reading)
    if not moved or start is None or moved[-1][0] < start:
        return
    _, minutes, reading, clock = moved[-1]
    yield ClockChange(
        timedelta(minutes=round(minutes)),
        _time(clock.local, calendar.tz),
        _time(reading.local, calendar.tz),
        moved[0][0],
        moved[-1][0],
        len(moved),
        max(reading.behind - clock.behind, 0),
        _looks_like(minutes, calendar.tz, moved[-1][0]),
    )


def misdated(comparison: Comparison, i: int, moves: Sequence[ClockChange]) -> dict[date, int]:
    """By session, the cells of one feature whose clock moved, while that of the store did not.

    Values of a feature job that dates them wrongly have the same event time in the store.
    """
    table = comparison.table
    event, stored = table.event[:, table.column(comparison.features[i])], comparison.events[i]
    known = (event != MISSING) & (stored != MISSING) & ~comparison.differs[i]
    off = known & (np.abs(event - stored) >= LEAST * MINUTE)
    days = {
        day: int(off[rows].sum())
        for day, rows in table.rows_by_session.items()
        if any(move.first <= day <= move.last for move in moves)
    }
    return {day: count for day, count in days.items() if count}


def _agrees(reading: Reading, before: Reading) -> bool:
    """Whether one of the three clocks reads the same as before: then it is the usual hour."""
    return (
        reading.local == before.local
        or reading.utc == before.utc
        or reading.after_close == before.after_close
    )


def _moved(reading: Reading, usual: Sequence[Reading]) -> float:
    """Minutes against the clock that was steadiest before: local time, the close, or UTC."""
    by_clock = []
    for name in ("local", "after_close", "utc"):
        past = np.array([getattr(day, name) for day in usual])
        middle = float(np.median(past))
        gap = (getattr(reading, name) - middle + DAY / 2) % DAY - DAY / 2
        by_clock.append((float(np.abs(past - middle).max()), gap))
    _, minutes = min(by_clock, key=lambda clock: clock[0])
    return float(minutes)


def _readings(
    feature: str, table: ServedTable, earlier: ServedTable | None, calendar: TradingCalendar
) -> tuple[list[date], list[Reading]]:
    parts = [part for part in (earlier, table) if part is not None and feature in part.features]
    by_day: dict[date, list[Micros]] = {}
    for part in parts:
        event = part.event[:, part.column(feature)]
        for day, rows in part.rows_by_session.items():
            known = event[rows][event[rows] != MISSING]
            if len(known):
                by_day.setdefault(day, []).append(known)
    days = sorted(by_day)
    return days, [_reading(_middle(by_day[day]), day, calendar) for day in days]


def _middle(events: Sequence[Micros]) -> int:
    ordered = np.sort(np.concatenate(events))
    return int(ordered[len(ordered) // 2])


@lru_cache(maxsize=4096)  # the features of a table mostly have the same events
def _reading(event: int, session: date, calendar: TradingCalendar) -> Reading:
    utc = datetime.fromtimestamp(event / 1e6, timezone.utc)
    local = utc.astimezone(calendar.tz)
    try:
        of = calendar.date_to_session(local.date(), "previous")
        behind = calendar.sessions_apart(of, session)
    except NotASession:
        of, behind = session, 0
    # The close of the event's own session: a half day before the session moves no clock. The day of
    # the event is no part of its hour: a value of the session before is no other clock.
    close = to_micros(calendar.session_close(of))
    after_close = (event - close) / MINUTE + DAY * (of - local.date()).days
    hour, day_hour = (moment.hour * 60 + moment.minute for moment in (local, utc))
    return Reading(after_close, float(hour), float(day_hour), max(behind, 0))


def _time(minutes: float, zone: ZoneInfo) -> str:
    return f"{int(minutes) // 60:02d}:{int(minutes) % 60:02d} {zone.key}"


def _looks_like(minutes: float, zone: ZoneInfo, session: date) -> str:
    """The mistake that moves times by the zone's distance from UTC."""
    noon = datetime(session.year, session.month, session.day, 12, tzinfo=zone)
    offset = (noon.utcoffset() or timedelta()) / timedelta(minutes=1)
    if offset and minutes == offset:
        return f"looks like {zone.key} time written as UTC"
    if offset and minutes == -offset:
        return f"looks like UTC written as {zone.key} time"
    return ""


def listed(clocks: Sequence[ClockChange]) -> str:
    """The changes in one sentence."""
    return "; ".join(
        f"event_time moved by {signed(change.moved)} since {change.first}" for change in clocks
    )


def signed(moved: timedelta) -> str:
    """A shift of the clock in hours and minutes.

    >>> signed(timedelta(hours=8)), signed(timedelta(hours=-5, minutes=-30))
    ('+8h00', '-5h30')
    """
    minutes = round(moved / timedelta(minutes=1))
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60}h{abs(minutes) % 60:02d}"
