"""Copying another MLflow's data into a new database of ours: sqlite, PostgreSQL, file store."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow.store.db.utils as mlflow_db
import psycopg
from mlflow.store.db.base_sql_model import Base
from psycopg import sql
from sqlalchemy import JSON, Table, func, select
from sqlalchemy import Connection as Source

from mlflow_timescale import db

Connection = psycopg.Connection[Any]
Progress = Callable[[str, int], None]
_queries = db.load("importing")
_ROWS_AT_ONCE = 10_000


class ImportFailed(db.Error):
    """The data cannot be imported as it is."""


def import_from(
    source: str, conn: Connection, *, on_table: Progress = lambda table, rows: None
) -> dict[str, int]:
    """Copy everything from `source` in one transaction; return the number of rows by table.

    `source` is a database URI of MLflow's, or the directory of a file store. Raises ImportFailed
    if ours is not empty, or if a table's number of rows differs afterwards; nothing is kept then.
    """
    with _as_database(source) as url, conn.transaction():
        if _one(conn.execute(_queries.occupied)):
            raise ImportFailed(
                "the target holds runs, models or experiments already: import into a new database"
            )
        engine = mlflow_db.create_sqlalchemy_engine(url)
        try:
            mlflow_db._verify_schema(engine)
            with engine.connect() as rows:
                return _copy_all(rows, conn, on_table)
        finally:
            engine.dispose()


@contextmanager
def _as_database(source: str) -> Iterator[str]:
    """The URI of a database; a file store is converted into a temporary one, by MLflow's tool."""
    directory = Path(source.removeprefix("file://"))
    if "://" in source.removeprefix("file://"):
        yield source
        return
    if not directory.is_dir():
        raise ImportFailed(f"{source} is neither a database URI nor the directory of a file store")
    from mlflow.store.fs2db import migrate

    # MLflow's tool wants the directory that holds `mlruns`.
    root = directory.parent if directory.name == "mlruns" else directory
    with tempfile.TemporaryDirectory() as scratch:
        url = f"sqlite:///{scratch}/mlflow.db"
        migrate(root.resolve(), url, progress=False)
        yield url


def _copy_all(source: Source, conn: Connection, on_table: Progress) -> dict[str, int]:
    tables = Base.metadata.sorted_tables
    for table in tables:
        conn.execute(_queries.empty.format(table=sql.Identifier(table.name)))
    copied = {}
    for table in tables:
        copied[table.name] = _copy_table(source, conn, table)
        on_table(table.name, copied[table.name])
    for table in tables:
        _compare(source, conn, table)
        _advance_sequences(conn, table)
    return copied


def _copy_table(source: Source, conn: Connection, table: Table) -> int:
    columns = [column for column in table.columns if column.computed is None]
    as_json = [isinstance(column.type, JSON) for column in columns]
    statement = _queries.copy_in.format(
        table=sql.Identifier(table.name),
        columns=sql.SQL(", ").join(sql.Identifier(column.name) for column in columns),
    )
    rows = 0
    result = source.execution_options(yield_per=_ROWS_AT_ONCE).execute(select(*columns))
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        for row in result:
            copy.write_row(
                [
                    json.dumps(value) if encode and value is not None else value
                    for value, encode in zip(row, as_json, strict=True)
                ]
            )
            rows += 1
    return rows


def _compare(source: Source, conn: Connection, table: Table) -> None:
    expected = source.execute(select(func.count()).select_from(table)).scalar_one()
    found = _one(conn.execute(_queries.count.format(table=sql.Identifier(table.name))))
    if found != expected:
        raise ImportFailed(
            f"{table.name} has {found} rows instead of {expected}; nothing was imported "
            f"(does something still write to the source?)"
        )


def _advance_sequences(conn: Connection, table: Table) -> None:
    for column in table.primary_key:
        if column.type.python_type is int:
            conn.execute(
                _queries.advance_sequences.format(
                    name=sql.Literal(table.name),
                    column=sql.Literal(column.name),
                    identifier=sql.Identifier(column.name),
                    table=sql.Identifier(table.name),
                )
            )


def _one(cursor: psycopg.Cursor[Any]) -> Any:
    return (cursor.fetchone() or [None])[0]
