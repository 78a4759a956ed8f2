"""Trading calendars: which days are sessions, when they open and close, how old a value is.

`TradingCalendar` has the vocabulary of exchange_calendars (`is_session`, `session_close`,
`date_to_session`, `next_open`), and knows what exchange_calendars does not: corrections that were
recorded in the database, and weekdays as sessions beyond the end of a published calendar.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, time, timedelta, timezone
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np

from mlflow_timescale.common import schedules
from mlflow_timescale.common.calendar_errors import not_a_session, outside
from mlflow_timescale.common.errors import NotASession, UnknownCalendar
from mlflow_timescale.common.imported_sessions import ImportedSessions, schedule_with
from mlflow_timescale.common.micros import Micros
from mlflow_timescale.common.schedules import (
    DAY,
    DAY_MICROS,
    EVERY_DAY,
    WEEKDAYS,
    Days,
    Instants,
    Override,
    Schedule,
    canonical_name,
    session_clock,
    to_date,
    to_datetime,
    to_instant,
)
from mlflow_timescale.common.time import to_micros

__all__ = [
    "EVERY_DAY",
    "WEEKDAYS",
    "Days",
    "Instants",
    "NotASession",
    "Override",
    "TradingCalendar",
    "UnknownCalendar",
    "canonical_name",
]

Direction = Literal["next", "previous", "none"]
_FIRST = date(1985, 1, 1)
_AHEAD = timedelta(days=400)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_MARGIN = 30  # days; longer than an exchange has ever been closed in a row, 1914 apart


class TradingCalendar:
    """The sessions of one exchange, from 1985 (or when its calendar begins) to next year.

    Sessions are dates without a time; opens, closes and all other moments are aware datetimes, UTC
    where they are returned. Days outside the range raise NotASession, except in `next_opens`,
    `next_closes` and `age`, which look as far back or ahead as they need.

    Parameters
    ----------
    name
        An exchange's MIC such as "XNYS" (or an alias that exchange_calendars has), "24/7" or
        "weekdays"; the days of the last two begin at midnight in UTC; or "own:" and a name, with
        `imported`. Raises UnknownCalendar.
    overrides
        Corrections. `calendar_overrides.read_calendar` takes those that are recorded in a database.
    imported
        Sessions of a file, which count instead of the published ones; `read_calendar` takes these,
        too.

    Examples
    --------
    >>> nyse = TradingCalendar("XNYS")
    >>> nyse.is_session(date(2024, 1, 15))  # Martin Luther King Jr. Day
    False
    >>> nyse.next_session(date(2024, 1, 12))
    datetime.date(2024, 1, 16)
    >>> nyse.session_close(date(2024, 1, 12)).isoformat()
    '2024-01-12T21:00:00+00:00'
    >>> storm = Override(date(2024, 1, 16), is_session=False, why="storm")
    >>> TradingCalendar("XNYS", [storm]).next_session(date(2024, 1, 12))
    datetime.date(2024, 1, 17)
    """

    def __init__(
        self,
        name: str,
        overrides: Iterable[Override] = (),
        imported: ImportedSessions | None = None,
    ) -> None:
        self.name = canonical_name(name)
        self.overrides = tuple(sorted(overrides, key=lambda override: override.session))
        self.imported = imported
        today = datetime.now(timezone.utc).date()
        self._schedule = self._build(_FIRST, today + _AHEAD)
        self._days, self._opens, self._closes = (
            self._schedule.days,
            self._schedule.opens,
            self._schedule.closes,
        )

    def __repr__(self) -> str:
        return f"TradingCalendar({self.name!r})"

    @property
    def tz(self) -> ZoneInfo:
        """The exchange's time zone, in which its days begin."""
        return ZoneInfo(self._schedule.zone)

    @property
    def assumed_from(self) -> date | None:
        """The first session that is only a weekday, because the published calendar ends before it.

        None where the published calendar reaches far enough.
        """
        return self._schedule.assumed_from

    @property
    def sessions(self) -> Days:
        """All sessions from 1985, or the calendar's beginning, to next year; shape (n,).

        >>> TradingCalendar("XNYS").sessions[0]
        np.datetime64('1985-01-02')
        """
        return self._days

    @property
    def known_to(self) -> date | None:
        """The last day that the published or imported calendar covers.

        None where it reaches far enough, and for calendars that are made of weekdays or all days.

        >>> TradingCalendar("XNYS").known_to is None
        True
        """
        return self._schedule.known_to

    @property
    def has_hours(self) -> bool:
        """Whether sessions open at some time of day, rather than at midnight in UTC."""
        return bool((self._opens[-20:] != self._opens[-20:].astype("datetime64[D]")).any())

    # Sessions

    def is_session(self, day: date) -> bool:
        """Whether the exchange trades on a day; False outside the calendar.

        >>> TradingCalendar("weekdays").is_session(date(2024, 1, 13))  # a Saturday
        False
        """
        position = self._position(day)
        return position < len(self._days) and bool(self._days[position] == np.datetime64(day, "D"))

    def session_open(self, session: date) -> datetime:
        """The open of a session. Raises NotASession.

        >>> TradingCalendar("XNYS").session_open(date(2024, 1, 12)).isoformat()
        '2024-01-12T14:30:00+00:00'
        """
        return to_datetime(self._opens[self._index(session)])

    def session_close(self, session: date) -> datetime:
        """The close of a session. Raises NotASession.

        >>> TradingCalendar("XNYS").session_close(date(2024, 11, 29)).isoformat()  # closes early
        '2024-11-29T18:00:00+00:00'
        """
        return to_datetime(self._closes[self._index(session)])

    def session_closes(self, sessions: Days) -> Instants:
        """The closes of many sessions.

        Parameters
        ----------
        sessions
            Any shape; the result, datetime64[us] in UTC, has the same. Raises NotASession.

        Examples
        --------
        >>> TradingCalendar("XNYS").session_closes(np.array(["2024-01-12"], "M8[D]"))
        array(['2024-01-12T21:00:00.000000'], dtype='datetime64[us]')
        """
        return self._closes[np.searchsorted(self._days, self.require_sessions(sessions))]

    def require_sessions(self, days: Days) -> Days:
        """The days themselves, if all are sessions.

        Parameters
        ----------
        days
            Any shape. Raises NotASession, which names the first day that is not a session.

        Examples
        --------
        >>> TradingCalendar("XNYS").require_sessions(np.array(["2024-01-13"], "M8[D]"))
        ... # doctest: +ELLIPSIS
        Traceback (most recent call last):
        mlflow_timescale.common.errors.NotASession: 2024-01-13 is not a session of calendar ...
        """
        unique = np.unique(days)
        others = unique[~np.isin(unique, self._days)]
        if len(others):
            raise self._not_a_session(to_date(others[0]), len(others) - 1)
        return days

    def date_to_session(self, day: date, direction: Direction = "none") -> date:
        """The session of a day, or the nearest one.

        Parameters
        ----------
        day
            A day within the calendar.
        direction
            For a day that is not a session: "next" or "previous"; "none" raises NotASession.

        Examples
        --------
        >>> nyse = TradingCalendar("XNYS")
        >>> nyse.date_to_session(date(2024, 1, 13), "previous")
        datetime.date(2024, 1, 12)
        """
        position = self._position(day)
        if not self.is_session(day):
            if direction == "none":
                raise self._not_a_session(day, 0)
            self._check_range(day)
            position -= direction == "previous"
        return to_date(self._days[position])

    def next_session(self, session: date) -> date:
        """The session after a session. Raises NotASession.

        >>> TradingCalendar("XNYS").next_session(date(2024, 1, 12))
        datetime.date(2024, 1, 16)
        """
        return self.session_offset(session, 1)

    def previous_session(self, session: date) -> date:
        """The session before a session. Raises NotASession.

        >>> TradingCalendar("XNYS").previous_session(date(2024, 1, 16))
        datetime.date(2024, 1, 12)
        """
        return self.session_offset(session, -1)

    def session_offset(self, session: date, count: int) -> date:
        """The session `count` sessions later, or earlier if negative. Raises NotASession.

        >>> TradingCalendar("XNYS").session_offset(date(2024, 1, 12), 2)
        datetime.date(2024, 1, 17)
        """
        position = self._index(session) + count
        if not 0 <= position < len(self._days):
            raise NotASession(f"{session} {count:+d} lies outside calendar {self.name}")
        return to_date(self._days[position])

    def sessions_apart(self, start: date, end: date) -> int:
        """How many sessions `end` comes after `start`; negative if before. Raises NotASession.

        >>> TradingCalendar("XNYS").sessions_apart(date(2024, 1, 12), date(2024, 1, 16))
        1
        """
        return self._index(end) - self._index(start)

    def sessions_in_range(self, start: date, end: date) -> list[date]:
        """The sessions from `start` to `end`, both included where they are sessions.

        Raises NotASession for days outside the calendar.

        >>> len(TradingCalendar("XNYS").sessions_in_range(date(2023, 1, 1), date(2023, 12, 31)))
        250
        """
        self._check_range(start)
        self._check_range(end)
        low, high = self._position(start), self._position(end + timedelta(days=1))
        days: list[date] = self._days[low:high].tolist()
        return days

    def last_sessions(self, count: int, as_of: datetime) -> list[date]:
        """The last sessions that had closed at a moment, in order.

        Parameters
        ----------
        count
            The largest number of sessions.
        as_of
            Aware; a session that closes at this moment counts. Raises InvalidTime.

        Examples
        --------
        >>> nyse = TradingCalendar("XNYS")
        >>> nyse.last_sessions(1, nyse.session_open(date(2024, 1, 16)))
        [datetime.date(2024, 1, 12)]
        """
        day = _epoch_day(to_micros(as_of, "as_of"))
        table = self._covering(day - 2 * count - _MARGIN, day)
        closed = int(np.searchsorted(table.closes, to_instant(as_of), side="right"))
        days: list[date] = table.days[max(closed - count, 0) : closed].tolist()
        return days

    # Moments

    def next_open(self, moment: datetime) -> datetime:
        """The first open after a moment. Raises InvalidTime for a naive one.

        >>> nyse = TradingCalendar("XNYS")
        >>> nyse.next_open(nyse.session_close(date(2024, 1, 12))).isoformat()
        '2024-01-16T14:30:00+00:00'
        """
        return _datetime(self.next_opens(_one(moment)))

    def next_close(self, moment: datetime) -> datetime:
        """The first close after a moment. Raises InvalidTime for a naive one.

        >>> nyse = TradingCalendar("XNYS")
        >>> nyse.next_close(nyse.session_close(date(2024, 1, 12))).isoformat()
        '2024-01-16T21:00:00+00:00'
        """
        return _datetime(self.next_closes(_one(moment)))

    def next_opens(self, moments: Micros, count: int = 1) -> Micros:
        """The first open after each moment, or the `count`-th.

        Parameters
        ----------
        moments
            Microseconds since 1970 in UTC, in any order; the result has their shape. Raises
            UnknownCalendar for a moment before the calendar begins.
        count
            1 or more.

        Examples
        --------
        >>> TradingCalendar("XNYS").next_opens(np.array([1705093200_000_000])).view("M8[us]")
        array(['2024-01-16T14:30:00.000000'], dtype='datetime64[us]')
        """
        return self._next(moments, "opens", count)

    def next_closes(self, moments: Micros, count: int = 1) -> Micros:
        """The first close after each moment, or the `count`-th; see `next_opens`.

        >>> TradingCalendar("XNYS").next_closes(np.array([1705093200_000_000])).view("M8[us]")
        array(['2024-01-16T21:00:00.000000'], dtype='datetime64[us]')
        """
        return self._next(moments, "closes", count)

    def instants_to_sessions(self, instants: Instants) -> Days:
        """The session each instant belongs to: from its open until the next session's open.

        A signal computed in the evening, or before the next open, belongs to the session whose data
        it used.

        Parameters
        ----------
        instants
            datetime64 in UTC, any shape; the result has the same. Raises NotASession outside the
            calendar.

        Examples
        --------
        >>> TradingCalendar("XNYS").instants_to_sessions(np.array(["2024-01-14T12:00"], "M8[us]"))
        array(['2024-01-12'], dtype='datetime64[D]')
        """
        positions = np.searchsorted(self._opens, instants.astype("datetime64[us]"), "right") - 1
        beyond = (positions < 0) | (instants >= self._closes[-1] + DAY)
        if beyond.any():
            raise outside(instants[beyond][0], self.name, self._days, self.known_to)
        return self._days[positions]

    def age(self, events: Micros, as_of: datetime, tz: str | None = None) -> Micros:
        """Time since events, of which only the time on session days counts.

        On Monday evening a value of Friday evening is 24 hours old.

        Parameters
        ----------
        events
            Microseconds since 1970 in UTC; any order, shape (n,).
        as_of
            Aware. Raises InvalidTime.
        tz
            Where days begin, if not at the exchange: "UTC" for daily data that is stamped at
            midnight in UTC.

        Returns microseconds, shape (n,). Raises UnknownCalendar for an event before the calendar
        begins.

        Examples
        --------
        >>> friday, monday = (datetime(2024, 1, d, 21, tzinfo=timezone.utc) for d in (5, 8))
        >>> age = TradingCalendar("XNYS").age(np.array([to_micros(friday)]), monday)
        >>> age // 3_600_000_000  # hours
        array([24])
        """
        return self.ages(events, np.array([to_micros(as_of, "as_of")]), tz)

    def ages(self, events: Micros, as_of: Micros, tz: str | None = None) -> Micros:
        """The `age` of each event at a moment of its own.

        Parameters
        ----------
        events, as_of
            Microseconds since 1970 in UTC; shapes (n,), or (1,) for one moment of all events.
        tz
            As in `age`.

        Examples
        --------
        >>> friday, monday = np.array(["2024-01-05T21", "2024-01-08T21"], "M8[us]").astype(np.int64)
        >>> ages = TradingCalendar("XNYS").ages(np.array([friday]), np.array([monday]))
        >>> ages // 3_600_000_000  # hours
        array([24])
        """
        start = int(as_of[0])
        first = min(int(events.min(initial=start)), int(as_of.min()))
        last = max(int(events.max(initial=start)), int(as_of.max()))
        table = self._covering(_epoch_day(first) - 2, _epoch_day(last) + 2)
        zone = tz or table.zone
        age: Micros = session_clock(table, as_of, zone) - session_clock(table, events, zone)
        return age

    def day_start(self, day: date, tz: str | None = None) -> datetime:
        """When a day begins, in the time zone of the exchange or another one.

        >>> TradingCalendar("XNYS").day_start(date(2024, 1, 12)).isoformat()
        '2024-01-12T00:00:00-05:00'
        """
        return datetime.combine(day, time(0), ZoneInfo(tz) if tz else self.tz)

    # Below: tables and positions.

    def _build(self, first: date, last: date) -> Schedule:
        table = schedule_with(self.imported, self.name, first, last)
        return schedules.corrected(table, self.overrides)

    def _covering(self, first: int, last: int) -> Schedule:
        """A schedule that covers two days since 1970, the calendar's own where it does."""
        low, high = (
            date.fromordinal(min(max(day + _EPOCH_ORDINAL, 1), date.max.toordinal()))
            for day in (first, last)
        )
        table = self._schedule
        if low < table.first or high > table.last:
            # Whole years, so that one schedule serves many calls.
            start = min(table.first, low.replace(month=1, day=1))
            table = self._build(start, max(table.last, high.replace(month=12, day=31)))
        if low < table.first:
            raise UnknownCalendar(
                f"calendar {self.name} does not reach {low}: it begins on {table.first}"
            )
        return table

    def _next(self, moments: Micros, column: Literal["opens", "closes"], count: int) -> Micros:
        if not moments.size:
            return moments
        margin = _MARGIN + 7 * count
        table = self._covering(
            _epoch_day(int(moments.min())), _epoch_day(int(moments.max())) + margin
        )
        instants: Micros = getattr(table, column).astype(np.int64)
        index = np.searchsorted(instants, moments, side="right") + count - 1
        if index.max() >= len(instants):
            raise UnknownCalendar(f"calendar {self.name} ends on {table.last}")
        following: Micros = instants[index]
        return following

    def _index(self, session: date) -> int:
        if not self.is_session(session):
            raise self._not_a_session(session, 0)
        return self._position(session)

    def _position(self, day: date) -> int:
        return int(np.searchsorted(self._days, np.datetime64(day, "D")))

    def _check_range(self, day: date) -> None:
        if not self._days[0] <= np.datetime64(day, "D") <= self._days[-1]:
            raise outside(day, self.name, self._days, self.known_to)

    def _not_a_session(self, day: date, more: int) -> NotASession:
        self._check_range(day)
        return not_a_session(day, more, self.name, self._days, self.known_to)


def _epoch_day(micros: int) -> int:
    return micros // DAY_MICROS


def _one(moment: datetime) -> Micros:
    return np.array([to_micros(moment)], dtype=np.int64)


def _datetime(micros: Micros) -> datetime:
    return to_datetime(micros.view("datetime64[us]")[0])
