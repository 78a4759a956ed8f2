"""What was added to MLflow's `metrics`, and is given to the table that takes its place.

Owner, grants, storage options, comments, indexes, constraints, triggers, policies, publications,
views and functions are read as the statements that make them. Views are replaced, not dropped: they
keep their own owner, grants and everything that stands on them. Materialized views cannot be
replaced: they are made again, and get their rows afterwards (`refresh`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from mlflow_timescale import db
from mlflow_timescale.db import Connection, rows

_queries = db.load("adopt")


@dataclass(frozen=True)
class Addition:
    """One addition: when its statement runs (`next`: on the empty next table), and what it is."""

    stage: Literal["next", "after"]
    place: int
    kind: str
    name: str
    statement: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def additions(conn: Connection, schema: str) -> list[Addition]:
    """Everything that a rebuild carries over, in the order in which it is applied."""
    with conn.transaction(), _names_in_full(conn):
        return rows.records(conn, Addition, _queries.carried, _tables(schema))


def obstacles(conn: Connection, schema: str, *, hypertable: bool) -> list[str]:
    """What a rebuild cannot carry over, each with what to do about it.

    Parameters
    ----------
    conn
        A connection to the database.
    schema
        The schema of MLflow's tables, quoted for SQL.
    hypertable
        Whether the next table is a hypertable, which cannot have all that a table can.
    """
    parameters = {**_tables(schema), "hypertable": hypertable}
    return rows.scalars(conn, _queries.obstacles, parameters)


def apply(conn: Connection, carried: Iterable[Addition], stage: str) -> None:
    """Run the statements of a stage, in the current transaction."""
    with _names_in_full(conn):
        if stage == "next":
            _execute(conn, rows.scalars(conn, _queries.default_grants))
        _execute(conn, [each.statement for each in carried if each.stage == stage])


def refresh(conn: Connection) -> None:
    """Compute the rows of the materialized views that a rebuild made again."""
    for view in rows.scalars(conn, _queries.without_rows):
        conn.execute(_queries.refresh.format(view=sql.SQL(view)))  # quoted by the server


def open_to_users(conn: Connection) -> None:
    """Let the roles that use `metrics` use what the stores need of our schema."""
    for statements in conn.execute(_queries.open_to_users).fetchall():
        _execute(conn, statements)


@contextmanager
def _names_in_full(conn: Connection) -> Iterator[None]:
    """Definitions that are read and written in here name the schema of every object."""
    path = rows.scalar(conn, _queries.search_path)
    conn.execute(_queries.set_search_path, {"path": "pg_catalog"})
    yield
    conn.execute(_queries.set_search_path, {"path": path})


def _tables(schema: str) -> dict[str, str]:
    return {"table": f"{schema}.metrics", "runs": f"{schema}.runs"}


def _execute(conn: Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        conn.execute(sql.SQL("{}").format(sql.SQL(statement)))
