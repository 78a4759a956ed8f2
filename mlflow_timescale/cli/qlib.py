"""`mlflow-timescale qlib ...`: qlib's workflows on this database.

A command's module is imported when it is called.
"""

from __future__ import annotations

import click

from mlflow_timescale.cli.kit import LazyGroup

COMMANDS = {
    "online": "mlflow_timescale.cli.qlib_online:online",
    "run": "mlflow_timescale.cli.qlib_run:run",
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def qlib() -> None:
    """Workflows and models of qlib, recorded in this database."""
