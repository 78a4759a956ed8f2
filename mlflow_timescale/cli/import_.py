"""`mlflow-timescale import`."""

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
    require_server,
)
from mlflow_timescale.common.settings import IMPORT_SOURCE
from mlflow_timescale.db.uri import DatabaseURI


@click.command("import")
@click.argument("source", envvar=IMPORT_SOURCE.name)
@database_option
@dry_run_option
@json_option
def import_(source: str, uri: DatabaseURI, dry_run: bool, as_json: bool) -> None:
    """Copy another MLflow database or file store into a new database.

    SOURCE is a database URI (sqlite:///mlflow.db, postgresql://...) or the directory of a file
    store (./mlruns). A URI with a password belongs into MLFLOW_TIMESCALE_IMPORT_SOURCE. All or
    nothing: the rows of every table are counted before the commit. Experiments whose ids are too
    large for a database, as those of file stores, get new ones, and keep the old one as a tag. What
    cannot be read is left out and named. Artifacts stay where they are.
    """
    if source.startswith(("postgresql", "postgres:", "timescaledb")):
        require_server(DatabaseURI.parse(source))
    from mlflow_timescale.operations.importing import import_from
    from mlflow_timescale.schema import initialize

    def print_copied(table: str, rows: int) -> None:
        if rows and not as_json:
            print_message(f"{rows:>12,} {table}")

    def keep_note(line: str) -> None:
        notes.append(line)
        if not as_json:
            print_message(line, style="yellow", stderr=True)

    notes: list[str] = []
    initialize(uri.url)
    with maintenance(uri) as conn:
        db.ensure(conn, uri)
        copied = import_from(
            source, conn, on_table=print_copied, on_note=keep_note, dry_run=dry_run
        )
    if as_json:
        print_json({"tables": copied, "rows": sum(copied.values()), "notes": notes})
    else:
        done = "rows would be imported" if dry_run else "rows imported"
        print_message(f"{sum(copied.values()):>12,} {done}")
