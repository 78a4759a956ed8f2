"""Databases that were made before the migrations were written as baselines by area.

Their ledger has names such as "base/0101_metric_marks". A baseline lists the migrations that
amount to it (`--! replaces:`), so it counts as applied where all of them were. Tables and data stay
as they are; definitions are applied on top. Remove when no database of that time is left.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import psycopg
from psycopg.rows import TupleRow

from mlflow_timescale.db.errors import MigrationError
from mlflow_timescale.db.queries import load
from mlflow_timescale.db.schema_files import AREAS, Migration

TRANSLATED = "applied under an older name"
_queries = load("migrations")


def translated(applied: Mapping[str, str], shipped: Collection[Migration]) -> dict[str, str]:
    """The ledger in today's names, with the hash `TRANSLATED` for what older names amount to.

    Raises MigrationError for a database that an even older version left behind.
    """
    old = {name for name in applied if _is_old(name)}
    if not old:
        return dict(applied)
    today = {name: sha256 for name, sha256 in applied.items() if name not in old}
    for migration in shipped:
        present = migration.replaces & old
        if present and present != migration.replaces:
            missing = ", ".join(sorted(migration.replaces - old))
            raise MigrationError(
                f"the database lacks {missing}, which the last version of mlflow-timescale with "
                f"numbered migrations applied: run that version's `mlflow-timescale migrate` first"
            )
        if present:
            today.setdefault(migration.name, TRANSLATED)
    return today


def take_over(
    conn: psycopg.Connection[TupleRow], applied: Mapping[str, str], shipped: Collection[Migration]
) -> None:
    """Write the ledger in today's names."""
    old = [name for name in applied if _is_old(name)]
    if not old:
        return
    today = translated(applied, shipped)
    with conn.transaction():
        conn.execute(_queries.forget, {"names": old})
        for migration in shipped:
            if today.get(migration.name) == TRANSLATED:
                record = {"name": migration.name, "sha256": migration.sha256}
                conn.execute(_queries.record, record)


def is_of_then(applied: Collection[str]) -> bool:
    """Whether a ledger has names of that time."""
    return any(_is_old(name) for name in applied)


def _is_old(name: str) -> bool:
    """Names of that time have no area: "base/0101_metric_marks"."""
    return not any(area in name.split("/")[:-1] for area in AREAS)
