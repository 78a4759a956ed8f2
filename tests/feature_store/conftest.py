"""A feature store on a database that the tests of one process share, emptied for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.databases import cloned

from feature_store import FeatureStore
from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI

TABLES = (
    "feature_points, feature_series, feature_writes, feature_views, feature_definitions, "
    "feature_categories, feature_universes"
)


@pytest.fixture(scope="session")
def shared_database(server: DatabaseURI, template: str) -> Iterator[DatabaseURI]:
    """One database for all tests of this process: a clone for each would take most of the time."""
    with cloned(server, template) as database:
        yield database


@pytest.fixture
def store(shared_database: DatabaseURI) -> Iterator[FeatureStore]:
    """A store on an empty database."""
    with db.connect(shared_database, autocommit=True) as conn:
        for table in TABLES.split(", "):
            conn.execute(f"TRUNCATE mlops.{table} RESTART IDENTITY CASCADE")
    with FeatureStore(shared_database, producer="tests", producer_version="abc123") as opened:
        yield opened
