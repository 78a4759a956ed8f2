"""Each query that the code names is in its SQL file, and gets the parameters that it needs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlflow_timescale.db.queries import load

ROOT = Path(__file__).parents[2]
PACKAGES = ("mlflow_timescale", "feature_store", "drift")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PARAMETER = re.compile(r"%\((\w+)\)[sbt]")


@dataclass(frozen=True)
class Use:
    """A query as the code names it, such as `_queries.runs` of the file `drift`."""

    file: str
    query: str
    node: ast.Attribute


def uses(tree: ast.Module) -> Iterator[Use]:
    """The queries that a module names, through the variables that hold a file's queries."""
    files = {name: file for node in ast.walk(tree) for name, file in _loaded(node)}
    for node in ast.walk(tree):
        is_attribute = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if is_attribute and (file := files.get(node.value.id)):
            yield Use(file, node.attr, node)


def _loaded(node: ast.AST) -> Iterator[tuple[str, str]]:
    """The variable and the file of `_queries = load("file")`."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
        return
    call = node.value
    if ast.unparse(call.func).rpartition(".")[2] != "load" or len(call.args) != 1:
        return
    if isinstance(call.args[0], ast.Constant) and isinstance(node.targets[0], ast.Name):
        yield node.targets[0].id, str(call.args[0].value)


def passed(tree: ast.Module) -> Iterator[tuple[ast.expr, set[str] | None]]:
    """The query of each `execute(query, parameters)` and the parameters' names, None if unseen."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        literals = _literals(function)
        for node in ast.walk(function):
            is_execute = isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".execute")
            if is_execute and isinstance(node, ast.Call) and node.args:
                yield node.args[0], _names(node, literals)


def _literals(function: ast.FunctionDef) -> dict[str, ast.expr]:
    """The variables that a function assigns exactly once."""
    assigned: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            assigned.setdefault(node.targets[0].id, []).append(node.value)
    return {name: values[0] for name, values in assigned.items() if len(values) == 1}


def _names(call: ast.Call, literals: dict[str, ast.expr]) -> set[str] | None:
    if len(call.args) == 1:
        return set()
    parameters = call.args[1]
    if isinstance(parameters, ast.Name):
        parameters = literals.get(parameters.id, parameters)
    if not isinstance(parameters, ast.Dict) or None in parameters.keys:
        return None
    return {str(key.value) for key in parameters.keys if isinstance(key, ast.Constant)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_query_exists_and_gets_its_parameters(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    queries = {id(use.node): use for use in uses(tree)}
    for use in queries.values():
        assert use.query in vars(load(use.file)), f"{use.file}.sql has no query {use.query!r}"
    for query, names in passed(tree):
        if names is not None and (use := queries.get(id(query))):
            needed = set(PARAMETER.findall(getattr(load(use.file), use.query).as_string()))
            assert needed <= names, f"{use.query} (line {query.lineno}) lacks {needed - names}"


def test_every_query_of_the_files_is_used() -> None:
    used = {
        (use.file, use.query)
        for path in MODULES
        for use in uses(ast.parse(path.read_text(encoding="utf-8")))
    }
    files = {path.stem for path in (ROOT / "sql" / "queries").glob("*.sql")}
    unused = [
        (file, name) for file in files for name in vars(load(file)) if (file, name) not in used
    ]
    assert unused == []


MISSPELT = """
_queries = load("server")
def exists(conn, name):
    row = {"nam": name}
    conn.execute(_queries.database_exists, row)
    conn.execute(_queries.datbase_exists)
"""


def test_a_misspelt_query_and_parameter_are_noticed() -> None:
    tree = ast.parse(MISSPELT)
    assert [use.query for use in uses(tree)] == ["database_exists", "datbase_exists"]
    assert [names for _, names in passed(tree)] == [{"nam"}, set()]
