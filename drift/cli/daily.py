"""`mlflow-timescale daily`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import click

from mlflow_timescale.cli.kit import (
    Exit,
    database_option,
    exit_with,
    json_option,
    mlflow_option,
    print_json,
    print_message,
    print_table,
    session_option,
    strategy_option,
)
from mlflow_timescale.db import DatabaseURI

from .tables import metric_rows, metrics_json

if TYPE_CHECKING:
    from ..daily import Daily


@click.command()
@database_option
@strategy_option(multiple=True)
@session_option("the last one closed")
@mlflow_option
@json_option
def daily(
    uri: DatabaseURI,
    strategies: Sequence[str],
    session: date | None,
    mlflow: bool,
    as_json: bool,
) -> None:
    """Check every strategy: features, model, drift, decision.

    For cron, after the close and the feature jobs: `30 22 * * 1-5  mlflow-timescale daily`. Exit
    code 4: an alert is open; 3: only a feature is stale.
    """
    from ..daily import daily_job

    options: dict[str, Any] = {} if mlflow else {"tracking_uri": False}
    results = daily_job(uri, list(strategies) or None, session=session, **options)
    if as_json:
        print_json([_json(result) for result in results])
    else:
        for result in results:
            print_message(f"{result.strategy_id} {result.session}", style="bold")
            print_table(("", "", ""), list(_rows(result)))
    exit_with(_exit_code(results))


def _exit_code(results: Sequence[Daily]) -> Exit:
    if any(result.alerts for result in results):
        return Exit.ALERT
    return Exit.OK if all(result.healthy for result in results) else Exit.NO


def _rows(result: Daily) -> Iterator[tuple[str, str, str]]:
    fresh = sum(not feature.is_stale for feature in result.features)
    yield "features", f"{fresh} of {len(result.features)} fresh", _stale(result)
    model = f"{result.model.name} {result.model.version}".strip() or "unknown"
    yield "model", model, result.model.note or _registered(result)
    yield from metric_rows(result.metrics)
    for index, line in enumerate(result.decision):
        yield "" if index else "decision", line, ""


def _stale(result: Daily) -> str:
    return ", ".join(
        f"{f.feature_name} since {f.event_time:%Y-%m-%d}" if f.event_time else f.feature_name
        for f in result.features
        if f.is_stale
    )


def _registered(result: Daily) -> str:
    created = f"created {result.model.created:%Y-%m-%d}" if result.model.created else ""
    return ", ".join([created, *(f"@{alias}" for alias in result.model.aliases)])


def _json(result: Daily) -> dict[str, Any]:
    return {
        "strategy_id": result.strategy_id,
        "session": result.session,
        "healthy": result.healthy,
        "features": [feature.to_dict() for feature in result.features],
        "model": result.model,
        "metrics": metrics_json(result.metrics),
        "alerts": result.alerts,
        "decision": result.decision,
    }
