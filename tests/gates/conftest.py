"""What the gates share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import mlflow
import pytest
from mlflow.tracking import fluent

from mlflow_timescale.db.uri import DatabaseURI


@pytest.fixture(autouse=True)
def _mlflow_forgets() -> Iterator[None]:
    """Leave no URI, run or environment behind."""
    before = dict(os.environ)
    yield
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)
    fluent._active_experiment_id = None
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def shared_database(
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
) -> Iterator[DatabaseURI]:
    """One database for the tests of a module."""
    with new_database() as database:
        yield database
