"""The feature store under a name that no other package has: the same objects as `feature_store`.

>>> from mlflow_timescale.features import FeatureStore, FeatureView
>>> FeatureView.__name__
'FeatureView'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_timescale.common import packages

if TYPE_CHECKING:
    from feature_store import *
    from feature_store import cross_section as cross_section
    from feature_store import health as health
    from feature_store import known as known
    from feature_store.health import Freshness as Freshness


def __getattr__(name: str) -> Any:
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return packages.attribute("feature_store", name)


def __dir__() -> list[str]:
    return list(packages.attribute("feature_store", "__all__"))
