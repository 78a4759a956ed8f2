"""`mlflow-timescale reproduce`."""

from __future__ import annotations

import click

from mlflow_timescale.cli.kit import (
    Cell,
    Exit,
    database_option,
    exit_with,
    json_option,
    print_json,
    print_table,
)
from mlflow_timescale.db.uri import DatabaseURI


@click.command()
@database_option
@click.argument("run_id", metavar="RUN")
@json_option
def reproduce(uri: DatabaseURI, run_id: str, as_json: bool) -> None:
    """Check whether RUN can be repeated, and what is missing.

    RUN is the id of a run, or a model version: NAME/3 or NAME@ALIAS.

    Artifacts and feature snapshots are read again and compared with their fingerprints. Exit
    code 3: something is missing.
    """
    from mlflow_timescale.operations.reproduce import checklist

    items = checklist(uri, run_id)
    if as_json:
        print_json(items)
    else:
        rows = [
            (
                Cell("yes", "green") if item.holds else Cell("no", "red"),
                item.name,
                item.recorded,
                item.missing,
            )
            for item in items
        ]
        print_table(("", "item", "recorded", "missing"), rows)
    exit_with(Exit.OK if all(item.holds for item in items) else Exit.NO)
