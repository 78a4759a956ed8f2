"""When a value becomes known if nobody observed it: after a lag, or by a trading calendar."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from .errors import UnknownCalendar
from .times import Micros, duration_micros, from_micros

_DAY = 86_400_000_000
_MARGIN_DAYS = 30  # longer than any exchange has ever been closed in a row, 1914 apart
_BLOCK_DAYS = 64  # calendars are built for whole blocks, so that one serves many writes


class Availability(Protocol):
    """A rule that says when a value with a given event time becomes known."""

    def known_at(self, event: Micros) -> Micros:
        """Ingest times, in microseconds, of events in microseconds."""


@dataclass(frozen=True)
class FixedLag:
    """Known a fixed time after the event."""

    lag: timedelta

    def known_at(self, event: Micros) -> Micros:
        return event + duration_micros(self.lag, "availability_lag")

    def __str__(self) -> str:
        return f"event_time + {self.lag}"


@dataclass(frozen=True)
class SessionRule:
    """Known at the next open (or close) of an exchange after the event, plus a delay.

    Attributes
    ----------
    calendar
        A name of exchange_calendars: an ISO market code such as "XNYS".
    at
        "open" or "close".
    sessions
        Opens (or closes) to wait for, from 1. An event at the very moment of an open waits for the
        next one.
    delay
        Added to the open or close.

    Raises
    ------
    UnknownCalendar
        `at` or `sessions` is out of range. `known_at`: the calendar does not exist, or ends before
        the event.

    Examples
    --------
    >>> friday = np.array([1705093200_000_000])  # 2024-01-12 16:00 in New York
    >>> known = SessionRule("XNYS").known_at(friday)[0]
    >>> from_micros(known).isoformat()  # Monday is Martin Luther King Day
    '2024-01-16T14:30:00+00:00'
    """

    calendar: str
    at: str = "open"
    sessions: int = 1
    delay: timedelta = field(default=timedelta(0))

    def __post_init__(self) -> None:
        if self.at not in ("open", "close") or self.sessions < 1:
            raise UnknownCalendar(
                f"a session rule waits for 1 or more sessions, until 'open' or 'close'; "
                f"got sessions={self.sessions!r}, at={self.at!r}"
            )

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
            The calendar does not exist, or ends before an event.

        Examples
        --------
        >>> event = np.array([1704897000_000_000])  # 2024-01-10 14:30 UTC: the very open
        >>> from_micros(SessionRule("XNYS").known_at(event)[0]).isoformat()
        '2024-01-11T14:30:00+00:00'
        """
        if not event.size:
            return event
        margin = _MARGIN_DAYS + 7 * self.sessions
        moments = self._moments(
            int(event.min()) // _DAY // _BLOCK_DAYS * _BLOCK_DAYS,
            (int(event.max()) // _DAY + margin) // _BLOCK_DAYS * _BLOCK_DAYS + _BLOCK_DAYS,
        )
        index = np.searchsorted(moments, event, side="right") + self.sessions - 1
        if index.max() >= len(moments):
            raise UnknownCalendar(
                f"calendar {self.calendar} ends before the {self.at} that follows "
                f"{from_micros(event.max()).isoformat()}"
            )
        return moments[index] + duration_micros(self.delay, "delay")

    def _moments(self, first_day: int, last_day: int) -> Micros:
        schedule = trading_calendar(self.calendar, first_day, last_day)
        moments = schedule.opens if self.at == "open" else schedule.closes
        return np.asarray(moments.dt.as_unit("us").astype("int64"), dtype=np.int64)

    def __str__(self) -> str:
        nth = "next" if self.sessions == 1 else f"{self.sessions}th next"
        late = f" + {self.delay}" if self.delay else ""
        return f"{nth} {self.calendar} {self.at}{late}"


def availability(rule: timedelta | Availability | str | None) -> Availability | None:
    """Read what `availability_lag` accepts: a lag, a rule, or "XNYS next open".

    >>> print(availability(timedelta(hours=4)), "/", availability("XNYS next open"))
    event_time + 4:00:00 / next XNYS open
    """
    if rule is None:
        return None
    if isinstance(rule, timedelta):
        duration_micros(rule, "availability_lag")
        return FixedLag(rule)
    if isinstance(rule, str):
        return _parse(rule)
    return rule


def _parse(text: str) -> SessionRule:
    words = text.split()
    if len(words) == 3 and words[1] == "next":
        return SessionRule(words[0], words[2])
    raise UnknownCalendar(
        f"cannot read the availability rule {text!r}; write it as 'XNYS next open' or "
        f"'XNYS next close', or give a timedelta"
    )


@lru_cache(maxsize=16)
def trading_calendar(name: str, first_day: int, last_day: int) -> Any:
    """The calendar between two days; to its own end where it does not reach that far."""
    import exchange_calendars
    import pandas as pd

    start, end = (pd.Timestamp(day, unit="D") for day in (first_day, last_day))
    try:
        return exchange_calendars.get_calendar(name, start=start, end=end)
    except exchange_calendars.errors.InvalidCalendarName as exc:
        raise UnknownCalendar(
            f"no trading calendar {name!r}; names are market codes such as XNYS, XLON, XTKS"
        ) from exc
    except ValueError:
        try:
            return exchange_calendars.get_calendar(name, start=start)
        except ValueError as exc:
            raise UnknownCalendar(f"calendar {name} does not reach the events: {exc}") from exc
