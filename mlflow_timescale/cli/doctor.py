"""`mlflow-timescale doctor`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlflow_timescale import db
from mlflow_timescale.cli.options import uri_option
from mlflow_timescale.db.uri import DatabaseURI

if TYPE_CHECKING:
    from mlflow_timescale.operations.doctor import Finding

NEEDS_ACTION = 2
_STYLES = {"ok": "green", "note": "yellow", "action": "bold red"}


@click.command()
@uri_option
@click.option(
    "--workers",
    default=4,
    show_default=True,
    envvar="MLFLOW_WORKERS",
    help="The workers of `mlflow server` to reckon with.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def doctor(ctx: click.Context, uri: DatabaseURI, workers: int, as_json: bool) -> None:
    """Examine a database: server, tier, schema, indexes, sizes, connections, clock.

    Nothing is changed. The exit code is 0 if all is well, 2 if something has to be done, and 1 if
    the examination failed.
    """
    from mlflow_timescale.operations.doctor import examine

    with db.connect(uri, autocommit=True) as conn:
        findings = examine(conn, uri, workers=workers)
    needs_action = any(finding.level == "action" for finding in findings)
    if as_json:
        report = {"uri": str(uri), "healthy": not needs_action, "findings": map(asdict, findings)}
        click.echo(json.dumps(report, indent=2, default=list))
    else:
        _print(uri, findings)
    if needs_action:
        ctx.exit(NEEDS_ACTION)


def _print(uri: DatabaseURI, findings: list[Finding]) -> None:
    console = Console(highlight=False)
    console.print(str(uri), soft_wrap=True, markup=False)
    table = Table(show_lines=True)
    for name in ("check", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("found", "what to do"):
        table.add_column(name)
    for finding in findings:
        state = Text(finding.level, _STYLES[finding.level])
        table.add_row(finding.check, state, Text(finding.found), Text(finding.advice))
    console.print(table)
