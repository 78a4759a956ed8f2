"""`mlflow-timescale daily`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import click

from mlflow_timescale.cli.kit import (
    database_option,
    exit_with,
    json_option,
    mlflow_option,
    print_json,
    rehearsal_option,
    session_option,
    strategy_option,
)
from mlflow_timescale.db import DatabaseURI

from .monitors import require_strategies


@click.command()
@database_option
@strategy_option(multiple=True)
@session_option("the last one closed")
@mlflow_option
@rehearsal_option
@json_option
def daily(
    uri: DatabaseURI,
    strategies: Sequence[str],
    session: date | None,
    mlflow: bool,
    as_json: bool,
) -> None:
    """Check every strategy: features, model, drift, decision.

    For cron, after the close and the feature jobs, with the path of the program (docs/drift.md):
    `30 22 * * 1-5  /opt/venv/bin/mlflow-timescale daily`. Exit code of the worst strategy, 1: it
    could not be checked; 4: an alert is open; 3: only a feature is stale.
    """
    from ..daily import daily_job
    from . import daily_results

    require_strategies(uri)
    options: dict[str, Any] = {} if mlflow else {"tracking_uri": False}
    results = daily_job(uri, list(strategies) or None, session=session, **options)
    if as_json:
        print_json([daily_results.as_json(result) for result in results])
    else:
        daily_results.print_results(results)
    exit_with(daily_results.exit_code(results))
