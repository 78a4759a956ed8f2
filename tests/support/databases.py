"""Databases for the tests: templates that a run makes once, and clones that a test owns.

A clone takes about 50 ms; MLflow's migrations and ours take seconds.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from benchmarks.databases import clone, vanilla_url, without_flushes
from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI

__all__ = [
    "cloned",
    "directory_for_servers",
    "dispose_engines",
    "ensure_template",
    "temporary_roles",
    "vanilla_url",
    "without_flushes",
]

_ENOUGH_BYTES = 4 << 30


def directory_for_servers() -> Path:
    """Where the files of a test server go: to memory, if there is enough of it.

    A clone is 800 new files, and its end deletes them. ext4 does not give the inode of a file to
    another within seconds, but searches all that were freed: a clone took 0.5 s there, 0.03 s here.
    """
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free >= _ENOUGH_BYTES:
        return memory
    return Path(tempfile.gettempdir())


@contextmanager
def cloned(server: DatabaseURI, template: str = "template1") -> Iterator[DatabaseURI]:
    """A clone of `template` that lives as long as the `with` block."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    with db.connect(server, autocommit=True) as admin:
        clone(admin, name, template)
    try:
        yield server.with_database(name)
    finally:
        dispose_engines()
        with db.connect(server, autocommit=True) as admin:
            _execute(admin, "DROP DATABASE {} WITH (FORCE)", name)


def ensure_template(server: DatabaseURI, name: str, fill: Callable[[DatabaseURI], object]) -> str:
    """Create the template `name` unless another worker has: `fill` makes its tables."""
    with db.connect(server, autocommit=True) as admin, db.exclusively(admin):
        if not _exists(admin, name):
            draft = f"{name}_draft"
            _execute(admin, "CREATE DATABASE {}", draft)
            fill(server.with_database(draft))
            dispose_engines()
            _close(admin, draft)
            _execute(admin, "ALTER DATABASE {} RENAME TO {}", draft, name)
    return name


@contextmanager
def temporary_roles(conn: psycopg.Connection, *names: str) -> Iterator[list[str]]:
    """Roles that may log in, with names that no other test uses; dropped when the block ends."""
    roles = [f"mlops_test_{name}_{uuid.uuid4().hex[:8]}" for name in names]
    for role in roles:
        _execute(conn, "CREATE ROLE {} LOGIN", role)
    try:
        yield roles
    finally:
        conn.execute("RESET ROLE")
        for role in roles:
            _execute(conn, "DROP OWNED BY {} CASCADE", role)
            _execute(conn, "DROP ROLE {}", role)


def dispose_engines() -> None:
    """Close the connections that MLflow's stores keep per process and URI."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking

    for store in (Tracking, Registry):
        for engine in getattr(store, "_engine_map", {}).values():
            engine.dispose()


def _close(admin: psycopg.Connection, name: str) -> None:
    """Refuse new connections to a database and end those that exist, so that it can be cloned."""
    _execute(admin, "ALTER DATABASE {} WITH ALLOW_CONNECTIONS false", name)
    admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
    )
    while admin.execute("SELECT 1 FROM pg_stat_activity WHERE datname = %s", [name]).fetchone():
        time.sleep(0.05)


def _exists(admin: psycopg.Connection, name: str) -> bool:
    row = admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
    return row is not None


def _execute(admin: psycopg.Connection, statement: str, *names: str) -> None:
    admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
