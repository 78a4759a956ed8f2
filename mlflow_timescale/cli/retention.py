"""`mlflow-timescale retention`."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import click
from rich.console import Console

from mlflow_timescale import db
from mlflow_timescale.cli.options import uri_option
from mlflow_timescale.db.uri import DatabaseURI


@click.command()
@uri_option
@click.option("--days", type=click.IntRange(min=1), required=True, help="Keep so many days.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def retention(uri: DatabaseURI, days: int, yes: bool) -> None:
    """Remove the points of metrics that are older than so many days, for good.

    Runs, params, tags and the latest value of each metric stay. Run it from cron; on TimescaleDB
    whole chunks are dropped, which gives their space back at once.
    """
    until = datetime.now(timezone.utc) - timedelta(days=days)
    if not yes:
        click.confirm(f"Remove every point logged before {until:%Y-%m-%d %H:%M} UTC?", abort=True)
    queries = db.load("tracking")
    with db.connect(uri, autocommit=True) as conn:
        before = {"before_ms": int(until.timestamp() * 1000)}
        found = conn.execute(queries.drop_points, before).fetchone()
    Console(highlight=False).print(f"removed from {found[0] if found else 0:,} runs")
