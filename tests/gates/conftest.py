"""What the gates share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from mlflow_timescale.db.uri import DatabaseURI


@pytest.fixture(scope="module")
def shared_database(
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
) -> Iterator[DatabaseURI]:
    """One database for the tests of a module."""
    with new_database() as database:
        yield database
