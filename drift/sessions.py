"""Trading sessions: which days count, when they open and close, and whose an instant is.

Calendars come from exchange_calendars. Its calendars end (some within weeks): past the end,
weekdays are taken for sessions, and `assumed_from` says from when. What no calendar knew in
advance, a day of mourning or a storm, is an `Override`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from mlflow_timescale.db import Error

if TYPE_CHECKING:
    import pandas as pd
    from exchange_calendars import ExchangeCalendar

    from mlflow_timescale.features import Sessions as Clock

WEEKDAYS = "weekdays"
_FIRST_DAY = date(1985, 1, 1)
_AHEAD = timedelta(days=400)
_DAY = np.timedelta64(1, "D")

Days = NDArray[np.datetime64]
Instants = NDArray[np.datetime64]


class NotASession(Error, ValueError):
    """A date on which the exchange does not trade, or one outside the calendar."""


@dataclass(frozen=True)
class Override:
    """What the published calendar gets wrong: a session too many, one too few, another close."""

    session: date
    is_session: bool
    close: datetime | None = None
    why: str = ""


@dataclass(frozen=True)
class _Table:
    """Sessions in order, with their opens and closes in UTC (microseconds), all of length n."""

    days: Days
    opens: Instants
    closes: Instants
    assumed_from: date | None


class Sessions:
    """The sessions of one exchange.

    `assumed_from` is the first session that is only a weekday, because the calendar ends before it;
    None where the calendar reaches far enough.

    >>> nyse = Sessions("XNYS")
    >>> nyse.shift(date(2024, 1, 12), 1)  # Monday the 15th was Martin Luther King Jr. Day
    datetime.date(2024, 1, 16)
    >>> nyse.close(date(2024, 1, 12)).isoformat()
    '2024-01-12T21:00:00+00:00'
    """

    def __init__(self, calendar: str, overrides: Iterable[Override] = ()) -> None:
        table = _table(calendar)
        for override in sorted(overrides, key=lambda item: item.session):
            table = _overridden(table, override)
        self.calendar = calendar
        self.assumed_from = table.assumed_from
        self._days, self._opens, self._closes = table.days, table.opens, table.closes

    def __repr__(self) -> str:
        return f"Sessions({self.calendar!r})"

    def __contains__(self, day: date) -> bool:
        position = self._position(day)
        return position < len(self._days) and self._days[position] == np.datetime64(day, "D")

    def open(self, session: date) -> datetime:
        """The open, in UTC. Raises NotASession."""
        return _aware(self._opens[self._index(session)])

    def close(self, session: date) -> datetime:
        """The close, in UTC. Raises NotASession."""
        return _aware(self._closes[self._index(session)])

    def closes(self, sessions: Days) -> Instants:
        """The closes of many sessions, in UTC; same shape."""
        return self._closes[np.searchsorted(self._days, self.require(sessions))]

    @property
    def has_hours(self) -> bool:
        """Whether sessions open at some time of day, rather than at midnight."""
        return bool((self._opens[-20:] != self._opens[-20:].astype("datetime64[D]")).any())

    @property
    def zone(self) -> str:
        """Where its days begin: the exchange's time zone."""
        if self.calendar == WEEKDAYS:
            return "UTC"
        import exchange_calendars

        return str(exchange_calendars.get_calendar(self.calendar).tz)

    def clock(self, until: datetime) -> Clock:
        """A clock that runs on these sessions' days only, to say how old a feature is."""
        from mlflow_timescale.features import Sessions as Clock

        days = self._days.astype(np.int64)
        return Clock(self.zone, days, days[self._closes <= _utc64(until)])

    def shift(self, session: date, count: int) -> date:
        """The session `count` sessions later (earlier if negative). Raises NotASession."""
        position = self._index(session) + count
        if not 0 <= position < len(self._days):
            raise NotASession(f"{session} {count:+d} lies outside calendar {self.calendar}")
        return _date(self._days[position])

    def between(self, start: date, end: date) -> list[date]:
        """The sessions from `start` to `end`, both included where they are sessions."""
        self._check_range(start)
        self._check_range(end)
        low, high = self._position(start), self._position(end + timedelta(days=1))
        return [_date(day) for day in self._days[low:high]]

    def count(self, anchor: date, session: date) -> int:
        """How many sessions `session` comes after `anchor`; negative if before."""
        return self._index(session) - self._index(anchor)

    def last_closed(self, now: datetime) -> date:
        """The last session whose close is not after `now`."""
        position = int(np.searchsorted(self._closes, _utc64(now), side="right")) - 1
        return _date(self._days[position])

    def of_instants(self, instants: Instants) -> Days:
        """The session each instant belongs to: from its open until the next session's open.

        So a signal computed in the evening, or before the next open, belongs to the session whose
        data it has seen. `instants` are UTC datetime64; the result has their shape.
        """
        positions = np.searchsorted(self._opens, instants.astype("datetime64[us]"), "right") - 1
        if instants.size and (positions.min() < 0 or instants.max() >= self._closes[-1] + _DAY):
            outside = instants[(positions < 0) | (instants >= self._closes[-1] + _DAY)][0]
            raise NotASession(f"{outside} lies outside calendar {self.calendar} {self._span()}")
        return self._days[positions]

    def require(self, days: Days) -> Days:
        """Return `days` if all are sessions. Raises NotASession, naming the first that is not."""
        unique = np.unique(days)
        strangers = unique[~np.isin(unique, self._days)]
        if len(strangers):
            raise NotASession(self._stranger(_date(strangers[0]), len(strangers) - 1))
        return days

    def _index(self, session: date) -> int:
        if session not in self:
            raise NotASession(self._stranger(session, 0))
        return self._position(session)

    def _position(self, day: date) -> int:
        return int(np.searchsorted(self._days, np.datetime64(day, "D")))

    def _check_range(self, day: date) -> None:
        if not self._days[0] <= np.datetime64(day, "D") <= self._days[-1]:
            raise NotASession(f"{day} lies outside calendar {self.calendar} {self._span()}")

    def _span(self) -> str:
        return f"({self._days[0]} to {self._days[-1]})"

    def _stranger(self, day: date, more: int) -> str:
        self._check_range(day)
        position = self._position(day)
        around = " and ".join(str(item) for item in self._days[max(position - 1, 0) : position + 1])
        others = f" (and {more} more)" if more else ""
        return (
            f"{day}{others} is not a session of calendar {self.calendar}; next to it are {around}. "
            f"If the exchange did trade, record an override"
        )


