"""`mlflow-timescale doctor`."""

from __future__ import annotations

import click

from mlflow_timescale import db
from mlflow_timescale.cli.kit import (
    Cell,
    Exit,
    database_option,
    exit_with,
    json_option,
    print_json,
    print_message,
    print_table,
)
from mlflow_timescale.db.uri import DatabaseURI

_STYLES = {"ok": "green", "note": "yellow", "action": "bold red"}


@click.command()
@database_option
@click.option(
    "--workers",
    default=4,
    show_default=True,
    envvar="MLFLOW_WORKERS",
    help="Worker processes; how many `mlflow server` starts.",
)
@json_option
def doctor(uri: DatabaseURI, workers: int, as_json: bool) -> None:
    """Check a database: server, schema, indexes, sizes, connections.

    Nothing is changed. Exit code 3: something has to be done.
    """
    from mlflow_timescale.operations.doctor import examine

    with db.connect(uri, autocommit=True) as conn:
        findings = examine(conn, uri, workers=workers)
    healthy = all(finding.level != "action" for finding in findings)
    if as_json:
        print_json({"uri": str(uri), "healthy": healthy, "findings": findings})
    else:
        print_message(str(uri))
        rows = [
            (item.check, Cell(item.level, _STYLES[item.level]), item.found, item.advice)
            for item in findings
        ]
        print_table(("check", "state", "found", "what to do"), rows)
    exit_with(Exit.OK if healthy else Exit.NO)
