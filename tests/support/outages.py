"""A database that goes away and comes back, for tests of the spool."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import sql

from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI

_ALLOW = "ALTER DATABASE {} ALLOW_CONNECTIONS {}"
_END = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = %s AND pid <> pg_backend_pid()"
)


class Switch:
    """Takes a database away from everyone, and gives it back."""

    def __init__(self, server: DatabaseURI, name: str) -> None:
        self.server, self.name = server, name

    def set(self, *, on: bool) -> None:
        with db.connect(self.server, autocommit=True) as conn:
            name = sql.Identifier(self.name)
            conn.execute(sql.SQL(_ALLOW).format(name, sql.SQL("true" if on else "false")))
            if not on:
                conn.execute(_END, [self.name])

    @contextmanager
    def away(self) -> Iterator[None]:
        self.set(on=False)
        try:
            yield
        finally:
            self.set(on=True)
