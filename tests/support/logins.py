"""Logins that are members of the group roles, one for each, on a database of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from mlflow_timescale import db
from mlflow_timescale.db.embedded import keywords
from mlflow_timescale.db.rights import ROLES
from mlflow_timescale.db.uri import DatabaseURI
from support.databases import temporary_roles


@dataclass(frozen=True)
class Logins:
    """A login for each role, by role; "none" has no role."""

    database: DatabaseURI
    names: dict[str, str]

    def uri(self, role: str) -> DatabaseURI:
        """The database, as the login of a role reaches it."""
        user = self.names[role]
        if self.database.embedded is None:
            return replace(self.database, user=user)
        return DatabaseURI(self.database.dbname, user, "", str(keywords(self.database)["host"]))

    def connect(self, role: str) -> AbstractContextManager[db.Connection]:
        return db.connect(self.uri(role), autocommit=True)


@contextmanager
def logins(conn: psycopg.Connection, database: DatabaseURI) -> Iterator[Logins]:
    """A login for each role, and one without; dropped when the block ends."""
    with temporary_roles(conn, *(role.removeprefix("mlops_") for role in ROLES), "none") as made:
        names = dict(zip([*ROLES, "none"], made, strict=True))
        for role in ROLES:
            statement = sql.SQL("GRANT {} TO {}")
            conn.execute(statement.format(sql.Identifier(role), sql.Identifier(names[role])))
        yield Logins(database, names)
