"""Which indexes MLflow's models ask for, and which of them a database lacks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import mlflow.store.db.utils  # noqa: F401  (registers every model of MLflow's with Base)
from mlflow.store.db.base_sql_model import Base
from sqlalchemy import Index, PrimaryKeyConstraint, Table, UniqueConstraint
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import AddConstraint, CreateIndex

# In MLflow's models, but created by none of its migrations (3.17): no database has them.
NEVER_CREATED = {"index_issues_created_by"}
Wanted = Index | PrimaryKeyConstraint | UniqueConstraint


def missing_indexes(tables: Collection[str], found: Iterable[dict[str, Any]]) -> dict[str, str]:
    """What each table lacks: the statement that brings it back, by the index's name.

    `found` has rows of `table_name`, `columns`, `is_unique`, `is_valid`. An index counts as there
    if a valid one serves its purpose: the same key for a unique one, else one that begins with its
    columns; our layout of `metrics` serves three of MLflow's with one.
    """
    by_table: dict[str, list[dict[str, Any]]] = {}
    for row in found:
        by_table.setdefault(row["table_name"], []).append(row)
    return {
        str(wanted.name): _statement(wanted)
        for table in Base.metadata.sorted_tables
        if table.name in tables
        for wanted in _wanted(table)
        if not any(_serves(row, wanted) for row in by_table.get(table.name, []))
    }


def _wanted(table: Table) -> Iterator[Wanted]:
    yield from (index for index in table.indexes if index.name not in NEVER_CREATED)
    for constraint in table.constraints:
        if isinstance(constraint, PrimaryKeyConstraint | UniqueConstraint):
            yield constraint


def _serves(row: dict[str, Any], wanted: Wanted) -> bool:
    columns = [column.name for column in wanted.columns]
    has = row["columns"] or []
    if not row["is_valid"]:
        return False
    if isinstance(wanted, Index) and not wanted.unique:
        return bool(has[: len(columns)] == columns)
    return bool(row["is_unique"] and sorted(has) == sorted(columns))


def _statement(wanted: Wanted) -> str:
    create = CreateIndex(wanted) if isinstance(wanted, Index) else AddConstraint(wanted)
    return " ".join(str(create.compile(dialect=postgresql.dialect())).split()) + ";"
