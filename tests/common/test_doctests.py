"""Every example in the docstrings of the ground floor runs."""

from __future__ import annotations

import doctest
import importlib

import psycopg
import pytest

MODULES = [
    *(f"mlflow_timescale.common.{name}" for name in ("calendars", "micros", "schedules", "time")),
    "feature_store.write.availability",
    "mlflow_timescale.common.calendar_overrides",
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name: str, conn: psycopg.Connection) -> None:
    result = doctest.testmod(importlib.import_module(name), extraglobs={"conn": conn})
    assert result.attempted > 0
    assert result.failed == 0