@lru_cache(maxsize=32)
def _table(calendar: str) -> _Table:
    until = datetime.now(timezone.utc).date() + _AHEAD
    if calendar == WEEKDAYS:
        return _weekdays(_FIRST_DAY, until, time(0), time(0), timezone.utc)
    found, last = _published(calendar, until)
    if last >= until - timedelta(days=10):
        return found
    assumed = _extension(found, last + timedelta(days=1), until, calendar)
    return _Table(
        np.concatenate([found.days, assumed.days]),
        np.concatenate([found.opens, assumed.opens]),
        np.concatenate([found.closes, assumed.closes]),
        _date(assumed.days[0]),
    )


def _published(calendar: str, until: date) -> tuple[_Table, date]:
    import exchange_calendars
    from exchange_calendars import errors

    try:
        # exchange_calendars 4.13 reads Series.values, which pandas 3.1 deprecates on every call.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            return _built(exchange_calendars.get_calendar, calendar, until)
    except errors.InvalidCalendarName as exc:
        raise Error(
            f"no calendar {calendar!r}; use an exchange's MIC such as XNYS, XLON or XTKS, '24/7' "
            f"for markets that never close, or {WEEKDAYS!r}"
        ) from exc
    except (ValueError, errors.CalendarError) as exc:
        raise Error(
            f"exchange_calendars cannot build calendar {calendar}: {str(exc)[:120]}; "
            f"use calendar={WEEKDAYS!r} with overrides until it can"
        ) from exc


def _built(
    get_calendar: Callable[..., ExchangeCalendar], calendar: str, until: date
) -> tuple[_Table, date]:
    default = get_calendar(calendar)
    earliest, latest = default.bound_min(), default.bound_max()
    first = max(_FIRST_DAY, earliest.date()) if earliest is not None else _FIRST_DAY
    last = min(until, latest.date()) if latest is not None else until
    built = get_calendar(calendar, start=str(first), end=str(last))
    days = built.opens.index.to_numpy().astype("datetime64[D]")
    return _Table(days, _micros(built.opens), _micros(built.closes), None), last


def _micros(series: pd.Series[pd.Timestamp]) -> Instants:
    micros: Instants = series.dt.tz_convert(None).to_numpy().astype("datetime64[us]")
    return micros


def _extension(table: _Table, start: date, until: date, calendar: str) -> _Table:
    import exchange_calendars

    zone = ZoneInfo(str(exchange_calendars.get_calendar(calendar).tz))
    # The longest of the last sessions: the very last one often closes early.
    opened, closed = (
        _aware(instants[-20:][np.argmax(table.closes[-20:] - table.opens[-20:])]).astimezone(zone)
        for instants in (table.opens, table.closes)
    )
    return _weekdays(start, until, opened.time(), closed.time(), zone)


def _weekdays(
    start: date, until: date, opened: time, closed: time, zone: ZoneInfo | timezone
) -> _Table:
    days = np.arange(np.datetime64(start, "D"), np.datetime64(until, "D") + _DAY)
    days = days[np.is_busday(days)]
    # A close at or before the open is on the next day.
    later = timedelta(days=int(closed <= opened))
    opens = [_utc64(datetime.combine(_date(day), opened, zone)) for day in days]
    closes = [_utc64(datetime.combine(_date(day) + later, closed, zone)) for day in days]
    return _Table(days, np.array(opens), np.array(closes), _date(days[0]))


def _overridden(table: _Table, override: Override) -> _Table:
    day = np.datetime64(override.session, "D")
    at = int(np.searchsorted(table.days, day))
    present = at < len(table.days) and bool(table.days[at] == day)
    days, opens, closes = table.days, table.opens, table.closes
    if present and not override.is_session:
        days, opens, closes = np.delete(days, at), np.delete(opens, at), np.delete(closes, at)
    elif override.is_session and not present:
        shift = day - days[at - 1]
        opens = np.insert(opens, at, opens[at - 1] + shift)
        closes = np.insert(closes, at, closes[at - 1] + shift)
        days = np.insert(days, at, day)
    if override.is_session and override.close is not None:
        closes = closes.copy()
        closes[at] = _utc64(override.close)
    return _Table(days, opens, closes, table.assumed_from)


def _utc64(instant: datetime) -> np.datetime64:
    if instant.tzinfo is None:
        raise ValueError(f"{instant.isoformat()} has no time zone; pass an aware datetime")
    return np.datetime64(instant.astimezone(timezone.utc).replace(tzinfo=None), "us")


def _aware(instant: np.datetime64) -> datetime:
    naive: datetime = instant.astype("datetime64[us]").item()
    return naive.replace(tzinfo=timezone.utc)


def _date(day: np.datetime64) -> date:
    found: date = day.astype("datetime64[D]").item()
    return found
