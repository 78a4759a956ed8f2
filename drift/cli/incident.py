"""`mlflow-timescale incident ...`: the questions after a model went wrong."""

from __future__ import annotations

import click

from mlflow_timescale.cli.kit import LazyGroup

COMMANDS = {
    "explain": "drift.cli.explain:explain",
    "onset": "drift.cli.incident_onset:onset",
    "replay": "drift.cli.incident_replay:replay",
    "skew": "drift.cli.skew:skew",
    "version": "drift.cli.incident_version:version",
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def incident() -> None:
    """Explain what a model was given in production, and why."""
