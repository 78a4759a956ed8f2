"""Every example in the diagnosis is run."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest


@pytest.mark.parametrize("name", ["cells", "diagnosis", "findings", "fits", "hypotheses"])
def test_the_examples_of_a_module_are_true(name: str) -> None:
    module = importlib.import_module(f"drift.skew.{name}")
    result = doctest.testmod(module, extraglobs={"np": np})
    assert result.attempted > 0
    assert result.failed == 0
