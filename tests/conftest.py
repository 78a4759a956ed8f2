"""Databases for the tests: real ones, on the embedded server or on MLFLOW_TIMESCALE_TEST_URI.

`database` is a fresh clone of a template that holds MLflow's tables and our migrations; a clone
takes some 50 ms. `empty_database` has nothing in it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from mlflow_timescale import db
from mlflow_timescale.db.embedded import keywords, release, stop_when_unused, temporary
from mlflow_timescale.db.uri import DatabaseURI

# The controller sets it, its workers inherit it: one server and one template per run.
RUN = os.environ.setdefault("MLFLOW_TIMESCALE_TEST_RUN", uuid.uuid4().hex[:12])
EMBEDDED = Path(tempfile.gettempdir()) / f"mlflow-timescale-tests-{RUN}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove the embedded server's directory, in the controller, when the workers are done."""
    if not hasattr(session.config, "workerinput") and EMBEDDED.exists():
        release(EMBEDDED)
        stop_when_unused(EMBEDDED)
        shutil.rmtree(EMBEDDED, ignore_errors=True)


def pytest_configure(config: pytest.Config) -> None:
    """Keep MLflow from telling the world about the tests, and from reading the user's settings."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_ENABLE_WORKSPACES"):
        os.environ.pop(name, None)


@pytest.fixture(autouse=True)
def own_mlflow() -> Iterator[None]:
    """MLflow keeps run, experiment and URI per process: each test starts anew."""
    yield
    if "mlflow" in sys.modules:
        import mlflow
        from mlflow.tracking import fluent

        while mlflow.active_run():
            mlflow.end_run()
        fluent._active_experiment_id = None
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
        for name in ("TRACKING_URI", "REGISTRY_URI", "RUN_ID", "EXPERIMENT_ID"):
            os.environ.pop(f"MLFLOW_{name}", None)


@pytest.fixture(scope="session")
def server() -> DatabaseURI:
    """The server of this run; its own database is for creating and dropping others."""
    if given := os.environ.get("MLFLOW_TIMESCALE_TEST_URI"):
        return DatabaseURI.parse(given)
    return DatabaseURI(dbname="postgres", embedded=EMBEDDED)


@pytest.fixture(scope="session")
def template(server: DatabaseURI) -> str:
    """The name of a database with MLflow's tables and ours, made once per run."""
    from mlflow_timescale.schema import prepare

    name = f"template_{RUN}"
    with db.connect(server, autocommit=True) as admin, db.exclusively(admin):
        if not _exists(admin, name):
            draft = f"{name}_draft"
            _execute(admin, "CREATE DATABASE {}", draft)
            prepare(server.with_database(draft).url)
            _dispose_engines()
            _close_to_others(admin, draft)
            _execute(admin, "ALTER DATABASE {} RENAME TO {}", draft, name)
    return name


@pytest.fixture(scope="session")
def new_database(
    server: DatabaseURI, template: str
) -> Callable[..., AbstractContextManager[DatabaseURI]]:
    """Makes databases that live as long as their `with` block, for fixtures of a wider scope."""

    def make(*, empty: bool = False) -> AbstractContextManager[DatabaseURI]:
        return contextmanager(_temporary)(server, "template1" if empty else template)

    return make


@pytest.fixture(scope="session")
def vanilla_template(server: DatabaseURI) -> str:
    """The name of a database as plain MLflow makes it, made once per run."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    name = f"vanilla_{RUN}"
    with db.connect(server, autocommit=True) as admin, db.exclusively(admin):
        if not _exists(admin, name):
            draft = f"{name}_draft"
            _execute(admin, "CREATE DATABASE {}", draft)
            SqlAlchemyStore(vanilla_url(server.with_database(draft)), "/artifacts")
            _dispose_engines()
            _close_to_others(admin, draft)
            _execute(admin, "ALTER DATABASE {} RENAME TO {}", draft, name)
    return name


@pytest.fixture
def vanilla_database(server: DatabaseURI, vanilla_template: str) -> Iterator[DatabaseURI]:
    """A database of the test's own, as plain MLflow makes it."""
    yield from _temporary(server, vanilla_template)


def vanilla_url(uri: DatabaseURI) -> str:
    """The URI by which plain MLflow, on psycopg2, reaches the same database."""
    parts = {key: str(value) for key, value in keywords(uri).items()}
    query = "&".join(f"{key}={parts[key]}" for key in ("host", "port", "user") if parts.get(key))
    return f"postgresql+psycopg2:///{parts['dbname']}?{query}"


@pytest.fixture
def database(server: DatabaseURI, template: str) -> Iterator[DatabaseURI]:
    """A database of the test's own, with MLflow's tables and our migrations."""
    yield from _temporary(server, template)


@pytest.fixture
def empty_database(server: DatabaseURI) -> Iterator[DatabaseURI]:
    """A database of the test's own with nothing in it."""
    yield from _temporary(server, "template1")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory for an embedded server of the test's own, as root may give it to one."""
    with temporary() as uri:
        assert uri.embedded is not None
        uri.embedded.chmod(0o755)
        yield uri.embedded


@pytest.fixture
def conn(database: DatabaseURI) -> Iterator[psycopg.Connection]:
    """An autocommit connection to `database`."""
    with db.connect(database, autocommit=True) as connection:
        yield connection


def _temporary(server: DatabaseURI, template: str) -> Iterator[DatabaseURI]:
    name = f"test_{uuid.uuid4().hex[:16]}"
    with db.connect(server, autocommit=True) as admin:
        _clone(admin, name, template)
    try:
        yield server.with_database(name)
    finally:
        _dispose_engines()
        with db.connect(server, autocommit=True) as admin:
            _execute(admin, "DROP DATABASE {} WITH (FORCE)", name)


def _clone(admin: psycopg.Connection, name: str, template: str) -> None:
    for attempt in range(20):  # TimescaleDB's workers may be looking at the template
        try:
            return _execute(admin, "CREATE DATABASE {} TEMPLATE {}", name, template)
        except psycopg.errors.ObjectInUse:
            time.sleep(0.1 * (attempt + 1))
    raise TimeoutError(f"{template} is never free")


def _close_to_others(admin: psycopg.Connection, name: str) -> None:
    _execute(admin, "ALTER DATABASE {} WITH ALLOW_CONNECTIONS false", name)
    admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
    )
    while admin.execute("SELECT 1 FROM pg_stat_activity WHERE datname = %s", [name]).fetchone():
        time.sleep(0.05)


def _exists(admin: psycopg.Connection, name: str) -> bool:
    found = admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
    return found.fetchone() is not None


def _execute(admin: psycopg.Connection, statement: str, *names: str) -> None:
    admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _dispose_engines() -> None:
    """Close the connections that MLflow's stores keep per process and URI."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking

    for store in (Tracking, Registry):
        for engine in getattr(store, "_engine_map", {}).values():
            engine.dispose()
