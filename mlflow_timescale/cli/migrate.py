"""`mlflow-timescale migrate`."""

from __future__ import annotations

import click

from mlflow_timescale import db
from mlflow_timescale.cli.kit import (
    database_option,
    dry_run_option,
    json_option,
    maintenance,
    print_json,
    print_message,
)
from mlflow_timescale.db.migrations import plan
from mlflow_timescale.db.uri import DatabaseURI


@click.command()
@database_option
@dry_run_option
@json_option
def migrate(uri: DatabaseURI, dry_run: bool, as_json: bool) -> None:
    """Update the database's schema: MLflow's tables, then ours.

    Safe to run at any time and by any number of processes. A step that needs what the server
    lacks (a hypertable without TimescaleDB) waits until a later run.
    """
    from mlflow_timescale.operations.roles import regrant

    if not dry_run:
        from mlflow_timescale.schema import initialize

        initialize(uri.url)
    with maintenance(uri, changes=not dry_run) as conn:
        steps = db.migrate(
            conn,
            dry_run=dry_run,
            on_apply=lambda step: None if as_json else print_message(f"apply   {step.name}"),
        )
        if not dry_run:
            regrant(conn)
        waiting = {name: sorted(lacks) for name, lacks in plan(conn).waiting.items()}
    if as_json:
        names = [step.name for step in steps]
        print_json({"pending" if dry_run else "applied": names, "waiting": waiting})
        return
    for step in steps if dry_run else ():
        print_message(f"pending {step.name}")
    for name, lacks in waiting.items():
        print_message(f"waiting {name} (needs {', '.join(lacks)})")
    if not steps:
        print_message("The schema is up to date.")
