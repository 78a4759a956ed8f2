"""One database for the tests of a file, that goes away and comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.databases import Switch
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.tracking.opening import open_store
from mlflow_timescale.tracking.spooling import SpoolingTracking
from mlflow_timescale.tracking.store import TimescaleTrackingStore


@pytest.fixture
def switch(server: DatabaseURI, shared_database: DatabaseURI) -> Iterator[Switch]:
    switch = Switch(server, shared_database.dbname)
    yield switch
    switch.set(on=True)


@pytest.fixture
def uri(shared_database: DatabaseURI, tmp_path: Path) -> str:
    separator = "&" if "?" in shared_database.url else "?"
    return f"{shared_database.url}{separator}spool={tmp_path}/spool"


@pytest.fixture
def plain(shared_database: DatabaseURI) -> TimescaleTrackingStore:
    return TimescaleTrackingStore(shared_database.url, "timescaledb-artifacts:/")


@pytest.fixture
def opening(uri: str) -> Iterator[Callable[[], SpoolingTracking]]:
    """Opens stores as processes do."""
    opened: list[SpoolingTracking] = []

    def open_() -> SpoolingTracking:
        store = open_store(uri, "timescaledb-artifacts:/", None, False)
        assert isinstance(store, SpoolingTracking)
        opened.append(store)
        return store

    yield open_
    for store in opened:
        store._outbox.close()


@pytest.fixture
def store(opening: Callable[[], SpoolingTracking]) -> SpoolingTracking:
    return opening()
