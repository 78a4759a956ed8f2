"""`mlflow-timescale daily`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import click

from mlflow_timescale.cli.kit import (
    Duration,
    database_option,
    exit_with,
    json_option,
    mlflow_option,
    print_json,
    rehearsal_option,
    session_option,
    strategy_option,
)
from mlflow_timescale.common.settings import ON_ALERT
from mlflow_timescale.db import DatabaseURI

from .monitors import require_strategies


def _command(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """A command, quoted as in a shell."""
    try:
        arguments = None if text is None else shlex.split(text)
    except ValueError as exc:
        raise click.BadParameter(f"{text!r}: {exc}") from exc
    if arguments == []:
        raise click.BadParameter("the command is empty")
    return text


@click.command()
@database_option
@strategy_option(multiple=True)
@session_option("the last one closed")
@click.option(
    "--on-alert",
    metavar="COMMAND",
    callback=_command,
    help="Run COMMAND for every message on alerts, without a shell.",
)
@click.option(
    "--on-alert-limit",
    type=Duration(),
    default="60s",
    show_default=True,
    help="End COMMAND after this time.",
)
@mlflow_option
@rehearsal_option
@json_option
def daily(
    uri: DatabaseURI,
    strategies: Sequence[str],
    session: date | None,
    on_alert: str | None,
    on_alert_limit: timedelta,
    mlflow: bool,
    as_json: bool,
) -> None:
    """Check every strategy: features, model, drift, decision.

    For cron, after the close and the feature jobs, with the path of the program (docs/drift.md):
    `30 22 * * 1-5  /opt/venv/bin/mlflow-timescale daily`. Exit code of the worst strategy, 1: it
    could not be checked; 4: an alert is open; 3: only a feature is stale.
    """
    from ..alerts import commands
    from ..daily import daily_job
    from . import daily_results

    require_strategies(uri)
    options: dict[str, Any] = {} if mlflow else {"tracking_uri": False}
    if command := on_alert or ON_ALERT.get():
        options["on_alert"] = commands.target(command, on_alert_limit.total_seconds())
    results = daily_job(uri, list(strategies) or None, session=session, **options)
    if as_json:
        print_json([daily_results.as_json(result) for result in results])
    else:
        daily_results.print_results(results)
    exit_with(daily_results.exit_code(results))
