"""`mlflow-timescale migrate`."""

from __future__ import annotations

import click
from rich.console import Console

from mlflow_timescale import db
from mlflow_timescale.cli.options import uri_option
from mlflow_timescale.db.migrations import plan
from mlflow_timescale.db.uri import DatabaseURI


@click.command()
@uri_option
@click.option("--dry-run", is_flag=True, help="Say what would be applied, and change nothing.")
def migrate(uri: DatabaseURI, dry_run: bool) -> None:
    """Bring the database's schema up to date: MLflow's tables, then ours.

    Safe to run at any time and by any number of processes. What the server does not offer (a
    hypertable without TimescaleDB) waits, and is applied by the first run that finds it.
    """
    console = Console(highlight=False)
    if not dry_run:
        from mlflow_timescale.schema import initialize

        initialize(uri.url)
    with db.connect(uri, autocommit=True) as conn:
        done = db.migrate(
            conn, dry_run=dry_run, on_apply=lambda item: console.print(f"apply   {item.name}")
        )
        if dry_run:
            for item in done:
                console.print(f"pending {item.name}")
        for name, lacks in plan(conn).waiting.items():
            console.print(f"waiting {name} (needs {', '.join(sorted(lacks))})")
    if not done:
        console.print("The schema is up to date.")
