"""A database for all tests of a module; each test has a strategy of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from drift import Serving
from mlflow_timescale.db.uri import DatabaseURI


@pytest.fixture(scope="module")
def served_database(
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
) -> Iterator[DatabaseURI]:
    with new_database() as uri:
        yield uri


@pytest.fixture
def serving(served_database: DatabaseURI) -> Iterator[Callable[..., Serving]]:
    """Makes objects of one new strategy: `serving(model_version="2")`."""
    strategy = f"momentum {uuid.uuid4().hex[:8]}"
    made: list[Serving] = []

    def make(**options: Any) -> Serving:
        options = {"model_name": "gbm", "model_version": "7", "code_version": "4f2a9c1"} | options
        made.append(Serving(options.pop("uri", served_database), strategy, **options))
        return made[-1]

    yield make
    for live in made:
        live.close()


@pytest.fixture
def live(serving: Callable[..., Serving]) -> Serving:
    return serving()
