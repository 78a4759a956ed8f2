"""Which clients work with which databases: the schema's revision, and who may change it.

Every change of `sql/` that is released raises `REVISION`. A database keeps the revision of its
schema and the oldest client that still works with it, so that a client decides by one query:

- a client that is older than the database works, unless a migration excluded it;
- a client that is newer works with every revision from `OLDEST_REVISION` on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row

from mlflow_timescale.db.errors import MigrationError
from mlflow_timescale.db.queries import load

REVISION = 6
OLDEST_REVISION = 1
MIGRATE = "mlflow-timescale migrate"
_queries = load("migrations")


@dataclass(frozen=True)
class SchemaState:
    """What a database records about its schema.

    Attributes
    ----------
    revision
        The revision of the client that migrated it last.
    oldest_client
        The oldest revision of a client that works with it.
    released
        Whether the database was given back to plain MLflow.
    """

    revision: int
    oldest_client: int
    released: bool

    def check(self, database: str) -> None:
        """Raise MigrationError, in one line, unless this client works with the database."""
        if self.oldest_client > REVISION:
            raise MigrationError(
                f"{database} has schema revision {self.revision}, and this mlflow-timescale knows "
                f"up to {REVISION}: upgrade this installation (pip install -U mlflow-timescale)"
            )
        if self.revision < OLDEST_REVISION:
            raise MigrationError(
                f"{database} has schema revision {self.revision}, and this mlflow-timescale needs "
                f"at least {OLDEST_REVISION}: its administrator runs `{MIGRATE}` once, or this "
                f"installation goes back to the older version"
            )


def read_state(conn: psycopg.Connection[Any]) -> SchemaState | None:
    """The state of the schema; None where the database has none that this version recorded."""
    exists = conn.execute(_queries.state_exists).fetchone()
    if not exists or not exists[0]:
        return None
    with conn.cursor(row_factory=class_row(SchemaState)) as cursor:
        return cursor.execute(_queries.read_state).fetchone()


def no_schema(uri: str) -> MigrationError:
    """The error for a database that has none of our tables, where none may be made."""
    return MigrationError(f"{uri} has no schema of this mlflow-timescale: run `{MIGRATE}` first")
