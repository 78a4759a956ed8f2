"""The classes and functions that users hold: every parameter described, every example run."""

from __future__ import annotations

import ast
import builtins
import doctest
import inspect
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from support import facades
from support.facades import PACKAGES, Documented

from mlflow_timescale.db.uri import DatabaseURI

ITEMS = facades.documented()
ids = [item.name for item in ITEMS]


@pytest.mark.parametrize("item", ITEMS, ids=ids)
def test_every_parameter_is_described(item: Documented) -> None:
    missing = [name for name in item.parameters if name not in item.described()]
    assert not missing, f"{item.name} does not describe {', '.join(missing)}"


@pytest.mark.parametrize("item", ITEMS, ids=ids)
def test_every_described_parameter_exists(item: Documented) -> None:
    unknown = facades.headings(item.doc, "Parameters") - set(item.parameters)
    assert not unknown, f"{item.name} describes {', '.join(unknown)}, which it does not take"


@pytest.mark.parametrize("item", ITEMS, ids=ids)
def test_every_error_that_is_raised_is_named(item: Documented) -> None:
    owner = inspect.getdoc(item.owner) or ""
    named = facades.headings(item.doc, "Raises") | facades.headings(owner, "Raises")
    assert raised_by(item) <= named
    unknown = {name for name in named if not is_error(name, item)}
    assert not unknown, f"{', '.join(unknown)} is not an exception"


@pytest.mark.parametrize("item", ITEMS, ids=ids)
def test_the_example_runs(
    item: Documented,
    database: DatabaseURI,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ">>>" in item.doc, f"{item.name} has no example"
    runner = doctest.DocTestRunner(optionflags=facades.FLAGS)
    results = runner.run(facades.examples(item, {"uri": database.url}))
    assert results.failed == 0, capsys.readouterr().out


def raised_by(item: Documented) -> set[str]:
    """The exceptions that the body of a function raises itself."""
    if item.function is None:
        return set()
    source = textwrap.dedent(inspect.getsource(item.function))
    raised = [node.exc for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Raise)]
    calls = [node.func for node in raised if isinstance(node, ast.Call)]
    names = {ast.unparse(call).split(".")[-1] for call in calls}
    return {name for name in names if name[0].isupper()}  # others are functions that make errors


def is_error(name: str, item: Documented) -> bool:
    scope = {**vars(builtins), **_errors(), **getattr(item.function, "__globals__", {})}
    error = scope.get(name.removeprefix("db."))
    return isinstance(error, type) and issubclass(error, BaseException)


def _errors() -> dict[str, Any]:
    """The exceptions of our packages, by name."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith(PACKAGES)]
    return {name: value for module in modules for name, value in vars(module).items()}
