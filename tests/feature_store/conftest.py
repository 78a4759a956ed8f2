"""A feature store on a database that the tests of one process share, emptied for each."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from psycopg import sql

from feature_store import FeatureStore
from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI

TABLES = "feature_points, feature_series, feature_writes, feature_views, feature_definitions"


@pytest.fixture(scope="session")
def shared_database(server: DatabaseURI, template: str) -> Iterator[DatabaseURI]:
    """One database for all tests of this process: a clone for each would take most of the time."""
    names = {
        "new": sql.Identifier(f"test_{uuid.uuid4().hex[:16]}"),
        "old": sql.Identifier(template),
    }
    with db.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {new} TEMPLATE {old}").format(**names))
        yield server.with_database(names["new"].as_string().strip('"'))
        admin.execute(sql.SQL("DROP DATABASE {new} WITH (FORCE)").format(**names))


@pytest.fixture
def store(shared_database: DatabaseURI) -> Iterator[FeatureStore]:
    """A store on an empty database."""
    with db.connect(shared_database, autocommit=True) as conn:
        for table in TABLES.split(", "):
            conn.execute(f"TRUNCATE mlops.{table} RESTART IDENTITY CASCADE")
    with FeatureStore(shared_database, producer="tests", producer_version="abc123") as opened:
        yield opened
