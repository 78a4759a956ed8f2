"""What benchmarks and tests do to a server: copies, no flushes, outages, MLflow's own URL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from mlflow_timescale import db
from mlflow_timescale.db.embedded import keywords
from mlflow_timescale.db.uri import DatabaseURI

_ALLOW = "ALTER DATABASE {} ALLOW_CONNECTIONS {}"
_END = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = %s AND pid <> pg_backend_pid()"
)


def without_flushes(server: DatabaseURI) -> None:
    """Let a server leave its writes to the operating system's cache: a clone takes a tenth.

    What is committed survives the end of the server's processes, not that of the machine.
    """
    with db.connect(server, autocommit=True) as admin:
        for setting in ("fsync", "full_page_writes"):
            admin.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(setting)))
        admin.execute("SELECT pg_reload_conf()")


def clone(admin: psycopg.Connection, name: str, template: str) -> None:
    """Create the database `name` as a copy of `template`, which may be in use for a moment."""
    # TimescaleDB's background workers connect to the template now and then, which blocks cloning.
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
        sql.Identifier(name), sql.Identifier(template)
    )
    for attempt in range(20):
        try:
            admin.execute(statement)
            return
        except psycopg.errors.ObjectInUse:
            time.sleep(0.1 * (attempt + 1))
    raise TimeoutError(f"template {template} stays in use")


def vanilla_url(uri: DatabaseURI) -> str:
    """The URI by which plain MLflow, on psycopg2, reaches the same database."""
    parts = {key: str(value) for key, value in keywords(uri).items()}
    query = "&".join(f"{key}={parts[key]}" for key in ("host", "port", "user") if parts.get(key))
    return f"postgresql+psycopg2:///{parts['dbname']}?{query}"


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
