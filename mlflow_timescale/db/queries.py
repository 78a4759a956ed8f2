"""Named queries: `load("server").database_exists` is the statement of that name in `sql/queries/`.

A file is a sequence of

    -- name: database_exists
    -- One line on what it answers.
    SELECT ...;

A query is a `psycopg.sql.SQL`: values are parameters, `%(name)s`; identifiers, where a query takes
any, are placeholders that `.format(name=sql.Identifier(...))` fills.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from types import SimpleNamespace
from typing import Any

from psycopg.sql import SQL

SQL_PACKAGE = "mlflow_timescale.sql"
_HEADER = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


class Queries(SimpleNamespace):
    """The queries of one file, as attributes."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no query {name!r}; this file has {', '.join(sorted(vars(self)))}")


@cache
def load(name: str) -> Queries:
    """Read `sql/queries/<name>.sql`."""
    text = (files(SQL_PACKAGE) / "queries" / f"{name}.sql").read_text(encoding="utf-8")
    return Queries(**{key: SQL(body) for key, body in split(text).items()})


def split(text: str) -> dict[str, str]:
    """Cut the text of a query file into statements by name.

    >>> split("-- name: one\\n-- What is one?\\nSELECT 1;\\n")
    {'one': 'SELECT 1'}
    """
    _, *parts = _HEADER.split(text)
    return {name: _statement(body) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def _statement(body: str) -> str:
    lines = (line for line in body.splitlines() if not line.startswith("--"))
    return "\n".join(lines).strip().rstrip(";")
