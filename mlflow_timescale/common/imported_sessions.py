"""Sessions from a file: a list of dates that replaces what a calendar publishes or assumes.

qlib keeps the sessions of its data in `calendars/day.txt`, and with future ones in
`day_future.txt`: one date a line, in order. Between the first and the last imported session exactly
these days are sessions; before and after, an exchange's calendar goes on as it is published.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, time
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from mlflow_timescale.common.calendar_errors import not_imported
from mlflow_timescale.common.errors import InvalidInput
from mlflow_timescale.common.schedules import (
    WEEKDAYS,
    Clock,
    Days,
    Schedule,
    instant_at,
    is_own,
    schedule,
    to_date,
    usual_hours,
)

__all__ = [
    "Hours",
    "ImportedSessions",
    "InvalidSessions",
    "parse_sessions",
    "schedule_with",
    "with_imported",
]


class InvalidSessions(InvalidInput, ValueError):
    """A file of sessions that cannot be read, or whose sessions contradict recorded inputs."""


@dataclass(frozen=True)
class Hours:
    """When every session opens and closes, by the clock of a time zone.

    A close that is not after the open is one of the next day.

    Parameters
    ----------
    zone
        An IANA name such as Asia/Shanghai. Raises InvalidSessions.
    opens, closes
        Times of day, without a zone.

    Examples
    --------
    >>> Hours("Asia/Shanghai", time(9, 30), time(15)).clocks()[1]
    Clock(days=0, time=datetime.time(15, 0))
    """

    zone: str
    opens: time
    closes: time

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.zone)
        except (KeyError, ValueError, OSError) as exc:
            raise InvalidSessions(
                f"no time zone {self.zone!r}; give an IANA name such as Asia/Shanghai"
            ) from exc

    def clocks(self) -> tuple[Clock, Clock]:
        """Open and close, the close on the next day where it is not after the open."""
        return Clock(0, self.opens), Clock(int(self.closes <= self.opens), self.closes)


@dataclass(frozen=True, eq=False)
class ImportedSessions:
    """The imported sessions of one calendar.

    Parameters
    ----------
    days
        In order, without repeats, at least one; shape (n,).
    base
        The calendar whose hours they have, and which goes on after the last of them.
    hours
        Other hours than those of `base`.
    """

    days: Days
    base: str = WEEKDAYS
    hours: Hours | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON; `from_dict` reads it."""
        hours = self.hours
        return {
            "base": self.base,
            "sessions": [str(day) for day in self.days],
            "hours": hours
            and {
                "zone": hours.zone,
                "opens": hours.opens.isoformat(),
                "closes": hours.closes.isoformat(),
            },
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> ImportedSessions:
        """The sessions that `to_dict` wrote.

        >>> days = np.array(["2024-01-12"], "M8[D]")
        >>> ImportedSessions.from_dict(ImportedSessions(days).to_dict()).days
        array(['2024-01-12'], dtype='datetime64[D]')
        """
        hours = plain["hours"]
        if hours is not None:
            opens, closes = (time.fromisoformat(hours[key]) for key in ("opens", "closes"))
            hours = Hours(hours["zone"], opens, closes)
        return cls(np.array(plain["sessions"], "M8[D]"), plain["base"], hours)


def parse_sessions(text: str) -> Days:
    """The dates of a file with one session a line.

    Parameters
    ----------
    text
        Dates such as 2024-01-12, in order. Raises InvalidSessions, which names the first line that
        is no date, or no later date than the line before.

    Returns
    -------
    array of datetime64[D]
        Shape (sessions,), in order.

    Examples
    --------
    >>> parse_sessions("2024-01-12\\n2024-01-15\\n")
    array(['2024-01-12', '2024-01-15'], dtype='datetime64[D]')
    >>> parse_sessions("2024-01-12\\n2024-01-12\\n")
    Traceback (most recent call last):
    mlflow_timescale.common.imported_sessions.InvalidSessions: line 2: 2024-01-12 stands twice
    """
    days = list(_parsed(text.removeprefix("\ufeff").split("\n")))
    if not days:
        raise InvalidSessions("the file holds no session; give one date a line, as 2024-01-12")
    return np.array(days, "M8[D]")


def schedule_with(
    imported: ImportedSessions | None, name: str, first: date, last: date
) -> Schedule:
    """The sessions of a calendar between two days, with those that were imported, if any.

    Parameters
    ----------
    imported
        None: the published and assumed ones. Raises UnknownCalendar for a calendar of its own.
    name
        Canonical.
    first, last
        As of `schedule`.

    Examples
    --------
    >>> len(schedule_with(None, "XNYS", date(2024, 1, 12), date(2024, 1, 16)).days)
    2
    """
    if imported is not None:
        return with_imported(schedule(imported.base, first, last), imported, name)
    if is_own(name):
        raise not_imported(name)
    return schedule(name, first, last)


def with_imported(table: Schedule, imported: ImportedSessions, name: str) -> Schedule:
    """A schedule whose days between the first and the last imported session are the imported ones.

    Parameters
    ----------
    table
        The schedule of `imported.base`.
    imported
        The sessions, and other hours.
    name
        Of the calendar. One of its own begins with the first imported session, and is known until
        the last; an exchange's is known as far as it is published or imported.

    Examples
    --------
    >>> table = schedule("XNYS", date(2024, 1, 10), date(2024, 1, 17))  # the 15th was a holiday
    >>> days = np.array(["2024-01-12", "2024-01-15"], "M8[D]")
    >>> with_imported(table, ImportedSessions(days, "XNYS"), "XNYS").days[2:5]
    array(['2024-01-12', '2024-01-15', '2024-01-16'], dtype='datetime64[D]')
    """
    low, high = imported.days[0], imported.days[-1]
    own = is_own(name)
    base = _on_hours(table, imported.hours) if own else table
    days = imported.days
    days = days[(days >= np.datetime64(base.first)) & (days <= np.datetime64(base.last))]
    inside = _on_hours(_with_days(base, days), imported.hours)
    before = np.flatnonzero((base.days < low) & (not own))
    after = np.flatnonzero(base.days > high)
    days, opens, closes = (
        np.concatenate(
            [getattr(base, name)[before], getattr(inside, name), getattr(base, name)[after]]
        )
        for name in ("days", "opens", "closes")
    )
    first = max(base.first, to_date(low)) if own else base.first
    return _known(
        Schedule(base.zone, first, base.last, days, opens, closes), _known_to(base, high, own)
    )


def _known_to(base: Schedule, high: np.datetime64, own: bool) -> date | None:
    """Until when sessions are known; None: for the whole schedule."""
    last = to_date(high)
    known_to = last if own or (base.known_to and base.known_to < last) else base.known_to
    return known_to if known_to and known_to < base.last else None


def _known(table: Schedule, known_to: date | None) -> Schedule:
    later = table.days[table.days > np.datetime64(known_to)] if known_to else table.days[:0]
    return replace(table, known_to=known_to, assumed_from=to_date(later[0]) if len(later) else None)


def _with_days(table: Schedule, days: Days) -> Schedule:
    """Days with the opens and closes of a schedule, or its usual ones where it lacks a day."""
    positions = np.searchsorted(table.days, days)
    at = np.minimum(positions, max(len(table.days) - 1, 0))
    opens, closes = table.opens[at], table.closes[at]
    for row in np.flatnonzero(table.days[at] != days):
        clocks = usual_hours(table, int(positions[row]))
        opens[row], closes[row] = (instant_at(days[row], clock, table.zone) for clock in clocks)
    return replace(table, days=days, opens=opens, closes=closes)


def _on_hours(table: Schedule, hours: Hours | None) -> Schedule:
    """The same days with the hours that are given, if any."""
    if hours is None:
        return table
    opens, closes = (
        np.array([instant_at(day, clock, hours.zone) for day in table.days], "M8[us]")
        for clock in hours.clocks()
    )
    return replace(table, zone=hours.zone, opens=opens, closes=closes)


def _parsed(lines: list[str]) -> Iterator[date]:
    last: date | None = None
    while lines and not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, 1):
        day = _day(line.strip(), number)
        if last is not None and day <= last:
            raise InvalidSessions(
                f"line {number}: {day} stands twice"
                if day == last
                else f"line {number}: {day} comes after {last}; sort the file"
            )
        last = day
        yield day


def _day(text: str, number: int) -> date:
    try:
        if len(text) != len("2024-01-12"):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidSessions(
            f"line {number}: {text[:40]!r} is no date; write one a line, as 2024-01-12"
        ) from None
