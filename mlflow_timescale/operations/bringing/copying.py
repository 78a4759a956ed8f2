"""Rows of MLflow's tables: read from a source, copied into the target or a temporary table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from psycopg import sql
from sqlalchemy import (
    JSON,
    Column,
    Table,
    TypeDecorator,
    column,
    exists,
    inspect,
    select,
    type_coerce,
)
from sqlalchemy import Connection as Rows
from sqlalchemy import table as table_of

from mlflow_timescale import db
from mlflow_timescale.db import Connection

Row = tuple[Any, ...]
Convert = Callable[[dict[str, Any]], "dict[str, Any] | None"]
_queries = db.load("merging")
_ROWS_AT_ONCE = 10_000
# In a source that is a database of ours: metrics that were generated from others.
_GENERATED = table_of("generated_metrics", column("run_uuid"), column("key"), schema="mlops")


def columns_of(table: Table) -> list[Column[Any]]:
    """The stored columns of a table, without computed ones."""
    return [column for column in table.columns if column.computed is None]


def read_rows(
    source: Rows, table: Table, *conditions: Any, order: Sequence[Any] = ()
) -> Iterator[Row]:
    """The rows of a table as stored: encrypted values stay encrypted, JSON is a text."""
    columns = columns_of(table)
    stored = [
        type_coerce(column, column.type.impl) if isinstance(column.type, TypeDecorator) else column
        for column in columns
    ]
    as_json = {number for number, column in enumerate(columns) if isinstance(column.type, JSON)}
    query = select(*stored).where(*conditions, *not_generated(source, table)).order_by(*order)
    for row in source.execution_options(yield_per=_ROWS_AT_ONCE).execute(query):
        yield _with_json(row, as_json) if as_json else tuple(row)


def not_generated(source: Rows, table: Table) -> list[Any]:
    """The conditions that exclude metrics that a database of ours generated from others."""
    if table.name != "latest_metrics" or source.dialect.name != "postgresql":
        return []
    if not inspect(source).has_table(_GENERATED.name, schema=_GENERATED.schema):
        return []
    same = (_GENERATED.c.run_uuid == table.c.run_uuid, _GENERATED.c.key == table.c.key)
    return [~exists().where(*same)]


def _with_json(row: Any, as_json: set[int]) -> Row:
    return tuple(
        json.dumps(value) if number in as_json and value is not None else value
        for number, value in enumerate(row)
    )


def converted(table: Table, rows: Iterable[Row], convert: Convert) -> Iterator[Row]:
    """Rows converted by a function of column names to values; None drops a row."""
    names = [column.name for column in columns_of(table)]
    for row in rows:
        if (changed := convert(dict(zip(names, row, strict=True)))) is not None:
            yield tuple(changed[name] for name in names)


def stage_of(table: Table) -> sql.Identifier:
    """The name of the temporary table for incoming rows of a table."""
    return sql.Identifier(f"incoming_{table.name}")


def stage(conn: Connection, table: Table, rows: Iterable[Row]) -> int:
    """Copy rows into an empty temporary table of the same columns; return their number."""
    names = {"stage": stage_of(table), "table": sql.Identifier(table.name)}
    conn.execute(_queries.make_stage.format(**names))
    conn.execute(_queries.clear_stage.format(stage=names["stage"]))
    return copy_into(conn, names["stage"], table, rows)


def copy_into(conn: Connection, target: sql.Identifier, table: Table, rows: Iterable[Row]) -> int:
    """Copy rows into a table that has the columns of `table`; return their number."""
    statement = _queries.copy_in.format(
        table=target,
        columns=sql.SQL(", ").join(sql.Identifier(column.name) for column in columns_of(table)),
    )
    number = 0
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
            number += 1
    return number
