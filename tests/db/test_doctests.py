"""The examples in the docstrings of the database layer."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest

from mlflow_timescale import db
from mlflow_timescale.db import connections, database, opening, queries, rows, session, uri

MODULES = [connections, database, opening, queries, rows, session, uri]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_the_examples_give_what_they_show(module: ModuleType, conn: db.Connection, request) -> None:
    names = {"conn": conn, "uri": request.getfixturevalue("database")}
    result = doctest.testmod(module, extraglobs=names)
    assert result.attempted > 0
    assert result.failed == 0
