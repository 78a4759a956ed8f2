"""The invariants of ARCHITECTURE.md."""

from __future__ import annotations

import ast
import configparser
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("mlflow_timescale", "feature_store", "drift")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
# Tests of one promise that several rooms keep together.
ACROSS_ROOMS = {"browser", "contract", "gates", "integrations"}
SQL = re.compile(r"\b(SELECT|INSERT INTO|DELETE FROM|UPDATE \w+ SET|CREATE TABLE)\b")


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, and whether it does so at import time."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) or _is_type_checking(node)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield _absolute(path, node), id(node) not in lazy


def _absolute(path: Path, node: ast.ImportFrom) -> str:
    """The full name of the module that `from ... import` names, relative or not."""
    package = path.relative_to(ROOT).parts[:-1]
    parents = package[: len(package) - node.level + 1] if node.level else ()
    return ".".join([*parents, *([node.module] if node.module else [])])


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imported(*parts: str, eager: bool = False) -> set[str]:
    """The top-level names that the files below a folder import."""
    paths = [path for path in MODULES if path.is_relative_to(ROOT.joinpath(*parts))]
    assert paths, parts
    return {name.split(".")[0] for path in paths for name, now in imports(path) if now or not eager}


def test_the_database_layer_never_imports_mlflow() -> None:
    assert "mlflow" not in imported("mlflow_timescale", "db")


def test_dependencies_point_one_way() -> None:
    assert "drift" not in imported("feature_store")
    assert not {"drift", "feature_store"} & imported("mlflow_timescale", eager=True)


def test_no_module_relies_on_a_generic_name() -> None:
    """Another package may be called `feature_store` or `drift`: see common/packages.py."""
    absolute = {
        (str(path.relative_to(ROOT)), name)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in _absolute_names(node)
        if name.split(".")[0] in ("feature_store", "drift")
    }
    second_names = {"mlflow_timescale/features.py", "mlflow_timescale/drift.py"}
    assert {path for path, _ in absolute} == second_names  # for type checkers only


def _absolute_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []


def test_frame_libraries_are_imported_in_common_alone_and_only_when_needed() -> None:
    libraries = {"pandas", "polars", "duckdb"}
    users = {
        (str(path.relative_to(ROOT)), now)
        for path in MODULES
        for name, now in imports(path)
        if name.split(".")[0] in libraries
    }
    assert all(path.startswith("mlflow_timescale/common/") for path, _ in users), users
    assert not [path for path, now in users if now]


def test_only_its_mlflow_dataset_ties_the_feature_store_to_mlflow() -> None:
    tied = [
        path.name
        for path in MODULES
        if path.is_relative_to(ROOT / "feature_store")
        and any(now and name.startswith("mlflow.") for name, now in imports(path))
    ]
    assert tied == ["mlflow_dataset.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_stay_small_and_hold_no_sql(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= 60 + _docstring_lines(node), node.name
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not SQL.search(node.value) or _is_docstring_like(node.value), node.value


def _docstring_lines(node: ast.FunctionDef) -> int:
    first = node.body[0]
    return (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(node) else 0


def _is_docstring_like(text: str) -> bool:
    """Prose and examples may name SQL; statements may not stand in the code."""
    return "\n" in text and (">>>" in text or "-- name:" in text or text.rstrip().endswith("."))


def packages() -> list[str]:
    """Every room, as a path: `mlflow_timescale/tracking`."""
    return [str(path.parent.relative_to(ROOT)) for path in MODULES if path.name == "__init__.py"]


def exported_modules(room: str) -> set[str] | None:
    """The modules that a room opens to others; None for a room that exports objects."""
    folder = ROOT.joinpath(*room.split("."))
    tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    values = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    names = set(next(values, ()))
    modules = {path.stem for path in folder.glob("*.py")} | {p.name for p in folder.iterdir()}
    return names if names and names <= modules else None


def test_rooms_import_only_the_modules_that_other_rooms_export() -> None:
    rooms = [room.replace("/", ".") for room in packages()]
    exports = {room: exported_modules(room) for room in rooms}
    assert sum(names is not None for names in exports.values()) >= 14
    entered = set()
    for path in MODULES:
        own = ".".join(path.relative_to(ROOT).parent.parts)
        for name in imported_modules(path):
            room, _, module = name.rpartition(".")
            open_modules = exports.get(room)
            if open_modules is not None and room != own and module not in open_modules:
                entered.add(f"{path.relative_to(ROOT)} imports {name}")
    assert not entered


def imported_modules(path: Path) -> set[str]:
    """The modules of ours that a file imports, as "from room import module" too."""
    candidates = {name for name, _ in imports(path)}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            candidates |= {f"{_absolute(path, node)}.{alias.name}" for alias in node.names}
    return {name for name in candidates if (ROOT / (name.replace(".", "/") + ".py")).is_file()}


def test_every_room_is_in_the_wheel() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = setup["options"]["packages"].split()
    assert not {room.replace("/", ".") for room in packages()} - set(listed)


def test_the_architecture_has_a_row_for_every_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    missing = [room for room in packages() if f"| `{room}/` |" not in text]
    assert not missing, f"ARCHITECTURE.md's table of rooms lacks {missing}"


def test_every_name_in_the_architecture_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`([\w./-]+)`", text))
    missing = [name for name in sorted(names) if not _exists(name)]
    assert not missing, f"ARCHITECTURE.md names what does not exist: {missing}"


def _exists(name: str) -> bool:
    """Whether a path, a dotted Python name or an object of the schema `mlops` exists."""
    if "/" in name or name.startswith("."):
        return "//" in name or (ROOT / name).exists()
    first, _, rest = name.partition(".")
    if first == "mlops":
        return any(
            re.search(rf"\bmlops\.{rest}\b", path.read_text(encoding="utf-8"))
            for path in (ROOT / "sql").rglob("*.sql")
            if path.parent.name != "queries"
        )
    return not rest or first not in PACKAGES or _resolves(name)


def _resolves(name: str) -> bool:
    """Whether a dotted name leads to a module, or to an attribute of one."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return bool(module) and hasattr(importlib.import_module(module), attribute)
    return True


def test_the_folders_of_the_tests_mirror_the_packages() -> None:
    rooms = {room.removeprefix("mlflow_timescale/") for room in packages()} | {
        "benchmarks",
        "examples",
        "sql",
    }
    folders = {
        str(path.parent.relative_to(ROOT / "tests")) for path in (ROOT / "tests").rglob("test_*.py")
    } - {"."}
    assert folders <= rooms | ACROSS_ROOMS, f"no room: {folders - rooms - ACROSS_ROOMS}"
