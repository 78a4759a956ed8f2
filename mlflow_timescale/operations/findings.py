"""What a check of `doctor` examines, and what it yields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from psycopg.rows import dict_row

from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI

Level = Literal["ok", "note", "action"]


@dataclass(frozen=True)
class Finding:
    """The result of one check; level "action" means that a person has to act."""

    check: str
    level: Level
    found: str
    advice: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Patient:
    """The database that the checks examine."""

    conn: db.Connection
    uri: DatabaseURI
    workers: int

    def row(self, query: Any, **values: Any) -> dict[str, Any]:
        return next(iter(self.rows(query, **values)), {})

    def rows(self, query: Any, **values: Any) -> list[dict[str, Any]]:
        with self.conn.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, values or None).fetchall()

    def one(self, query: Any, **values: Any) -> Any:
        return next(iter(self.row(query, **values).values()), None)


def in_bytes(count: float) -> str:
    """A size as text.

    >>> in_bytes(512), in_bytes(2.5 * 2**20), in_bytes(3 * 2**40)
    ('512 B', '2.5 MB', '3.0 TB')
    """
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TB"
