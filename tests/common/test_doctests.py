"""Every example in the docstrings of the ground floor runs."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = [f"mlflow_timescale.common.{name}" for name in ("micros", "time")]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
