"""`drift record`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mlflow_timescale.cli.kit import (
    calendar_option,
    database_option,
    print_message,
    rehearsal_option,
    strategy_option,
)
from mlflow_timescale.db import DatabaseURI

# Written out: the module that defines the columns loads numpy.
COLUMNS = {
    "entity_key": "the entities",
    "session": "the sessions",
    "event_time": "the event times",
    "signal_time": "the times at which the signals were made",
    "signal": "the signals",
    "value": "the returns",
    "horizon": "the horizons in sessions",
    "known_at": "the times at which the returns became known",
    "signal_name": "the names of the signals",
    "model_name": "the models",
    "model_version": "the versions of the models",
    "group": "the groups",
}


def column_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--entity-column, --session-column, ...: the columns that have other names in the file."""
    for name, text in reversed(COLUMNS.items()):
        flag = name.removesuffix("_key").replace("_", "-")
        option = click.option(
            f"--{flag}-column",
            name,
            default=name,
            show_default=True,
            metavar="NAME",
            help=f"Column of {text}.",
        )
        command = option(command)
    return command


@click.command()
@database_option
@strategy_option()
@calendar_option
@column_options
@click.argument("what", type=click.Choice(["predictions", "returns", "strategy-returns"]))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@rehearsal_option
def record(
    uri: DatabaseURI,
    strategy: str,
    calendar: str | None,
    what: str,
    file: Path,
    **columns: str,
) -> None:
    """Record predictions or returns from a CSV or Parquet FILE.

    WHAT is in the file: predictions have the columns entity_key, signal, and signal_time or
    session, optionally horizon, model_name, model_version, signal_name, group. Returns: entity_key,
    session, value; optionally horizon, known_at. Strategy returns: session, value; optionally
    known_at. The first record creates the strategy, on the calendar XNYS if none is given.
    """
    from ..monitor import DriftMonitor

    monitor = DriftMonitor(uri, strategy, calendar=calendar)
    names = {name: other for name, other in columns.items() if other != name}
    recorders: dict[str, Callable[..., int]] = {
        "predictions": monitor.record_predictions,
        "returns": monitor.record_returns,
        "strategy-returns": monitor.record_strategy_returns,
    }
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always", UserWarning)
        added = recorders[what](file, columns=names)
    print_message(f"{added} new rows")
    for warning in raised:
        print_message(f"Warning: {warning.message}", style="yellow", stderr=True)
