"""Reading rows: one value, one row, or every row as an object of a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import psycopg
from psycopg.rows import class_row, dict_row, scalar_row

Record = TypeVar("Record")
Query = Any  # psycopg.sql.SQL, or composed of it; the text lives in sql/queries
Parameters = Mapping[str, Any]
AnyConnection = psycopg.Connection[Any]


def scalar(conn: AnyConnection, query: Query, parameters: Parameters | None = None) -> Any:
    """The first column of the first row; None where there is no row.

    >>> scalar(conn, "SELECT 1")
    1
    """
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(query, parameters).fetchone()


def scalars(conn: AnyConnection, query: Query, parameters: Parameters | None = None) -> list[Any]:
    """The first column of every row.

    >>> scalars(conn, "SELECT generate_series(1, 3)")
    [1, 2, 3]
    """
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(query, parameters).fetchall()


def one(
    conn: AnyConnection, query: Query, parameters: Parameters | None = None, *, binary: bool = False
) -> Any:
    """The first row as a tuple; None where there is none.

    >>> one(conn, "SELECT 1, 'a'")
    (1, 'a')
    """
    with conn.cursor(binary=binary) as cursor:
        return cursor.execute(query, parameters).fetchone()


def records(
    conn: AnyConnection,
    kind: type[Record],
    query: Query,
    parameters: Parameters | None = None,
    *,
    binary: bool = False,
) -> list[Record]:
    """Every row as an object of a class whose fields are named as the columns.

    >>> from dataclasses import make_dataclass
    >>> records(conn, make_dataclass("Point", ["x", "y"]), "SELECT 1 AS x, 2 AS y")
    [Point(x=1, y=2)]
    """
    with conn.cursor(row_factory=class_row(kind), binary=binary) as cursor:
        return cursor.execute(query, parameters).fetchall()


def mappings(
    conn: AnyConnection, query: Query, parameters: Parameters | None = None, *, binary: bool = False
) -> list[dict[str, Any]]:
    """Every row as a dictionary by column.

    >>> mappings(conn, "SELECT 1 AS x")
    [{'x': 1}]
    """
    with conn.cursor(row_factory=dict_row, binary=binary) as cursor:
        return cursor.execute(query, parameters).fetchall()


def pairs(
    conn: AnyConnection, query: Query, parameters: Parameters | None = None
) -> dict[Any, Any]:
    """The second column of every row by the first.

    >>> pairs(conn, "SELECT 1, 'a'")
    {1: 'a'}
    """
    return dict(conn.execute(query, parameters).fetchall())


def if_migrated(
    conn: AnyConnection, query: Query, parameters: Parameters | None = None
) -> list[tuple[Any, ...]]:
    """Every row of a query on what a later revision added; none on a schema without it.

    For checks that begin with a migration: until then a newer client works as the older ones do.

    >>> if_migrated(conn, "SELECT * FROM mlops.not_there_yet")
    []
    """
    try:
        with conn.transaction():  # a savepoint, so that the caller's transaction survives
            return conn.execute(query, parameters).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction):
        return []
