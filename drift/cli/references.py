"""`drift accept`: the accepted level."""

from __future__ import annotations

from datetime import date

import click

from mlflow_timescale.cli.kit import (
    Day,
    by_option,
    database_option,
    print_message,
    reason_option,
    rehearsal_option,
    strategy_option,
)
from mlflow_timescale.db import DatabaseURI

from .monitors import open_monitor


@click.command()
@database_option
@strategy_option()
@click.argument("start", type=Day())
@click.argument("end", type=Day())
@click.option(
    "--min-sessions", default=120, show_default=True, help="Sessions with an IC that are required."
)
@click.option(
    "--feature-values",
    "features",
    type=click.Choice(["raw", "ranked"]),
    help="Compare values, or ranks across names; default: as before.",
)
@reason_option
@by_option
@rehearsal_option
def accept(
    uri: DatabaseURI,
    strategy: str,
    start: date,
    end: date,
    min_sessions: int,
    features: str | None,
    reason: str,
    by: str,
) -> None:
    """Accept the sessions from START to END as the reference."""
    monitor = open_monitor(uri, strategy)
    if features is not None:
        monitor.configure(features=features, create=False)
    version = monitor.accept(start, end, reason, accepted_by=by, min_sessions=min_sessions)
    print_message(f"reference {version} accepted: {start} to {end}")
