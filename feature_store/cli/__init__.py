"""`mlflow-timescale features ...`: a skin over `FeatureStore`.

Groups of commands live in modules of their own, and are imported when one is called.
"""

from __future__ import annotations

import click

from mlflow_timescale.cli.lazy import LazyGroup

COMMANDS = {
    "describe": "feature_store.cli.catalogue:describe",
    "diff": "feature_store.cli.data:diff",
    "export": "feature_store.cli.snapshots:export",
    "health": "feature_store.cli.health:health",
    "history": "feature_store.cli.data:history",
    "latest": "feature_store.cli.data:latest",
    "leaks": "feature_store.cli.data:leaks",
    "lineage": "feature_store.cli.catalogue:lineage",
    "list": "feature_store.cli.catalogue:list_features",
    "register": "feature_store.cli.catalogue:register",
    "snapshot": "feature_store.cli.snapshots:snapshot",
    "training": "feature_store.cli.data:training",
    "verify": "feature_store.cli.snapshots:verify",
    "watermark": "feature_store.cli.catalogue:watermark",
    "write": "feature_store.cli.data:write",
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def features() -> None:
    """Write features, and read what was known at time T.

    Times are ISO 8601 with an offset (2024-01-15T16:00-05:00, or ...Z), durations are written 5d,
    4h, 30m or 90s.
    """
