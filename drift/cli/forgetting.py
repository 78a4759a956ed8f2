"""`drift forget`."""

from __future__ import annotations

from datetime import date

import click

from mlflow_timescale.cli.kit import (
    Day,
    database_option,
    dry_run_option,
    print_message,
    require_admin,
    yes_option,
)
from mlflow_timescale.db import DatabaseURI


@click.command()
@database_option
@click.option("--before", type=Day(), required=True, help="Remove sessions before this date.")
@dry_run_option
@yes_option
def forget(uri: DatabaseURI, before: date, dry_run: bool, yes: bool) -> None:
    """Remove what was served in sessions before a date.

    The features, origins and latencies of these predictions are gone for good; the outputs stay,
    because the monitor judges them. A question about such a session is answered with the removal.
    """
    from mlflow_timescale.db import Database

    from ..serving import removal

    if not dry_run:
        require_admin(uri)
    with Database(uri, application="drift", translate=True).connection() as conn:
        count = removal.count_before(conn, before)
        print_message(f"to remove: {count:,} predictions of sessions before {before}")
        if dry_run or not count:
            return
        if not yes:
            click.confirm("Remove them?", abort=True)
        print_message(f"removed {removal.remove_before(conn, before):,} predictions")
