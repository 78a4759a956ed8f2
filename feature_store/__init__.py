"""A bitemporal feature store: what was known at time T, for one entity or a whole training set."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .catalogue.definitions import FeatureView
    from .errors import (
        ConflictingValues,
        DefinitionError,
        FeatureError,
        InvalidFrame,
        InvalidName,
        InvalidTime,
        InvalidValue,
        UnknownCalendar,
        UnknownFeature,
        WriteContention,
    )
    from .files.lake import Lake
    from .files.snapshots import Snapshot, load_snapshot
    from .read.point_in_time import FeatureValue, MixedVersions, UnknownEntities
    from .store import FeatureStore
    from .write.availability import SessionRule
    from .write.forward_returns import forward_returns
    from .write.midnights import MidnightEvents

# Imported when first used: `import feature_store` loads neither numpy nor a database driver.
_HOMES = {
    "FeatureStore": "store",
    "forward_returns": "write.forward_returns",
    "FeatureValue": "read.point_in_time",
    "MidnightEvents": "write.midnights",
    "MixedVersions": "read.point_in_time",
    "FeatureView": "catalogue.definitions",
    "Lake": "files.lake",
    "SessionRule": "write.availability",
    "Snapshot": "files.snapshots",
    "load_snapshot": "files.snapshots",
    "ConflictingValues": "errors",
    "DefinitionError": "errors",
    "FeatureError": "errors",
    "InvalidFrame": "errors",
    "InvalidName": "errors",
    "InvalidTime": "errors",
    "InvalidValue": "errors",
    "UnknownCalendar": "errors",
    "UnknownEntities": "read.point_in_time",
    "UnknownFeature": "errors",
    "WriteContention": "errors",
}
# Need a package that an extra brings: not part of `from feature_store import *`.
OPTIONAL = {"FeatureStoreLoader": "qlib_loader"}

__all__ = [
    "ConflictingValues",
    "DefinitionError",
    "FeatureError",
    "FeatureStore",
    "FeatureValue",
    "FeatureView",
    "InvalidFrame",
    "InvalidName",
    "InvalidTime",
    "InvalidValue",
    "Lake",
    "MidnightEvents",
    "MixedVersions",
    "SessionRule",
    "Snapshot",
    "UnknownCalendar",
    "UnknownEntities",
    "UnknownFeature",
    "WriteContention",
    "forward_returns",
    "load_snapshot",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name) or OPTIONAL.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return __all__
