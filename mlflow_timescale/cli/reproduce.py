"""`mlflow-timescale reproduce`."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table

from mlflow_timescale.cli.options import uri_option
from mlflow_timescale.db.uri import DatabaseURI


@click.command()
@uri_option
@click.argument("run_id", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def reproduce(ctx: click.Context, uri: DatabaseURI, run_id: str, as_json: bool) -> None:
    """Say whether a run can be repeated: what is recorded of it, and what is missing.

    Exits with 1 if anything is missing. Artifacts and feature snapshots are read again and
    compared with their fingerprints.
    """
    from mlflow_timescale.operations.reproduce import checklist

    items = checklist(uri, run_id)
    if as_json:
        click.echo(json.dumps([asdict(item) for item in items], indent=2))
    else:
        table = Table("", "Item", "Recorded", "Missing", box=None)
        for item in items:
            mark = "[green]yes[/]" if item.holds else "[red]no[/]"
            table.add_row(mark, item.name, item.recorded, item.missing)
        Console(highlight=False).print(table)
    ctx.exit(0 if all(item.holds for item in items) else 1)
