"""`mlflow-timescale features ...`: a skin over `FeatureStore`.

Groups of commands live in modules of their own, and are imported when one is called.
"""

from __future__ import annotations

import click

from mlflow_timescale.cli.lazy import LazyGroup

COMMANDS = {
    "describe": "feature_store.cli_catalogue:describe",
    "diff": "feature_store.cli_data:diff",
    "export": "feature_store.cli_snapshots:export",
    "health": "feature_store.cli_health:health",
    "history": "feature_store.cli_data:history",
    "latest": "feature_store.cli_data:latest",
    "leaks": "feature_store.cli_data:leaks",
    "lineage": "feature_store.cli_catalogue:lineage",
    "list": "feature_store.cli_catalogue:list_features",
    "register": "feature_store.cli_catalogue:register",
    "snapshot": "feature_store.cli_snapshots:snapshot",
    "training": "feature_store.cli_data:training",
    "verify": "feature_store.cli_snapshots:verify",
    "watermark": "feature_store.cli_catalogue:watermark",
    "write": "feature_store.cli_data:write",
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def features() -> None:
    """Write features, and read what was known at time T.

    Times are ISO 8601 with an offset (2024-01-15T16:00-05:00, or ...Z), durations are written 5d,
    4h, 30m or 90s.
    """
