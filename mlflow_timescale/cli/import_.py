"""`mlflow-timescale import`."""

from __future__ import annotations

import click
from rich.console import Console

from mlflow_timescale import db
from mlflow_timescale.cli.options import uri_option
from mlflow_timescale.db.uri import DatabaseURI


@click.command("import")
@click.argument("source")
@uri_option
def import_(source: str, uri: DatabaseURI) -> None:
    """Copy another MLflow's runs, models and traces into a new database of ours.

    SOURCE is a database URI (sqlite:///mlflow.db, postgresql://...) or the directory of a file
    store (./mlruns). All or nothing: every table's rows are counted before anything is kept.
    Artifacts stay where they are.
    """
    from mlflow_timescale.operations.importing import import_from
    from mlflow_timescale.schema import initialize

    console = Console(highlight=False)
    initialize(uri.url)
    with db.connect(uri, autocommit=True) as conn:
        db.ensure(conn, uri)
        copied = import_from(
            source,
            conn,
            on_table=lambda table, rows: console.print(f"{rows:>12,} {table}") if rows else None,
        )
    console.print(f"{sum(copied.values()):>12,} rows imported")
