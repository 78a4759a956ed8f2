"""The drift monitor under a name that no other package has: the same objects as `drift`.

>>> from mlflow_timescale.drift import calculate_ic, metrics
>>> calculate_ic([1.0, 2.0, 3.0], [0.1, 0.2, 0.3])
1.0
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_timescale.common import packages

if TYPE_CHECKING:
    from drift import *
    from drift import metrics as metrics


def __getattr__(name: str) -> Any:
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return packages.attribute("drift", name)


def __dir__() -> list[str]:
    return list(packages.attribute("drift", "__all__"))
