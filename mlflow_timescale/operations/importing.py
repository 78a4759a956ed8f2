"""Import from another MLflow (sqlite, PostgreSQL, file store) into a new database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from mlflow.store.db.base_sql_model import Base
from psycopg import sql
from sqlalchemy import Connection as Source
from sqlalchemy import Table, func, select

from mlflow_timescale import db
from mlflow_timescale.db import Connection
from mlflow_timescale.db.rows import if_migrated, scalar
from mlflow_timescale.operations.bringing import other_rows, registered_models, run_rows
from mlflow_timescale.operations.bringing.copying import (
    Convert,
    converted,
    copy_into,
    not_generated,
    read_rows,
)
from mlflow_timescale.operations.bringing.experiments import (
    Experiments,
    absolute,
    location_column,
)
from mlflow_timescale.operations.bringing.older_schemas import ImportFailed
from mlflow_timescale.operations.bringing.sources import (
    Note,
    OpenSource,
    opened,
    require_another_database,
)
from mlflow_timescale.operations.file_store import OLD_ID

Progress = Callable[[str, int], None]
_queries = db.load("importing")
_merging = db.load("merging")
_ROWS_AT_ONCE = 10_000


def import_from(
    source: str,
    conn: Connection,
    *,
    on_table: Progress = lambda table, rows: None,
    on_note: Note = lambda line: None,
    then: Callable[[], None] = lambda: None,
    dry_run: bool = False,
) -> dict[str, int]:
    """Copy all tables of `source` in one transaction; return the number of rows by table.

    Experiments whose ids do not fit into MLflow's tables, such as those of file stores, get new
    ids; their tag `mlops.imported.experiment_id` keeps the old one. Artifacts are not copied.

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
    then
        Called at the end, in the transaction.
    dry_run
        Do everything, and roll it back.
    """
    with opened(source, on_note) as opened_source, conn.transaction(force_rollback=dry_run):
        if is_occupied(conn):
            raise ImportFailed(
                "the target holds runs, models or experiments already: import into a new database"
            )
        require_another_database(opened_source.rows, conn)
        for run_id, reason in opened_source.unreadable.items():
            on_note(f"run {run_id}: {reason}")
        copied = _copy_all(opened_source, conn, on_table, on_note)
        then()
    return copied


def is_occupied(conn: Connection) -> bool:
    """Whether the target has a run, a model, or an experiment other than the default one."""
    return bool(scalar(conn, _queries.occupied))


def _copy_all(
    opened_source: OpenSource, conn: Connection, on_table: Progress, on_note: Note
) -> dict[str, int]:
    source = opened_source.rows
    new_ids = _new_ids(source)
    tables = Base.metadata.sorted_tables
    for table in tables:
        conn.execute(_queries.empty.format(table=sql.Identifier(table.name)))
    copied = {}
    with _history_from_here(conn):
        for table in tables:
            convert = _fitted(table, new_ids, opened_source.home)
            copied[table.name] = _copy_table(source, conn, table, convert)
            on_table(table.name, copied[table.name])
    for table in tables:
        _compare(source, conn, table)
        _advance_sequences(conn, table)
    for old, new in new_ids.items():
        conn.execute(_queries.keep_old_id, {"id": new, "key": OLD_ID, "old": str(old)})
        on_note(f"experiment {old}: its id is {new} now, and the old one its tag {OLD_ID}")
    if scalar(conn, _queries.knows_last_writes):
        conn.execute(_queries.forget_last_writes)
    _remember_all(opened_source, conn, new_ids)
    return copied


def _remember_all(source: OpenSource, conn: Connection, new_ids: dict[int, int]) -> None:
    """Remember the contents of the source for a later `sync`.

    A target with an older schema has no tables for it.
    """
    if scalar(conn, _merging.has_memory):
        run_rows.remember_all(source, conn)
        other_rows.remember_all(source, conn, Experiments(new_ids))
        registered_models.remember_all(source, conn)


def _new_ids(source: Source) -> dict[int, int]:
    """New ids for the experiments whose ids do not fit into four bytes."""
    table = Base.metadata.tables["experiments"]
    ids = sorted(source.execute(select(table.c.experiment_id)).scalars())
    fitting = [number for number in ids if -(2**31) <= number < 2**31]
    first = max([0, *fitting]) + 1
    return dict(zip(sorted({*ids} - {*fitting}), range(first, 2**31), strict=False))


def _fitted(table: Table, new_ids: dict[int, int], home: Path | None) -> Convert:
    """The conversion of rows of a table: new ids of experiments, and absolute locations.

    Most tables have a column `experiment_id`; associations name any entity by kind and id.
    """
    names = {str(old): str(new) for old, new in new_ids.items()}

    def convert(row: dict[str, Any]) -> dict[str, Any]:
        if (value := row.get("experiment_id")) is not None:
            old = names if isinstance(value, str) else new_ids
            row["experiment_id"] = old.get(value, value)
        if table.name == "entity_associations":
            for end in ("source", "destination"):
                if row[f"{end}_type"] == "experiment":
                    row[f"{end}_id"] = names.get(row[f"{end}_id"], row[f"{end}_id"])
        if column := location_column(table.name, row):
            row[column] = absolute(row[column], home)
        return row

    return convert


@contextmanager
def _history_from_here(conn: Connection) -> Iterator[None]:
    """Pause the history triggers, then begin the history with all imported rows at once."""
    # The triggers work row by row, and would attribute every imported row to this moment.
    triggers = conn.execute(_queries.history_triggers).fetchall()
    names = [{"table": sql.SQL(table), "trigger": sql.Identifier(name)} for table, name in triggers]
    for trigger in names:
        conn.execute(_queries.pause_trigger.format(**trigger))
    yield
    for trigger in names:
        conn.execute(_queries.resume_trigger.format(**trigger))
    conn.execute(_queries.begin_history)


def _copy_table(source: Source, conn: Connection, table: Table, convert: Convert) -> int:
    rows = converted(table, read_rows(source, table), convert)
    with _refusals(table):
        return copy_into(conn, sql.Identifier(table.name), table, rows)


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
    query = select(func.count()).select_from(table).where(*not_generated(source, table))
    expected = source.execute(query).scalar_one()
    copied = scalar(conn, _queries.count.format(table=sql.Identifier(table.name)))
    if table.name == "latest_metrics":
        copied -= sum(number for (number,) in if_migrated(conn, _queries.generated))
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
