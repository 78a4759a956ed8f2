"""Fixtures that every test may use: real databases, embedded or on MLFLOW_TIMESCALE_TEST_URI.

`database` is a clone of a template that holds MLflow's tables and our migrations;
`empty_database` has no tables; `vanilla_database` is what plain MLflow makes.
"""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import psycopg
import pytest
from support.databases import (
    cloned,
    directory_for_servers,
    dispose_engines,
    ensure_template,
    vanilla_url,
    without_flushes,
)
from support.logins import Logins, logins

from mlflow_timescale import db
from mlflow_timescale.db.embedded import release, stop_when_unused, temporary
from mlflow_timescale.db.uri import DatabaseURI

# The controller sets it, its workers inherit it: one server and one template per run.
RUN = os.environ.setdefault("MLFLOW_TIMESCALE_TEST_RUN", uuid.uuid4().hex[:12])
EMBEDDED = directory_for_servers() / f"mlflow-timescale-tests-{RUN}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove the embedded server's directory, in the controller, when the workers are done."""
    if not hasattr(session.config, "workerinput") and EMBEDDED.exists():
        release(EMBEDDED)
        stop_when_unused(EMBEDDED)
        shutil.rmtree(EMBEDDED, ignore_errors=True)


def pytest_configure(config: pytest.Config) -> None:
    """Turn MLflow's telemetry off and drop the user's MLflow settings."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_ENABLE_WORKSPACES"):
        os.environ.pop(name, None)


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use the server of the run; the others are the same on every server."""
    for item in items:
        if isinstance(item, pytest.Function) and uses_server(item):
            item.add_marker(pytest.mark.database)


def uses_server(item: pytest.Function) -> bool:
    """Whether a fixture of a test needs `server`, or may: some look fixtures up by name."""
    return "server" in item.fixturenames or _looks_fixtures_up(item.path)


@cache
def _looks_fixtures_up(path: Path) -> bool:
    return "getfixturevalue" in path.read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def own_mlflow() -> Iterator[None]:
    """Reset MLflow's state of the process (run, experiment, URIs, autolog) after each test."""
    yield
    if "mlflow" in sys.modules:
        import mlflow
        from mlflow.tracking import fluent
        from mlflow.utils.autologging_utils import AUTOLOGGING_INTEGRATIONS

        while mlflow.active_run():
            mlflow.end_run()
        fluent._active_experiment_id = None
        # `mlflow.autolog(disable=True)` leaves an integration on that was switched on by itself.
        for options in AUTOLOGGING_INTEGRATIONS.values():
            options["disable"] = True
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
        for name in ("TRACKING_URI", "REGISTRY_URI", "RUN_ID", "EXPERIMENT_ID"):
            os.environ.pop(f"MLFLOW_{name}", None)


@pytest.fixture(scope="session")
def server() -> DatabaseURI:
    """The server of this run; its own database is for creating and dropping others."""
    if given := os.environ.get("MLFLOW_TIMESCALE_TEST_URI"):
        return DatabaseURI.parse(given)
    embedded = DatabaseURI(dbname="postgres", embedded=EMBEDDED)
    without_flushes(embedded)
    return embedded


@pytest.fixture(scope="session")
def template(server: DatabaseURI) -> str:
    """The name of a database with MLflow's tables and ours, made once per run."""
    from mlflow_timescale.schema import prepare

    return ensure_template(server, f"template_{RUN}", lambda uri: prepare(uri.url))


@pytest.fixture(scope="session")
def vanilla_template(server: DatabaseURI) -> str:
    """The name of a database as plain MLflow makes it, made once per run."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    def fill(uri: DatabaseURI) -> None:
        SqlAlchemyStore(vanilla_url(uri), "/artifacts")

    return ensure_template(server, f"vanilla_{RUN}", fill)


@pytest.fixture(scope="session")
def new_database(
    server: DatabaseURI, template: str
) -> Callable[..., AbstractContextManager[DatabaseURI]]:
    """Makes databases that live as long as their `with` block, for fixtures of a wider scope."""

    def make(*, empty: bool = False) -> AbstractContextManager[DatabaseURI]:
        return cloned(server, "template1" if empty else template)

    return make


@pytest.fixture(scope="module")
def shared_database(
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
) -> Iterator[DatabaseURI]:
    """One database for the tests of a file that do not disturb each other."""
    with new_database() as uri:
        yield uri


@pytest.fixture(scope="module")
def people(
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
) -> Iterator[Logins]:
    """A login for each role, on a database that the tests of a file share."""
    from mlflow_timescale.operations.roles import set_up

    with new_database() as uri, db.connect(uri, autocommit=True) as conn:
        set_up(conn)
        with logins(conn, uri) as people:
            yield people
            dispose_engines()


@pytest.fixture
def database(server: DatabaseURI, template: str) -> Iterator[DatabaseURI]:
    """A database of the test's own, with MLflow's tables and our migrations."""
    with cloned(server, template) as uri:
        yield uri


@pytest.fixture
def vanilla_database(server: DatabaseURI, vanilla_template: str) -> Iterator[DatabaseURI]:
    """A database of the test's own, as plain MLflow makes it."""
    with cloned(server, vanilla_template) as uri:
        yield uri


@pytest.fixture
def empty_database(server: DatabaseURI) -> Iterator[DatabaseURI]:
    """A database of the test's own without tables."""
    with cloned(server) as uri:
        yield uri


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory for an embedded server of the test's own; root may give it to another user."""
    with temporary() as uri:
        assert uri.embedded is not None
        uri.embedded.chmod(0o755)
        yield uri.embedded


@pytest.fixture
def conn(database: DatabaseURI) -> Iterator[psycopg.Connection]:
    """An autocommit connection to `database`."""
    with db.connect(database, autocommit=True) as connection:
        yield connection
