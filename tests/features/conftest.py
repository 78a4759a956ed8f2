"""A feature store on a database of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from feature_store import FeatureStore
from mlflow_timescale.db.uri import DatabaseURI


@pytest.fixture
def store(database: DatabaseURI) -> Iterator[FeatureStore]:
    with FeatureStore(database, producer="tests", producer_version="abc123") as opened:
        yield opened
