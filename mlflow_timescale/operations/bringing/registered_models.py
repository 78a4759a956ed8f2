"""Registered models with versions, tags and aliases: a model as a whole, or a conflict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from mlflow.store.db.base_sql_model import Base
from psycopg import sql
from sqlalchemy import and_, select

from mlflow_timescale import db
from mlflow_timescale.db import Connection
from mlflow_timescale.db.rows import pairs
from mlflow_timescale.operations.bringing import copying
from mlflow_timescale.operations.bringing.sources import OpenSource

Note = Callable[[str], None]
_queries = db.load("merging")
_TABLES = (
    "registered_models",
    "registered_model_tags",
    "model_versions",
    "model_version_tags",
    "registered_model_aliases",
)


def add(source: OpenSource, conn: Connection, prefix: str, note: Note) -> dict[str, int]:
    """Add models, versions, tags and aliases that are not here; return their number by table.

    A version that is here under the same number, but is another one, is a conflict: it is noted,
    and nothing of its model changes. So is an alias that points elsewhere here; it stays.
    """
    models = Base.metadata.tables["registered_models"]
    names = source.rows.execute(select(models.c.workspace, models.c.name)).all()
    added = dict.fromkeys(_TABLES, 0)
    for workspace, name in names:
        try:
            with conn.transaction():
                rows = _add_model(source, conn, workspace, name, prefix + name, note)
        except psycopg.DatabaseError as exc:
            reason = (exc.diag.message_primary or str(exc)).splitlines()[0]
            note(f"registered model {prefix + name!r}: refused: {reason}")
            continue
        for table, number in rows.items():
            added[table] += number
    return added


def _add_model(
    source: OpenSource, conn: Connection, workspace: str, old: str, name: str, note: Note
) -> dict[str, int]:
    rows = {table: _rows(source, table, workspace, old, name) for table in _TABLES}
    place = {"workspace": workspace, "name": name}
    here = {row[0]: row[1:] for row in conn.execute(_queries.models_here, place).fetchall()}
    others = [
        row["version"]
        for row in rows["model_versions"]
        if row["version"] in here and here[row["version"]] != (row["creation_time"], row["run_id"])
    ]
    if others:
        numbers = ", ".join(map(str, sorted(others)))
        note(
            f"registered model {name!r}: conflict: version {numbers} is another one here; nothing "
            f"of the model was changed (--prefix brings it under another name)"
        )
        return {}
    aliases = pairs(conn, _queries.aliases_here, place)
    for row in rows["registered_model_aliases"]:
        if aliases.get(row["alias"], row["version"]) != row["version"]:
            note(
                f"registered model {name!r}: alias {row['alias']!r} points at version "
                f"{aliases[row['alias']]} here, not {row['version']}: left as it is"
            )
    return {table: _add_rows(conn, table, rows[table]) for table in _TABLES}


def _rows(
    source: OpenSource, name: str, workspace: str, old: str, new: str
) -> list[dict[str, Any]]:
    table = Base.metadata.tables[name]
    columns = [column.name for column in copying.columns_of(table)]
    condition = and_(table.c.workspace == workspace, table.c.name == old)
    return [
        {**dict(zip(columns, row, strict=True)), "name": new}
        for row in copying.read_rows(source.rows, table, condition)
    ]


def _add_rows(conn: Connection, name: str, rows: list[dict[str, Any]]) -> int:
    if not rows:
        return 0
    table = Base.metadata.tables[name]
    columns = [column.name for column in copying.columns_of(table)]
    copying.stage(conn, table, (tuple(row[each] for each in columns) for row in rows))
    query = _queries.add_version_rows.format(
        table=sql.Identifier(name),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        stage=copying.stage_of(table),
    )
    return conn.execute(query).rowcount
