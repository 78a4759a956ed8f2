"""`drift run | backfill | status | report`: computing sessions and showing them."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_timescale.cli.kit import (
    Day,
    Exit,
    database_option,
    exit_with,
    json_option,
    mlflow_option,
    output_option,
    print_json,
    print_message,
    rehearsal_option,
    session_option,
    strategy_option,
)
from mlflow_timescale.common.output_files import replacing
from mlflow_timescale.db import DatabaseURI, Error

from .monitors import open_monitor
from .tables import (
    headroom_json,
    metrics_json,
    print_alerts,
    print_handled,
    print_metrics,
    served,
)

if TYPE_CHECKING:
    from ..monitor import DriftMonitor
    from ..results.drift_metrics import DriftMetrics


@click.command()
@database_option
@strategy_option()
@session_option("the last one closed")
@mlflow_option
@rehearsal_option
@json_option
def run(uri: DatabaseURI, strategy: str, session: date | None, mlflow: bool, as_json: bool) -> None:
    """Compute a session, send alerts, log to MLflow; run it daily.

    Exit code 4: an alert is open.
    """
    monitor = open_monitor(uri, strategy, mlflow=mlflow)
    _show(monitor, monitor.run_daily(session), as_json)


@click.command()
@database_option
@strategy_option()
@click.argument("start", type=Day())
@click.argument("end", type=Day())
@click.option("--notify", is_flag=True, help="Send messages for the alerts.")
@click.option("--reports", is_flag=True, help="Draw pictures for every session, not only the last.")
@mlflow_option
@rehearsal_option
def backfill(
    uri: DatabaseURI,
    strategy: str,
    start: date,
    end: date,
    notify: bool,
    reports: bool,
    mlflow: bool,
) -> None:
    """Compute the sessions from START to END, from today's data."""
    monitor = open_monitor(uri, strategy, mlflow=mlflow)
    sessions = monitor.backfill(start, end, notify=notify, reports=reports)
    with_ic = sum(metrics.ic is not None for metrics in sessions)
    print_message(f"{len(sessions)} sessions computed, {with_ic} with an IC")


@click.command()
@database_option
@strategy_option()
@json_option
def status(uri: DatabaseURI, strategy: str, as_json: bool) -> None:
    """Show the last computed session and the open alerts.

    Exit code 4: an alert is open.
    """
    monitor = open_monitor(uri, strategy)
    last = monitor.last_session()
    if last is None:
        raise Error(f"no session of {strategy!r} has been computed yet; use `drift run`")
    _show(monitor, monitor.metrics(last, last)[0], as_json)


@click.command()
@database_option
@strategy_option()
@session_option("the last one computed")
@output_option(required=True)
def report(uri: DatabaseURI, strategy: str, session: date | None, output: Path) -> None:
    """Write a session's report as one HTML file."""
    page = open_monitor(uri, strategy).report(session)
    with replacing(output) as file:
        file.write_text(page, encoding="utf-8")
    print_message(f"wrote {output}")


def _show(monitor: DriftMonitor, metrics: DriftMetrics, as_json: bool) -> None:
    alerts, rooms = metrics.alerts, monitor.headroom(metrics.date)
    if as_json:
        content = {"limits": headroom_json(rooms), "cautions": monitor.cautions()}
        print_json(
            {**metrics_json(metrics), **content, "alerts": alerts, "handled": metrics.handled}
        )
    else:
        print_message(f"{monitor.strategy_id} {metrics.date}{served(metrics, monitor.champion())}")
        print_metrics(metrics, rooms, monitor.last_known(metrics))
        for caution in monitor.cautions():
            print_message(f"Caution: {caution}", style="yellow")
        print_alerts(alerts, none="No open alerts.")
        print_handled(metrics.handled)
    exit_with(Exit.ALERT if alerts else Exit.OK)
