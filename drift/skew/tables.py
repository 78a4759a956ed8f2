"""A table or view of the database as research: the rows of the cells that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from psycopg import sql

from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.common.frames import InvalidFrame
from mlflow_timescale.db import Connection, load

__all__ = ["DatabaseTable"]

_queries = load("drift")
DAY = timedelta(days=1)


class DatabaseTable:
    """A table or view with the columns `entity_key`, `session` (or `as_of`) and the features.

    Parameters
    ----------
    conn
        In autocommit mode.
    name
        Of the table, with its schema where the search path does not lead to it.
    calendar
        The calendar of the strategy.

    Raises
    ------
    InvalidFrame
        There is no such table, or it has no column of the entity or of the session.
    """

    def __init__(self, conn: Connection, name: str, calendar: TradingCalendar) -> None:
        self.conn, self.name, self.calendar = conn, name, calendar
        found = conn.execute(_queries.research_table, {"name": name}).fetchall()
        if not found:
            raise InvalidFrame(
                f"research {name!r} is neither a file nor a table of the database; give a path, or "
                f"schema.table"
            )
        self._relation = sql.Identifier(*found[0][:2])
        self.columns = [column for _, _, column in found]
        self._day = next((day for day in ("session", "as_of") if day in self.columns), "")
        if "entity_key" not in self.columns or not self._day:
            names = ", ".join(self.columns)
            raise InvalidFrame(
                f"research {name!r} needs the columns entity_key and session (or as_of); it has "
                f"{names}"
            )

    def read(
        self, sessions: Sequence[date], entities: Sequence[str], feature: str
    ) -> dict[str, list[Any]]:
        """The columns of one feature, of these entities, from the first session to the last.

        Raises InvalidFrame where the table has no column of the feature.
        """
        if feature not in self.columns:
            names = ", ".join(self.columns)
            raise InvalidFrame(f"{self.name} has no column {feature!r}; it has {names}")
        query = _queries.research_rows.format(
            relation=self._relation, day=sql.Identifier(self._day), feature=sql.Identifier(feature)
        )
        start, end = self._range(min(sessions), max(sessions))
        row = {"entities": sorted(set(entities)), "start": start, "end": end}
        found = self.conn.execute(query, row).fetchall()
        keys, moments, values = zip(*found, strict=True) if found else ((), (), ())
        return {
            "entity_key": list(keys),
            self._day: list(moments),
            feature: [float(v) if isinstance(v, Decimal) else v for v in values],
        }

    def _range(self, first: date, last: date) -> tuple[Any, Any]:
        if self._day == "session":
            return first, last
        before = self.calendar.session_close(self.calendar.previous_session(first))
        return before, self.calendar.session_close(last) + DAY
