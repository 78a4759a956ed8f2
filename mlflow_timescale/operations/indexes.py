"""The indexes that MLflow's models define, and those of them that a database lacks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import mlflow.store.db.utils  # noqa: F401  (registers every model of MLflow's with Base)
from mlflow.store.db.base_sql_model import Base
from sqlalchemy import Index, PrimaryKeyConstraint, Table, UniqueConstraint
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import AddConstraint, CreateIndex

# Defined in MLflow's models, but no migration creates them (3.17), so no database has them.
NEVER_CREATED = {"index_issues_created_by"}
Wanted = Index | PrimaryKeyConstraint | UniqueConstraint


def missing_indexes(tables: Collection[str], existing: Iterable[dict[str, Any]]) -> dict[str, str]:
    """The missing indexes: the statement that creates each, by its name.

    `existing` has rows of `table_name`, `columns`, `is_unique`, `is_valid`. An index is not missing
    if a valid one serves its purpose: for a unique index one on the same columns, otherwise one
    that begins with its columns. In our layout of `metrics` one index serves three of MLflow's.
    """
    by_table: dict[str, list[dict[str, Any]]] = {}
    for row in existing:
        by_table.setdefault(row["table_name"], []).append(row)
    return {
        str(index.name): _statement(index)
        for table in Base.metadata.sorted_tables
        if table.name in tables
        for index in _wanted(table)
        if not any(_serves(row, index) for row in by_table.get(table.name, []))
    }


def _wanted(table: Table) -> Iterator[Wanted]:
    yield from (index for index in table.indexes if index.name not in NEVER_CREATED)
    for constraint in table.constraints:
        if isinstance(constraint, PrimaryKeyConstraint | UniqueConstraint):
            yield constraint


def _serves(row: dict[str, Any], index: Wanted) -> bool:
    columns = [column.name for column in index.columns]
    existing = row["columns"] or []
    if not row["is_valid"]:
        return False
    if isinstance(index, Index) and not index.unique:
        return bool(existing[: len(columns)] == columns)
    return bool(row["is_unique"] and sorted(existing) == sorted(columns))


def _statement(index: Wanted) -> str:
    create = CreateIndex(index) if isinstance(index, Index) else AddConstraint(index)
    return " ".join(str(create.compile(dialect=postgresql.dialect())).split()) + ";"
