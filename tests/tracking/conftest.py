"""A database that goes away and comes back, and its URI with a spool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.databases import Switch
from mlflow_timescale.db.uri import DatabaseURI


@pytest.fixture
def switch(server: DatabaseURI, shared_database: DatabaseURI) -> Iterator[Switch]:
    switch = Switch(server, shared_database.dbname)
    yield switch
    switch.set(on=True)


@pytest.fixture
def uri(shared_database: DatabaseURI, tmp_path: Path) -> str:
    separator = "&" if "?" in shared_database.url else "?"
    return f"{shared_database.url}{separator}spool={tmp_path}/spool"
