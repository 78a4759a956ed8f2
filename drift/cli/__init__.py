"""`mlflow-timescale drift ...` and `mlflow-timescale daily`: a skin over `DriftMonitor`.

A command's module is imported when it is called.
"""

from __future__ import annotations

import click

from mlflow_timescale.cli.kit import LazyGroup

COMMANDS = {
    "accept": "drift.cli.references:accept",
    "ack": "drift.cli.alerts:ack",
    "alerts": "drift.cli.alerts:alerts",
    "backfill": "drift.cli.sessions:backfill",
    "forget": "drift.cli.forgetting:forget",
    "from-qlib": "drift.cli.retrospects:from_qlib",
    "onset": "drift.cli.incident_onset:onset",
    "record": "drift.cli.recording:record",
    "repaired": "drift.cli.alerts:repaired",
    "report": "drift.cli.sessions:report",
    "rules": "drift.cli.rules:rules",
    "run": "drift.cli.sessions:run",
    "silence": "drift.cli.alerts:silence",
    "status": "drift.cli.sessions:status",
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def drift() -> None:
    """Watch strategies for drift: IC, PSI, Sharpe, and alerts."""
