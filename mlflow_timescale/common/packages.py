"""Load `feature_store` and `drift` even where another package has one of these generic names.

A repository with a `feature_store/` folder of its own puts that folder before the installed
packages on `sys.path`. Our code never imports the two packages by their generic names, except
through this module: where the generic name is taken, the same files are loaded under a private
name. Inside the packages every import is relative, so they work under either name, and a process
holds one copy: the choice is made once.

Loaded by `import mlflow`: nothing here may be slow to import.
"""

from __future__ import annotations

import importlib
import logging
import sys
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

# Generic names, and the names under `mlflow_timescale` that offer the same public API.
SECOND_NAMES = {"feature_store": "mlflow_timescale.features", "drift": "mlflow_timescale.drift"}
_ROOT = Path(__file__).parents[2]
logger = logging.getLogger(__name__)


def load(name: str) -> ModuleType:
    """Import a module of ours by its name, such as "feature_store.files.snapshots".

    >>> load("drift.metrics").calculate_ic([1.0, 2.0, 3.0], [0.1, 0.2, 0.3])
    1.0
    """
    package, _, rest = name.partition(".")
    actual = actual_names()[package] if package in SECOND_NAMES else package
    if actual != package and actual not in sys.modules:
        _load_package(package, actual)
    return importlib.import_module(f"{actual}.{rest}" if rest else actual)


def attribute(package: str, name: str) -> Any:
    """A public name of one of the two packages, or else a module of it.

    Raises AttributeError where the package has neither.
    """
    module = load(package)
    if name == "__all__" or name in module.__all__ or name in getattr(module, "OPTIONAL", ()):
        return getattr(module, name)
    try:
        return load(f"{package}.{name}")
    except ModuleNotFoundError as exc:
        if exc.name != f"{module.__name__}.{name}":
            raise
        raise AttributeError(f"{SECOND_NAMES[package]} has no {name!r}") from None


def blank(module: str, name: str) -> Any:
    """A new object of a class of ours, without its constructor: what `pickle` then fills.

    A class of `feature_store` that pickle found by its module could not be loaded by a process in
    which the generic name leads elsewhere.
    """
    cls = getattr(load(module), name)
    return cls.__new__(cls)


@cache
def actual_names() -> dict[str, str]:
    """The name under which each of the two packages is loaded in this process."""
    others = _others()
    return {name: f"mlflow_timescale._{name}" if name in others else name for name in SECOND_NAMES}


def warn_of_others() -> None:
    """Log one warning if a generic name leads to another package."""
    if others := _others():
        taken = " and ".join(f"`import {name}` finds {path}" for name, path in others.items())
        names = " and ".join(SECOND_NAMES[name] for name in others)
        logger.warning("%s, not mlflow-timescale's package; import ours as %s", taken, names)


def _others() -> dict[str, str]:
    """Where generic names lead to that do not lead to our packages."""
    return {name: path for name in SECOND_NAMES if (path := _other_package(name))}


def _other_package(name: str) -> str | None:
    """Where a generic name leads to, if not to our package. Imports nothing."""
    try:
        spec = find_spec(name)
    except ValueError:  # a module made by hand, without a spec
        spec = None
    if spec is None and name not in sys.modules:
        return "nothing"
    ours = _ROOT / name / "__init__.py"
    origin = spec.origin if spec else None
    if origin and Path(origin).exists() and ours.samefile(origin):
        return None
    return origin or str(next(iter((spec and spec.submodule_search_locations) or ()), "a module"))


def _load_package(package: str, actual: str) -> None:
    """Load one of our packages from its files under another name."""
    folder = _ROOT / package
    spec = spec_from_file_location(
        actual, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"mlflow-timescale's package {package} is not in {_ROOT}; reinstall it")
    module = module_from_spec(spec)
    sys.modules[actual] = module
    spec.loader.exec_module(module)
