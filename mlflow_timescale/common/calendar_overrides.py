"""What the database knows of trading calendars: corrections, and sessions that were imported.

The drift monitor's `override_session` and `sessions import` record it; the feature store and the
drift monitor read it, so that a storm day is no session for either.
"""

from __future__ import annotations

import numpy as np

from mlflow_timescale import db
from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.common.imported_sessions import Hours, ImportedSessions
from mlflow_timescale.common.schedules import Override, canonical_name
from mlflow_timescale.db.rows import scalar

__all__ = ["read_calendar", "read_imported", "record_override"]

_queries = db.load("calendars")


def read_calendar(conn: db.Connection, name: str) -> TradingCalendar:
    """A calendar with the overrides and imported sessions that are recorded in a database.

    Parameters
    ----------
    conn
        A connection to a database with our schema.
    name
        As of `TradingCalendar`. Raises UnknownCalendar.

    Examples
    --------
    >>> from datetime import date
    >>> read_calendar(conn, "XNYS").is_session(date(2024, 1, 15))  # a holiday
    False
    """
    parameters = {"calendar": canonical_name(name)}
    rows = conn.execute(_queries.overrides, parameters).fetchall()
    return TradingCalendar(name, [Override(*row) for row in rows], read_imported(conn, name))


def read_imported(conn: db.Connection, name: str) -> ImportedSessions | None:
    """The imported sessions of a calendar; None where it has none.

    Parameters
    ----------
    conn
        A connection to a database with our schema.
    name
        As of `TradingCalendar`. Raises UnknownCalendar.

    Examples
    --------
    >>> read_imported(conn, "XNYS") is None
    True
    """
    # A schema that waits for its migration has no such table.
    if not scalar(conn, _queries.has_imported):
        return None
    row = conn.execute(_queries.imported, {"calendar": canonical_name(name)}).fetchone()
    if row is None:
        return None
    days, base, *clock = row
    hours = Hours(*clock) if clock[0] is not None else None
    return ImportedSessions(np.array(days, "M8[D]"), base, hours)


def record_override(conn: db.Connection, name: str, override: Override) -> None:
    """Record a correction of a calendar, for everything that reads it from this database.

    Parameters
    ----------
    conn
        A connection to a database with our schema.
    name
        As of `TradingCalendar`. Raises UnknownCalendar.
    override
        Replaces an earlier one of the same day.

    Examples
    --------
    >>> from datetime import date
    >>> storm = Override(date(2024, 1, 16), is_session=False, why="storm")
    >>> record_override(conn, "XNYS", storm)
    >>> read_calendar(conn, "XNYS").is_session(date(2024, 1, 16))
    False
    """
    conn.execute(
        _queries.add_override,
        {
            "calendar": canonical_name(name),
            "session": override.session,
            "is_session": override.is_session,
            "close_time": override.close,
            "why": override.why,
        },
    )
