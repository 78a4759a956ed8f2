"""`mlflow-timescale features ...`: a skin over `FeatureStore`.

A command's module is imported when it is called.
"""

from __future__ import annotations

import click

from mlflow_timescale.cli.kit import LazyGroup

COMMANDS = {
    "describe": "feature_store.cli.catalogue:describe",
    "diff": "feature_store.cli.reading:diff",
    "export": "feature_store.cli.snapshots:export",
    "health": "feature_store.cli.health:health",
    "history": "feature_store.cli.reading:history",
    "latest": "feature_store.cli.reading:latest",
    "leaks": "feature_store.cli.training:leaks",
    "lineage": "feature_store.cli.catalogue:lineage",
    "list": "feature_store.cli.catalogue:list_features",
    "register": "feature_store.cli.catalogue:register",
    "snapshot": "feature_store.cli.snapshots:snapshot",
    "training": "feature_store.cli.training:training",
    "universe": "feature_store.cli.universe:universe",
    "verify": "feature_store.cli.snapshots:verify",
    "watermark": "feature_store.cli.catalogue:watermark",
    "write": "feature_store.cli.writing:write",
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def features() -> None:
    """Write features and read what was known at a time."""
