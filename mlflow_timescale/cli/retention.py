"""`mlflow-timescale retention`."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import click

from mlflow_timescale import db
from mlflow_timescale.cli.kit import database_option, print_message, yes_option
from mlflow_timescale.db.uri import DatabaseURI


@click.command()
@database_option
@click.option(
    "--days", type=click.IntRange(min=1), required=True, help="Keep the points of these days."
)
@yes_option
def retention(uri: DatabaseURI, days: int, yes: bool) -> None:
    """Delete metric points older than a number of days, for good.

    Runs, params, tags and the latest value of each metric stay. Run it from cron; on TimescaleDB
    whole chunks are dropped, which frees their disk space at once.
    """
    from mlflow_timescale.operations.retention import drop_points

    before = datetime.now(timezone.utc) - timedelta(days=days)
    if not yes:
        click.confirm(f"Remove every point logged before {before:%Y-%m-%d %H:%M} UTC?", abort=True)
    with db.connect(uri, autocommit=True) as conn:
        runs = drop_points(conn, before)
    print_message(f"removed from {runs:,} runs")
