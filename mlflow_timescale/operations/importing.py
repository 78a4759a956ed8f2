"""Import from another MLflow (sqlite, PostgreSQL, file store) into a new database."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import mlflow.store.db.utils as mlflow_db
import psycopg
from alembic.script import ScriptDirectory
from mlflow.store.db.base_sql_model import Base
from mlflow.version import VERSION
from psycopg import sql
from sqlalchemy import JSON, Engine, Table, TypeDecorator, func, make_url, select, type_coerce
from sqlalchemy import Connection as Source
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError

from mlflow_timescale import db
from mlflow_timescale.db import Connection
from mlflow_timescale.db.rows import scalar

Progress = Callable[[str, int], None]
_queries = db.load("importing")
_ROWS_AT_ONCE = 10_000


class ImportFailed(db.Error):
    """The data cannot be imported as it is."""


def import_from(
    source: str, conn: Connection, *, on_table: Progress = lambda table, rows: None
) -> dict[str, int]:
    """Copy everything from `source` in one transaction; return the number of rows by table.

    `source` is a database URI of MLflow, or the directory of a file store. Raises ImportFailed if
    the target is not empty, the source cannot be read or has another schema version, a row does
    not fit, or the number of rows of a table differs afterwards. The transaction is then rolled
    back.
    """
    with _as_database(source) as url, conn.transaction():
        if scalar(conn, _queries.occupied):
            raise ImportFailed(
                "the target holds runs, models or experiments already: import into a new database"
            )
        with _reading(url) as rows:
            _require_another_database(rows, conn)
            return _copy_all(rows, conn, on_table)


@contextmanager
def _reading(url: str) -> Iterator[Source]:
    """A connection to the source that sees one snapshot of it."""
    with ExitStack() as until_done:
        try:
            engine = mlflow_db.create_sqlalchemy_engine(url)
            until_done.callback(engine.dispose)
            _require_this_schema(engine)
            rows = until_done.enter_context(engine.connect())
        except (ArgumentError, NoSuchModuleError, DatabaseError) as exc:
            reason = str(getattr(exc, "orig", exc)).strip().splitlines()[0]
            raise ImportFailed(f"the source cannot be read: {reason}") from exc
        if engine.dialect.name == "postgresql":
            rows = rows.execution_options(isolation_level="REPEATABLE READ")
        yield rows


def _require_this_schema(engine: Engine) -> None:
    revision, revisions = mlflow_db._get_schema_version(engine), _revisions()
    if revision == revisions[0]:
        return
    if revision is None:
        raise ImportFailed("there are no MLflow tables in the source")
    name = engine.url.render_as_string(hide_password=True)
    raise ImportFailed(
        f"the source is of an older MLflow (schema {revision}, this one has {revisions[0]}): take "
        f"a backup and run `mlflow db upgrade '{name}'` first"
        if revision in revisions
        else f"the source is of a newer MLflow (schema {revision} is not known to {VERSION}): "
        f"install that version here first"
    )


def _revisions() -> list[str]:
    """The schema revisions of this MLflow, newest first."""
    config = mlflow_db._get_alembic_config(db_url="")
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]


def _require_another_database(source: Source, conn: Connection) -> None:
    if source.dialect.name != "postgresql":
        return
    statement = _queries.identity.as_string(conn)
    if tuple(source.exec_driver_sql(statement).one()) == conn.execute(statement).fetchone():
        raise ImportFailed(
            "the source is the target itself: name another database, or `adopt` this one in place"
        )


@contextmanager
def _as_database(source: str) -> Iterator[str]:
    """The URI of the source database; MLflow's tool converts a file store into a temporary one."""
    directory = Path(source.removeprefix("file://"))
    if "://" in source.removeprefix("file://"):
        _require_file(source)
        yield source
        return
    if not directory.is_dir():
        raise ImportFailed(f"{source} is neither a database URI nor the directory of a file store")
    from mlflow.store.fs2db import migrate

    # MLflow's tool expects the directory that contains `mlruns`.
    root = directory.parent if directory.name == "mlruns" else directory
    with tempfile.TemporaryDirectory() as scratch:
        url = f"sqlite:///{scratch}/mlflow.db"
        migrate(root.resolve(), url, progress=False)
        yield url


def _require_file(url: str) -> None:
    """Raise ImportFailed if a sqlite file does not exist: opening it would create it."""
    name = make_url(url).database
    if url.startswith("sqlite") and name and not Path(name).is_file():
        raise ImportFailed(f"there is no file {name}")


def _copy_all(source: Source, conn: Connection, on_table: Progress) -> dict[str, int]:
    tables = Base.metadata.sorted_tables
    for table in tables:
        conn.execute(_queries.empty.format(table=sql.Identifier(table.name)))
    copied = {}
    with _history_from_here(conn):
        for table in tables:
            copied[table.name] = _copy_table(source, conn, table)
            on_table(table.name, copied[table.name])
    for table in tables:
        _compare(source, conn, table)
        _advance_sequences(conn, table)
    return copied


@contextmanager
def _history_from_here(conn: Connection) -> Iterator[None]:
    """Pause the history triggers, then begin the history with all imported rows at once."""
    # The triggers work row by row, and would attribute every imported row to this moment.
    triggers = conn.execute(_queries.history_triggers).fetchall()
    names = [{"table": sql.SQL(table), "trigger": sql.Identifier(name)} for table, name in triggers]
    for each in names:
        conn.execute(_queries.pause_trigger.format(**each))
    yield
    for each in names:
        conn.execute(_queries.resume_trigger.format(**each))
    conn.execute(_queries.begin_history)


def _copy_table(source: Source, conn: Connection, table: Table) -> int:
    columns = [column for column in table.columns if column.computed is None]
    # Without type decorators: values that MLflow encrypts are copied encrypted.
    stored = [
        type_coerce(column, column.type.impl) if isinstance(column.type, TypeDecorator) else column
        for column in columns
    ]
    as_json = [isinstance(column.type, JSON) for column in columns]
    statement = _queries.copy_in.format(
        table=sql.Identifier(table.name),
        columns=sql.SQL(", ").join(sql.Identifier(column.name) for column in columns),
    )
    rows = 0
    result = source.execution_options(yield_per=_ROWS_AT_ONCE).execute(select(*stored))
    with _refusals(table), conn.cursor() as cursor, cursor.copy(statement) as copy:
        for row in result:
            copy.write_row(
                [
                    json.dumps(value) if encode and value is not None else value
                    for value, encode in zip(row, as_json, strict=True)
                ]
            )
            rows += 1
    return rows


@contextmanager
def _refusals(table: Table) -> Iterator[None]:
    """Raise ImportFailed for rows that sqlite accepts and PostgreSQL does not: NUL, orphans, ..."""
    try:
        yield
    except psycopg.DatabaseError as exc:
        reason = (exc.diag.message_primary, exc.diag.message_detail, exc.diag.context)
        message = "; ".join(line.splitlines()[0] for line in reason if line) or exc
        raise ImportFailed(f"{table.name}: {message}; nothing was imported") from exc


def _compare(source: Source, conn: Connection, table: Table) -> None:
    expected = source.execute(select(func.count()).select_from(table)).scalar_one()
    copied = scalar(conn, _queries.count.format(table=sql.Identifier(table.name)))
    if copied != expected:
        raise ImportFailed(
            f"{table.name} has {copied} rows instead of {expected}; nothing was imported "
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
