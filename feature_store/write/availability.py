"""When a value becomes known if its ingest time was not observed: after a lag, or by a calendar."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from mlflow_timescale import db
from mlflow_timescale.common.calendar_overrides import read_calendar
from mlflow_timescale.common.calendars import TradingCalendar, UnknownCalendar
from mlflow_timescale.common.micros import LAST, Micros
from mlflow_timescale.common.time import (
    InvalidTime,
    SessionCount,
    duration_micros,
    fixed_duration,
    parse_duration,
)

__all__ = ["Availability", "FixedLag", "Lag", "SessionRule", "availability", "on_calendar"]


class Availability(Protocol):
    """A rule for the time at which a value of a given event time becomes known."""

    def known_at(self, event: Micros) -> Micros:
        """Ingest times, in microseconds, of events in microseconds."""


Lag = timedelta | Availability | str | None


@dataclass(frozen=True)
class FixedLag:
    """Known a fixed time after the event.

    Parameters
    ----------
    lag
        A timedelta, zero or more. Raises InvalidTime when it is applied.

    Examples
    --------
    >>> import numpy as np
    >>> FixedLag(timedelta(hours=4)).known_at(np.array([0]))
    array([14400000000])
    """

    lag: timedelta

    def known_at(self, event: Micros) -> Micros:
        return _later(event, duration_micros(self.lag, "availability_lag"))

    def __str__(self) -> str:
        return f"event_time + {self.lag}"


@dataclass(frozen=True)
class SessionRule:
    """Known at the next open (or close) of an exchange after the event, plus a delay.

    Attributes
    ----------
    calendar
        A name as of `TradingCalendar`: an exchange's MIC such as "XNYS", "24/7" or "weekdays". The
        store reads the calendar, with its recorded overrides, from its database. A
        `TradingCalendar` is used as it is.
    at
        "open" or "close".
    sessions
        Opens (or closes) to wait for, from 1. An event at the very moment of an open waits for the
        next one.
    delay
        Added to the open or close; a timedelta, or a text such as "5m".

    Raises
    ------
    UnknownCalendar
        `at` or `sessions` is out of range. `known_at`: the calendar does not exist, or begins after
        the event.
    InvalidTime
        `delay` is no duration.

    Examples
    --------
    >>> import numpy as np
    >>> from mlflow_timescale.common.time import from_micros
    >>> friday = np.array([1705093200_000_000])  # 2024-01-12 16:00 in New York
    >>> known = SessionRule("XNYS").known_at(friday)[0]
    >>> from_micros(known).isoformat()  # Monday is Martin Luther King Day
    '2024-01-16T14:30:00+00:00'
    """

    calendar: str | TradingCalendar
    at: str = "open"
    sessions: int = 1
    delay: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        if self.at not in ("open", "close") or self.sessions < 1:
            raise UnknownCalendar(
                f"a session rule waits for 1 or more sessions, until 'open' or 'close'; "
                f"got sessions={self.sessions!r}, at={self.at!r}"
            )
        object.__setattr__(self, "delay", fixed_duration(self.delay, "delay"))

    def known_at(self, event: Micros) -> Micros:
        """The ingest times of events.

        Parameters
        ----------
        event
            Microseconds since 1970 in UTC, shape (n,).

        Returns
        -------
        array of int64
            Microseconds since 1970 in UTC, shape (n,).

        Raises
        ------
        UnknownCalendar
            The calendar does not exist, or begins after an event.

        Examples
        --------
        >>> import numpy as np
        >>> from mlflow_timescale.common.time import from_micros
        >>> event = np.array([1704897000_000_000])  # 2024-01-10 14:30 UTC: the very open
        >>> from_micros(SessionRule("XNYS").known_at(event)[0]).isoformat()
        '2024-01-11T14:30:00+00:00'
        """
        calendar = self.calendar
        if isinstance(calendar, str):
            calendar = TradingCalendar(calendar)
        following = calendar.next_opens if self.at == "open" else calendar.next_closes
        return _later(following(event, self.sessions), duration_micros(self.delay, "delay"))

    def __str__(self) -> str:
        name = self.calendar if isinstance(self.calendar, str) else self.calendar.name
        nth = "next" if self.sessions == 1 else f"{self.sessions}th next"
        delay = f" + {self.delay}" if self.delay else ""
        return f"{nth} {name} {self.at}{delay}"


def availability(rule: Lag) -> Availability | None:
    """The rule that an `availability_lag` stands for.

    Parameters
    ----------
    rule
        A timedelta; a text such as "4h" or "XNYS next open"; a rule; or None.

    Raises InvalidTime or UnknownCalendar.

    Examples
    --------
    >>> print(availability("4h"), "/", availability("XNYS next open"))
    event_time + 4:00:00 / next XNYS open
    """
    if isinstance(rule, str):
        return _parse(rule)
    if isinstance(rule, timedelta):
        return FixedLag(fixed_duration(rule, "availability_lag"))
    if rule is not None and not hasattr(rule, "known_at"):
        raise _unreadable(rule)
    return rule


def on_calendar(conn: db.Connection, rule: Availability | None) -> Availability | None:
    """A rule on the calendar that is recorded in a database, with its overrides.

    Parameters
    ----------
    conn
        A connection to a database with our schema.
    rule
        Rules without the name of a calendar are returned as they are. Raises UnknownCalendar.

    Examples
    --------
    >>> on_calendar(conn, SessionRule("XNYS")).calendar
    TradingCalendar('XNYS')
    """
    if isinstance(rule, SessionRule) and isinstance(rule.calendar, str):
        return replace(rule, calendar=read_calendar(conn, rule.calendar))
    return rule


def _later(moments: Micros, delay: int) -> Micros:
    """Moments and a delay in microseconds; raises InvalidTime beyond the year 9999."""
    if moments.size and int(moments.max()) + delay > LAST:
        raise InvalidTime("availability_lag leads beyond the year 9999; give a shorter one")
    return moments + delay if moments.size else moments


def _parse(text: str) -> Availability:
    words = text.split()
    if len(words) == 3 and words[1] == "next":
        return SessionRule(words[0], words[2])
    try:
        lag = parse_duration(text)
    except InvalidTime as exc:
        raise _unreadable(text) from exc
    if isinstance(lag, SessionCount):
        raise _unreadable(text)
    return FixedLag(lag)


def _unreadable(text: object) -> UnknownCalendar:
    return UnknownCalendar(
        f"cannot read the availability rule {text!r}; write it as 'XNYS next open' or "
        f"'XNYS next close', or as a lag such as '4h'"
    )
