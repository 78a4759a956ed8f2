"""The versions of the packages that a prediction depends on."""

from __future__ import annotations

import platform
import sys
from functools import cache
from importlib import metadata

# Distributions by the module that is imported where they are used.
_PACKAGES = {
    "mlflow": "mlflow",
    "numpy": "numpy",
    "pandas": "pandas",
    "polars": "polars",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "lightgbm": "lightgbm",
    "xgboost": "xgboost",
    "catboost": "catboost",
    "torch": "torch",
    "statsmodels": "statsmodels",
}


def environment() -> dict[str, str]:
    """Python's version, and those of the packages for data and models that are imported.

    >>> {"python", "mlflow-timescale"} <= environment().keys()
    True
    """
    imported = tuple(name for name in _PACKAGES if name in sys.modules)
    return dict(_versions(imported))


@cache
def _versions(imported: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    names = ["mlflow-timescale", *(_PACKAGES[name] for name in imported)]
    versions = [("python", platform.python_version())]
    for name in names:
        try:
            versions.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:  # vendored, or run from a checkout
            continue
    return tuple(versions)
