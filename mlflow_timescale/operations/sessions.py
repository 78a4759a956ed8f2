"""Import the sessions of a trading calendar from a file such as qlib's `calendars/day.txt`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import NamedTuple

import numpy as np

from mlflow_timescale import db
from mlflow_timescale.common.calendar_overrides import read_calendar, read_imported
from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.common.errors import first_of
from mlflow_timescale.common.imported_sessions import Hours, ImportedSessions, InvalidSessions
from mlflow_timescale.common.schedules import WEEKDAYS, Days, canonical_name, is_own, to_date

__all__ = ["SessionsImport", "Use", "import_sessions"]

_queries = db.load("calendars")
_SHOWN = 5


class Use(NamedTuple):
    """The kinds of data that a strategy has for a session."""

    session: date
    strategy_id: str
    kinds: str


@dataclass(frozen=True)
class SessionsImport:
    """The changes of an import of sessions.

    Attributes
    ----------
    calendar
        The calendar with the imported sessions.
    imported
        The number of sessions that were not imported before.
    added, removed
        Days that became sessions, and days that no longer are; in order.
    in_use
        The data of strategies for removed sessions. If there is any, nothing is changed.
    changed
        False if all sessions were imported before.
    """

    calendar: TradingCalendar
    imported: int
    added: tuple[date, ...]
    removed: tuple[date, ...]
    in_use: tuple[Use, ...]
    changed: bool


def import_sessions(
    conn: db.Connection,
    name: str,
    days: Days,
    *,
    like: str | None = None,
    hours: Hours | None = None,
) -> SessionsImport:
    """Create or extend a calendar of imported sessions.

    Between the first and the last of the days, only these days are sessions. If predictions,
    returns or results refer to a session that would be removed, nothing is changed.

    Parameters
    ----------
    conn
        A connection outside of a transaction.
    name
        An exchange's MIC, or "own:" and a name. Raises UnknownCalendar.
    days
        As `parse_sessions` returns them. Raises InvalidSessions if there is a gap of sessions
        between them and those of earlier imports.
    like
        For a calendar named "own:": the exchange with the same hours and time zone.
    hours
        Other hours; None keeps those of an earlier import.

    Examples
    --------
    >>> days = np.array(["2024-01-12", "2024-01-15"], "M8[D]")  # the second is a holiday
    >>> import_sessions(conn, "XNYS", days).added
    (datetime.date(2024, 1, 15),)
    """
    name = canonical_name(name)
    with conn.transaction():
        exists = conn.execute(_queries.has_imported).fetchone()
        if not exists or not exists[0]:
            raise db.MigrationError("imported sessions need `mlflow-timescale migrate` first")
        conn.execute(_queries.serialize_imports, {"calendar": name})
        before = read_imported(conn, name)
        present = read_calendar(conn, name) if before is not None or not is_own(name) else None
        after = _merged(_settings(name, before, days, like, hours), before, present)
        calendar = TradingCalendar(name, present.overrides if present else (), after)
        change = _change(conn, calendar, present, before)
        if change.changed and not change.in_use:
            conn.execute(_queries.save_imported, _row(name, after))
    return change


def _settings(
    name: str, before: ImportedSessions | None, days: Days, like: str | None, hours: Hours | None
) -> ImportedSessions:
    """The days with base and hours, given or from an earlier import."""
    if not is_own(name):
        if like is not None:
            raise InvalidSessions(f"{name} is an exchange, whose hours are known; omit --like")
        return ImportedSessions(days, name, hours or (before.hours if before else None))
    base = canonical_name(like) if like is not None else before.base if before else WEEKDAYS
    hours = hours or (before.hours if before and like is None else None)
    if is_own(base):
        raise InvalidSessions(f"{base} has no hours of its own; give an exchange's MIC")
    if base == WEEKDAYS and hours is None:
        raise InvalidSessions(
            f"the sessions of {name} have no hours: give an exchange that has them (--like XSHG), "
            f"or --open, --close and --zone"
        )
    return ImportedSessions(days, base, hours)


def _merged(
    given: ImportedSessions, before: ImportedSessions | None, present: TradingCalendar | None
) -> ImportedSessions:
    """The given days, and earlier imported days outside of their range."""
    if before is None or present is None:
        return given
    days, low, high = before.days, given.days[0], given.days[-1]
    between = present.sessions
    between = between[
        (between > days[-1]) & (between < low) | (between > high) & (between < days[0])
    ]
    if len(between):
        raise InvalidSessions(
            f"sessions are missing between {low} to {high} of the file and {days[0]} to {days[-1]} "
            f"of earlier imports: {first_of(between.tolist(), _SHOWN)}; import a file that has them"
        )
    outside = days[(days < low) | (days > high)]
    return replace(given, days=np.sort(np.concatenate([outside, given.days])))


def _change(
    conn: db.Connection,
    calendar: TradingCalendar,
    present: TradingCalendar | None,
    before: ImportedSessions | None,
) -> SessionsImport:
    assert calendar.imported is not None  # nosec B101  # for mypy
    days, earlier = calendar.imported.days, before.days if before else np.array([], "M8[D]")
    old = present.sessions if present else np.array([], "M8[D]")
    removed = _dates(np.setdiff1d(old, calendar.sessions))
    return SessionsImport(
        calendar,
        imported=len(np.setdiff1d(days, earlier)),
        added=_dates(np.setdiff1d(calendar.sessions, old)),
        removed=removed,
        in_use=tuple(_uses(conn, calendar.name, removed)),
        changed=before is None or before.to_dict() != calendar.imported.to_dict(),
    )


def _uses(conn: db.Connection, name: str, sessions: Sequence[date]) -> Iterable[Use]:
    if sessions:
        given = {"calendar": name, "sessions": list(sessions)}
        yield from (Use(*row) for row in conn.execute(_queries.sessions_in_use, given))


def _dates(days: Days) -> tuple[date, ...]:
    return tuple(to_date(day) for day in days)


def _row(name: str, imported: ImportedSessions) -> dict[str, object]:
    hours = imported.hours
    return {
        "calendar": name,
        "sessions": imported.days.tolist(),
        "base": imported.base,
        "zone": hours.zone if hours else None,
        "opens": hours.opens if hours else None,
        "closes": hours.closes if hours else None,
    }
