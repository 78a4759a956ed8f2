"""`incident replay`."""

from __future__ import annotations

from datetime import date, datetime

import click

from mlflow_timescale.cli.kit import (
    Exit,
    When,
    database_option,
    exit_with,
    json_option,
)
from mlflow_timescale.db import DatabaseURI

from .answers import show
from .monitors import open_monitor


@click.command()
@database_option
@click.argument("strategy")
@click.argument("entity")
@click.argument("at", type=When(), required=False)
@click.option("--model", metavar="URI", help="Version to run; default: the one that served.")
@click.option(
    "--version", metavar="TEXT", help="Prediction of this version; default: the judged one."
)
@click.option("--column", metavar="NAME", help="Column of the output that is the prediction.")
@click.option("--whole-request", is_flag=True, help="Run the model on the whole request, too.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=1e-9,
    show_default=True,
    help="Relative difference of the output that agrees.",
)
@json_option
def replay(
    uri: DatabaseURI,
    strategy: str,
    entity: str,
    at: datetime | date | None,
    model: str | None,
    version: str | None,
    column: str | None,
    whole_request: bool,
    tolerance: float,
    as_json: bool,
) -> None:
    """Make a recorded prediction again, with the model that served.

    The last prediction of ENTITY by STRATEGY up to AT, a time; in session AT, a date; or of all.
    Exit code 3: the model gives another output, or cannot be run, with the reason.
    """
    result = open_monitor(uri, strategy).replay(
        entity,
        at,
        tolerance=tolerance,
        model=model,
        version=version,
        column=column,
        whole_request=whole_request,
    )
    show(result, as_json)
    exit_with(Exit.OK if result.agrees else Exit.NO)
