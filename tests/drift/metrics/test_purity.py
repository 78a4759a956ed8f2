"""The numerics import numpy and scipy only, so that they can be used, and read, alone."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import drift.metrics

PACKAGE = Path(drift.metrics.__file__).parent
RULES = ("rules", "presets", "simulation")
PURE = sorted([*PACKAGE.glob("*.py"), *(PACKAGE.parent / "alerts" / f"{m}.py" for m in RULES)])
ALLOWED = {"numpy", "scipy", "drift", *sys.stdlib_module_names}
OURS = ("drift.metrics", "drift.alerts.rules", "drift.alerts.presets", "drift.alerts.simulation")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(absolute(path, node))
    return names


def absolute(path: Path, node: ast.ImportFrom) -> set[str]:
    """The full names that `from ... import` names, relative or not."""
    if not node.level:
        return {node.module or ""}
    package = path.relative_to(PACKAGE.parents[1]).parts[:-1]
    parents = package[: len(package) - node.level + 1]
    if node.module:
        return {".".join([*parents, node.module])}
    return {".".join([*parents, alias.name]) for alias in node.names}


@pytest.mark.parametrize("path", PURE, ids=lambda path: path.name)
def test_a_pure_module_imports_numpy_and_scipy_only(path: Path) -> None:
    names = imported(path)
    assert {name.split(".")[0] for name in names} <= ALLOWED
    assert all(name.startswith(OURS) for name in names if name.split(".")[0] == "drift")
