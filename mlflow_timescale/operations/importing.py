"""Import from another MLflow (sqlite, PostgreSQL, file store) into a new database."""

from __future__ import annotations

import io
import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

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
from mlflow_timescale.db.masking import without_secrets
from mlflow_timescale.db.rows import scalar
from mlflow_timescale.operations.file_store import OLD_ID, FileStoreError, build_view

Progress = Callable[[str, int], None]
Note = Callable[[str], None]
_queries = db.load("importing")
_sqlite = db.load("sqlite")
_ROWS_AT_ONCE = 10_000


class ImportFailed(db.Error):
    """The data cannot be imported as it is."""


def import_from(
    source: str,
    conn: Connection,
    *,
    on_table: Progress = lambda table, rows: None,
    on_note: Note = lambda line: None,
    dry_run: bool = False,
) -> dict[str, int]:
    """Copy everything from `source` in one transaction; return the number of rows by table.

    Experiments whose ids do not fit into MLflow's tables, as those of file stores, get new ones;
    the old id is kept as their tag `mlops.imported.experiment_id`. Artifacts stay where they are.

    Parameters
    ----------
    source
        A database URI of MLflow's, or the directory of a file store. Raises ImportFailed if it
        cannot be read or is of another version of MLflow.
    conn
        A connection in autocommit mode to a database of ours. Raises ImportFailed if it is not
        empty, if a row does not fit, or if a table's number of rows differs afterwards; nothing is
        kept then.
    on_table
        Called with each table and its number of rows.
    on_note
        Called with a line for everything that is left out or changed.
    dry_run
        Do all of it, and roll it back.
    """
    with _as_database(source, on_note) as url, conn.transaction(force_rollback=dry_run):
        if scalar(conn, _queries.occupied):
            raise ImportFailed(
                "the target holds runs, models or experiments already: import into a new database"
            )
        with _reading(url) as rows:
            _require_another_database(rows, conn)
            return _copy_all(rows, conn, on_table, on_note)


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
            raise ImportFailed(f"the source cannot be read: {without_secrets(reason)}") from exc
        if engine.dialect.name == "postgresql":
            rows.exec_driver_sql(_queries.limit_source.as_string())
            rows.commit()
            rows = rows.execution_options(isolation_level="REPEATABLE READ")
        yield rows


def _require_this_schema(engine: Engine) -> None:
    revision, revisions = mlflow_db._get_schema_version(engine), _revisions()
    if revision == revisions[0]:
        return
    if revision is None:
        raise ImportFailed("there are no MLflow tables in the source")
    name = without_secrets(engine.url.render_as_string(hide_password=True))
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
def _as_database(source: str, on_note: Note) -> Iterator[str]:
    """The URI of the source database; MLflow's tool converts a file store into a temporary one."""
    directory = Path(source.removeprefix("file://"))
    if "://" in source.removeprefix("file://"):
        _require_file(source)
        with tempfile.TemporaryDirectory() as scratch:
            yield _without_orphans(source, Path(scratch), on_note)
        return
    if not directory.is_dir():
        raise ImportFailed(
            f"{without_secrets(source)} is neither a database URI nor the directory of a file store"
        )
    runs = directory / "mlruns"
    with tempfile.TemporaryDirectory() as scratch:
        url = f"sqlite:///{scratch}/mlflow.db"
        try:
            _convert(runs if runs.is_dir() else directory, Path(scratch), url, on_note)
        except FileStoreError as exc:
            raise ImportFailed(str(exc)) from exc
        yield _without_orphans(url, Path(scratch), on_note)


def _convert(directory: Path, scratch: Path, url: str, on_note: Note) -> None:
    from mlflow.store.fs2db import migrate

    view = scratch / "mlruns"
    view.mkdir()
    build_view(directory.resolve(), view, on_note)
    with redirect_stdout(io.StringIO()):  # its summary
        try:
            migrate(scratch, url, progress=False)
        except Exception as exc:
            reason = str(exc).strip().splitlines()[0]
            raise ImportFailed(f"MLflow's converter cannot read {directory}: {reason}") from exc


