"""One database for all tests of a module; each test has a strategy of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from drift import DriftMonitor
from mlflow_timescale.db.uri import DatabaseURI


@pytest.fixture(scope="module")
def incidents(
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
) -> Iterator[DatabaseURI]:
    with new_database() as uri:
        yield uri


@pytest.fixture
def monitor(incidents: DatabaseURI) -> DriftMonitor:
    name = f"momentum {uuid.uuid4().hex[:6]}"
    monitor = DriftMonitor(incidents, name, tracking_uri=False, notify=())
    monitor.configure()
    return monitor
