"""Every example in the numerics, rules and report is run."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = [
    *(f"drift.metrics.{name}" for name in ("buckets", "cusum", "distances", "ic", "multiplicity")),
    *(f"drift.metrics.{name}" for name in ("psi", "ranks", "sharpe")),
    "drift.metrics",
    *(f"drift.alerts.{name}" for name in ("presets", "rules", "simulation")),
    *(f"drift.report.{name}" for name in ("drawing", "templates")),
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
