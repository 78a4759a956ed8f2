"""Errors of trading calendars: what was wrong with a day, and what to do."""

from __future__ import annotations

from datetime import date

import numpy as np

from mlflow_timescale.common.errors import NotASession, UnknownCalendar
from mlflow_timescale.common.schedules import Days, is_own

__all__ = ["longer", "not_a_session", "not_imported", "outside"]


def longer(name: str) -> str:
    """What gives a calendar that ends more sessions.

    >>> longer("own:hedge")
    'mlflow-timescale sessions import FILE --calendar own:hedge'
    """
    command = f"mlflow-timescale sessions import FILE --calendar {name}"
    return command if is_own(name) else f"pip install -U exchange_calendars, or {command}"


def outside(
    moment: date | np.datetime64, name: str, days: Days, known_to: date | None
) -> NotASession:
    """The error for a day or an instant outside the days of a calendar."""
    span = f"({days[0]} to {days[-1]})"
    return NotASession(
        f"{moment} lies outside calendar {name} {span}{_beyond(moment, name, known_to)}"
    )


def not_a_session(
    day: date, more: int, name: str, days: Days, known_to: date | None
) -> NotASession:
    """The error for a day on which the exchange does not trade, and `more` others."""
    position = int(np.searchsorted(days, np.datetime64(day, "D")))
    around = " and ".join(str(item) for item in days[max(position - 1, 0) : position + 1])
    others = f" (and {more} more)" if more else ""
    return NotASession(
        f"{day}{others} is not a session of calendar {name}; next to it are {around}. "
        f"If the exchange did trade, record an override{_beyond(day, name, known_to)}"
    )


def not_imported(name: str) -> UnknownCalendar:
    """The error for a calendar of imported sessions that has none."""
    return UnknownCalendar(
        f"no sessions of calendar {name} are imported in this database: "
        f"`mlflow-timescale sessions import FILE --calendar {name}`"
    )


def _beyond(moment: date | np.datetime64, name: str, known_to: date | None) -> str:
    """The end of a calendar, where it explains the error."""
    if known_to is None or _day(moment) <= np.datetime64(known_to, "D"):
        return ""
    return (
        f". The calendar is known to {known_to} only, and sessions after it are assumed: "
        f"{longer(name)}"
    )


def _day(moment: date | np.datetime64) -> np.datetime64:
    day: np.datetime64 = np.array([moment], dtype="datetime64[D]")[0]
    return day
