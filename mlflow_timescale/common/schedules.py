"""Tables of sessions with their opens and closes: published, assumed, corrected.

Published sessions come from exchange_calendars. Some of its calendars end within weeks, because
their holidays are announced year by year; weekdays are assumed from there on. Corrections are
applied by `corrected`. `TradingCalendar` is the interface to these tables.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from mlflow_timescale.common.errors import UnknownCalendar, did_you_mean
from mlflow_timescale.common.micros import Micros
from mlflow_timescale.common.time import require_zone

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DAY",
    "DAY_MICROS",
    "EVERY_DAY",
    "OWN",
    "WEEKDAYS",
    "Clock",
    "Days",
    "Instants",
    "Override",
    "Schedule",
    "canonical_name",
    "corrected",
    "instant_at",
    "is_own",
    "schedule",
    "session_clock",
    "to_date",
    "to_datetime",
    "to_instant",
    "usual_hours",
]

WEEKDAYS = "weekdays"
EVERY_DAY = "24/7"
OWN = "own:"  # begins the name of a calendar whose sessions are all imported
DAY = np.timedelta64(1, "D")
DAY_MICROS = 86_400_000_000
_ONE_DAY = timedelta(days=1)
_USUAL = 20  # sessions whose longest has the exchange's usual hours; any one may close early
_PUBLISHED_FROM, _PUBLISHED_TO = (
    date(1700, 1, 1),
    date(2200, 1, 1),
)  # pandas' nanoseconds allow more

Days = npt.NDArray[np.datetime64]  # datetime64[D]
Instants = npt.NDArray[np.datetime64]  # datetime64[us], UTC


@dataclass(frozen=True)
class Override:
    """A correction of the published calendar on one day.

    Parameters
    ----------
    session
        The day, in the exchange's time zone.
    is_session
        Whether the exchange trades on that day.
    close
        Another close than the published one; aware. Raises InvalidTime if it is naive.
    why
        The reason, for people.

    Examples
    --------
    >>> Override(date(2025, 1, 9), is_session=False, why="day of mourning").is_session
    False
    """

    session: date
    is_session: bool
    close: datetime | None = None
    why: str = ""

    def __post_init__(self) -> None:
        if self.close is not None:
            require_zone(self.close, f"close of {self.session}")


@dataclass(frozen=True)
class Schedule:
    """The sessions of one calendar from day `first` to day `last`.

    `days`, `opens` and `closes` have shape (sessions,), in order. `assumed_from` is the first
    session that is only a weekday, because the published calendar ends before it: on `known_to`.
    """

    zone: str
    first: date
    last: date
    days: Days
    opens: Instants
    closes: Instants
    assumed_from: date | None = None
    known_to: date | None = None


class Clock(NamedTuple):
    """A time of day in the exchange's time zone, some days after the session's date."""

    days: int
    time: time


@lru_cache(maxsize=64)
def schedule(name: str, first: date, last: date) -> Schedule:
    """The sessions of a calendar between two days, the later ones assumed if necessary.

    Parameters
    ----------
    name
        Canonical; see `canonical_name`.
    first, last
        Both included. Where the calendar begins later than `first`, so does the schedule.

    Raises UnknownCalendar for a name that does not exist.

    Examples
    --------
    >>> table = schedule("XNYS", date(2024, 1, 12), date(2024, 1, 16))  # the 15th was a holiday
    >>> table.days
    array(['2024-01-12', '2024-01-16'], dtype='datetime64[D]')
    >>> table.closes[0]
    np.datetime64('2024-01-12T21:00:00.000000')
    """
    if name in (WEEKDAYS, EVERY_DAY):
        return _simple(name, first, last)
    published = _published(name, first, last)
    if published.last >= last:
        return published
    assumed = _assumed(published, last)
    return replace(
        published,
        last=last,
        days=np.concatenate([published.days, assumed.days]),
        opens=np.concatenate([published.opens, assumed.opens]),
        closes=np.concatenate([published.closes, assumed.closes]),
        assumed_from=to_date(assumed.days[0]) if len(assumed.days) else None,
        known_to=published.last,
    )


def canonical_name(name: str) -> str:
    """The one name of a calendar that has several.

    Parameters
    ----------
    name
        An exchange's MIC or an alias of it, "24/7" or "weekdays"; or "own:" and a name, of a
        calendar whose sessions are all imported.

    Raises UnknownCalendar, with names that are spelled alike.

    Examples
    --------
    >>> canonical_name("NYSE")
    'XNYS'
    >>> canonical_name("XNYX")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    mlflow_timescale.common.errors.UnknownCalendar: no trading calendar 'XNYX' (did you mean ...
    """
    if name in (WEEKDAYS, EVERY_DAY) or is_own(name):
        return name
    import exchange_calendars

    names = exchange_calendars.get_calendar_names(include_aliases=True)
    if name not in names:
        hint = did_you_mean(str(name), [*names, WEEKDAYS])
        raise UnknownCalendar(
            f"no trading calendar {name!r}{hint}; use an exchange's MIC such as XNYS, XLON or "
            f'XTKS, {EVERY_DAY!r} for markets that never close, {WEEKDAYS!r}, or "{OWN}NAME" for '
            f"a calendar of imported sessions"
        )
    return str(exchange_calendars.resolve_alias(name))


def is_own(name: str) -> bool:
    """Whether a name is one of a calendar whose sessions are all imported.

    >>> is_own("own:hedge"), is_own("XSHG")
    (True, False)
    """
    return bool(re.fullmatch(OWN + r"[\w.-]{1,100}", name))


def corrected(table: Schedule, overrides: Iterable[Override]) -> Schedule:
    """A schedule with the corrections that lie within it.

    Parameters
    ----------
    table
        The published and assumed sessions.
    overrides
        In any order. A session that the calendar lacks gets the exchange's usual hours.

    Examples
    --------
    >>> table = schedule("XNYS", date(2025, 1, 1), date(2025, 1, 31))
    >>> extra = corrected(table, [Override(date(2025, 1, 9), True)])
    >>> len(table.days), len(extra.days)
    (20, 21)
    """
    for override in overrides:
        if table.first <= override.session <= table.last:
            table = _corrected(table, override)
    return table


def session_clock(table: Schedule, moments: Micros, zone: str) -> Micros:
    """The reading of a clock that runs on session days only, in microseconds.

    Parameters
    ----------
    table
        Sessions around the moments.
    moments
        Microseconds since 1970 in UTC, shape (n,); the result has the same.
    zone
        The time zone in which days begin.

    Examples
    --------
    >>> table = schedule("weekdays", date(2024, 1, 5), date(2024, 1, 8))
    >>> saturday, monday = np.array(["2024-01-06T18", "2024-01-08T06"], "M8[us]").astype(np.int64)
    >>> session_clock(table, np.array([saturday, monday]), "UTC") // 3_600_000_000
    array([24, 30])
    """
    import pandas as pd

    local = pd.to_datetime(moments, unit="us", utc=True).tz_convert(zone)
    wall = np.asarray(local.tz_localize(None).as_unit("us").asi8)
    day, time_of_day = wall // DAY_MICROS, wall % DAY_MICROS
    days = table.days.astype(np.int64)
    before = np.searchsorted(days, day)
    at = np.minimum(before, len(days) - 1)
    is_session = days[at] == day if len(days) else np.zeros(len(day), dtype=bool)
    clock: Micros = before * DAY_MICROS + np.where(is_session, time_of_day, 0)
    return clock


def to_instant(moment: datetime) -> np.datetime64:
    """A datetime64[us] in UTC. Raises InvalidTime for a naive datetime.

    >>> to_instant(datetime(2024, 1, 12, 21, tzinfo=timezone.utc))
    np.datetime64('2024-01-12T21:00:00.000000')
    """
    return np.datetime64(require_zone(moment).astimezone(timezone.utc).replace(tzinfo=None), "us")


def to_datetime(instant: np.datetime64) -> datetime:
    """An aware datetime in UTC of a datetime64.

    >>> to_datetime(np.datetime64("2024-01-12T21:00")).isoformat()
    '2024-01-12T21:00:00+00:00'
    """
    naive: datetime = instant.astype("datetime64[us]").item()
    return naive.replace(tzinfo=timezone.utc)


def to_date(day: np.datetime64) -> date:
    """A date of a datetime64.

    >>> to_date(np.datetime64("2024-01-12"))
    datetime.date(2024, 1, 12)
    """
    value: date = day.astype("datetime64[D]").item()
    return value


def _simple(name: str, first: date, last: date) -> Schedule:
    """Days from midnight to midnight in UTC."""
    days = np.arange(np.datetime64(first, "D"), np.datetime64(last, "D") + DAY)
    assumed = None
    if name == WEEKDAYS:
        days = days[np.is_busday(days)]
        assumed = to_date(days[0]) if len(days) else None
    opens, closes = days.astype("datetime64[us]"), (days + DAY).astype("datetime64[us]")
    return Schedule("UTC", first, last, days, opens, closes, assumed)


def _published(name: str, first: date, last: date) -> Schedule:
    """The sessions that exchange_calendars knows; of fewer days where it does not reach as far."""
    from exchange_calendars import errors

    first, last = max(first, _PUBLISHED_FROM), min(last, _PUBLISHED_TO)
    try:
        # exchange_calendars 4.13 reads Series.values, which pandas 3.1 deprecates on every call.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            return _built(name, first, last)
    except (ValueError, NotImplementedError, errors.CalendarError) as exc:
        raise UnknownCalendar(
            f"exchange_calendars cannot build calendar {name}: {str(exc)[:120]}; "
            f"use {WEEKDAYS!r} with overrides until it can"
        ) from exc


def _built(name: str, first: date, last: date) -> Schedule:
    from exchange_calendars import get_calendar

    try:
        calendar = get_calendar(name, start=str(first), end=str(last))
    except ValueError:  # beyond the bounds, which only an instance has
        bounds = get_calendar(name)
        earliest, latest = bounds.bound_min(), bounds.bound_max()
        first = max(first, earliest.date()) if earliest is not None else first
        last = min(last, latest.date()) if latest is not None else last
        calendar = get_calendar(name, start=str(first), end=str(last))
    days = calendar.opens.index.to_numpy().astype("datetime64[D]")
    opens, closes = _instants(calendar.opens), _instants(calendar.closes)
    return Schedule(str(calendar.tz), first, last, days, opens, closes)


def _instants(series: Any) -> Instants:
    instants: Instants = series.dt.tz_convert(None).to_numpy().astype("datetime64[us]")
    return instants


def _assumed(published: Schedule, last: date) -> Schedule:
    """Weekdays from the end of a published schedule on, with its usual hours."""
    first = published.last + _ONE_DAY
    days = _simple(WEEKDAYS, first, last).days
    hours = usual_hours(published, len(published.days))
    opens, closes = (
        np.array([instant_at(day, clock, published.zone) for day in days], dtype="datetime64[us]")
        for clock in hours
    )
    return Schedule(published.zone, first, last, days, opens, closes)


def usual_hours(table: Schedule, position: int) -> tuple[Clock, Clock]:
    """Open and close by the exchange's clock: those of the longest of the sessions before."""
    if not len(table.days):
        return Clock(0, time(0)), Clock(1, time(0))
    some = slice(max(position - _USUAL, 0), max(position, 1))
    longest = int(np.argmax(table.closes[some] - table.opens[some]))
    session = to_date(table.days[some][longest])
    opened, closed = (
        to_datetime(instants[some][longest]).astimezone(ZoneInfo(table.zone))
        for instants in (table.opens, table.closes)
    )
    return (
        Clock((opened.date() - session).days, opened.time()),
        Clock((closed.date() - session).days, closed.time()),
    )


def instant_at(session: np.datetime64, clock: Clock, zone: str) -> np.datetime64:
    day = to_date(session) + timedelta(days=clock.days)
    return to_instant(datetime.combine(day, clock.time, ZoneInfo(zone)))


def _corrected(table: Schedule, override: Override) -> Schedule:
    day = np.datetime64(override.session, "D")
    at = int(np.searchsorted(table.days, day))
    present = at < len(table.days) and bool(table.days[at] == day)
    days, opens, closes = table.days, table.opens, table.closes
    if present and not override.is_session:
        days, opens, closes = (np.delete(column, at) for column in (days, opens, closes))
    elif override.is_session and not present:
        opened, closed = (instant_at(day, clock, table.zone) for clock in usual_hours(table, at))
        opens, closes = np.insert(opens, at, opened), np.insert(closes, at, closed)
        days = np.insert(days, at, day)
    if override.is_session and override.close is not None:
        closes = closes.copy()
        closes[at] = to_instant(override.close)
    return replace(table, days=days, opens=opens, closes=closes)