def _without_orphans(url: str, scratch: Path, on_note: Note) -> str:
    """The URI itself, or of a copy without rows that refer to what is not there.

    Sqlite keeps such rows, as of runs that could not be read, and PostgreSQL refuses them.
    """
    if not url.startswith("sqlite") or not (name := make_url(url).database):
        return url
    engine = mlflow_db.create_sqlalchemy_engine(url)
    try:
        with engine.connect() as rows:
            if not rows.exec_driver_sql(_sqlite.orphans.as_string()).first():
                return url
    except DatabaseError:
        return url  # it cannot be read; the reader raises the error
    finally:
        engine.dispose()
    copy = scratch / "without-orphans.db"
    with closing(sqlite3.connect(name)) as original, closing(sqlite3.connect(copy)) as target:
        original.backup(target)
        while orphans := target.execute(_sqlite.orphans.as_string()).fetchall():
            for table, rowid, parent, _ in orphans:
                delete = _sqlite.delete_row.format(table=sql.Identifier(table)).as_string()
                if target.execute(delete, [rowid]).rowcount:
                    on_note(f"{table}: a row left out: it refers to a row of {parent} that is gone")
            target.commit()
    return f"sqlite:///{copy}"


def _require_file(url: str) -> None:
    """Raise ImportFailed if a sqlite file does not exist: opening it would create it."""
    name = make_url(url).database
    if url.startswith("sqlite") and name and not Path(name).is_file():
        raise ImportFailed(f"there is no file {name}")


def _copy_all(
    source: Source, conn: Connection, on_table: Progress, on_note: Note
) -> dict[str, int]:
    new_ids = _new_ids(source)
    tables = Base.metadata.sorted_tables
    for table in tables:
        conn.execute(_queries.empty.format(table=sql.Identifier(table.name)))
    copied = {}
    with _history_from_here(conn):
        for table in tables:
            copied[table.name] = _copy_table(source, conn, table, new_ids)
            on_table(table.name, copied[table.name])
    for table in tables:
        _compare(source, conn, table)
        _advance_sequences(conn, table)
    for old, new in new_ids.items():
        conn.execute(_queries.keep_old_id, {"id": new, "key": OLD_ID, "old": str(old)})
        on_note(f"experiment {old}: its id is {new} now, and the old one its tag {OLD_ID}")
    if scalar(conn, _queries.knows_last_writes):
        conn.execute(_queries.forget_last_writes)
    return copied


def _new_ids(source: Source) -> dict[int, int]:
    """New ids for the experiments whose ids do not fit into four bytes."""
    table = Base.metadata.tables["experiments"]
    ids = sorted(source.execute(select(table.c.experiment_id)).scalars())
    fitting = [number for number in ids if -(2**31) <= number < 2**31]
    first = max([0, *fitting]) + 1
    return dict(zip(sorted({*ids} - {*fitting}), range(first, 2**31), strict=False))


def _with_new_ids(table: Table, new_ids: dict[int, int]) -> Callable[[str, Any, Any], Any]:
    """What to store in a column of a row in place of the id of an experiment.

    Most tables have a column `experiment_id`; associations name any entity by kind and id.
    """
    names = {str(old): str(new) for old, new in new_ids.items()}

    def convert(column: str, value: Any, row: Any) -> Any:
        if column == "experiment_id":
            return names.get(value, value) if isinstance(value, str) else new_ids.get(value, value)
        kind = column.replace("_id", "_type")
        if table.name == "entity_associations" and column in ("source_id", "destination_id"):
            return names.get(value, value) if row._mapping[kind] == "experiment" else value
        return value

    return convert


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


def _copy_table(source: Source, conn: Connection, table: Table, new_ids: dict[int, int]) -> int:
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
    rows, convert = 0, _with_new_ids(table, new_ids)
    result = source.execution_options(yield_per=_ROWS_AT_ONCE).execute(select(*stored))
    with _refusals(table), conn.cursor() as cursor, cursor.copy(statement) as copy:
        for row in result:
            copy.write_row(
                [
                    json.dumps(value)
                    if encode and value is not None
                    else convert(column.name, value, row)
                    for column, value, encode in zip(columns, row, as_json, strict=True)
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
