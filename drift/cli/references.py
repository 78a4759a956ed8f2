"""`drift accept | onset`: the accepted level, and when the IC left it."""

from __future__ import annotations

from datetime import date

import click

from mlflow_timescale.cli.kit import (
    Day,
    by_option,
    database_option,
    json_option,
    print_json,
    print_message,
    reason_option,
    rehearsal_option,
    strategy_option,
)
from mlflow_timescale.db import DatabaseURI

from .monitors import open_monitor


@click.command()
@database_option
@strategy_option()
@click.argument("start", type=Day())
@click.argument("end", type=Day())
@click.option(
    "--min-sessions", default=120, show_default=True, help="Sessions with an IC that are required."
)
@click.option(
    "--feature-values",
    "features",
    type=click.Choice(["raw", "ranked"]),
    help="Compare values, or ranks across names; default: as before.",
)
@reason_option
@by_option
@rehearsal_option
def accept(
    uri: DatabaseURI,
    strategy: str,
    start: date,
    end: date,
    min_sessions: int,
    features: str | None,
    reason: str,
    by: str,
) -> None:
    """Accept the sessions from START to END as the reference."""
    monitor = open_monitor(uri, strategy)
    if features is not None:
        monitor.configure(features=features, create=False)
    version = monitor.accept(start, end, reason, accepted_by=by, min_sessions=min_sessions)
    print_message(f"reference {version} accepted: {start} to {end}")


@click.command()
@database_option
@strategy_option()
@json_option
def onset(uri: DatabaseURI, strategy: str, as_json: bool) -> None:
    """Estimate when the IC began to fall, with a 95% interval."""
    estimate = open_monitor(uri, strategy).onset()
    if estimate is None:
        if as_json:
            print_json(None)
        else:
            print_message("The IC has not left its accepted level.")
        return
    fall, sessions = estimate
    start, low, high, alarm = (sessions[i] for i in (fall.index, fall.low, fall.high, fall.alarm))
    if as_json:
        names = ("onset", "low", "high", "alarm", "before", "after")
        values = (start, low, high, alarm, fall.before, fall.after)
        print_json(dict(zip(names, values, strict=True)))
        return
    print_message(
        f"The IC began to fall on {start} (95% interval {low} to {high}); alarm on {alarm}."
    )
    period = "since" if fall.until is None else f"until it recovered by {sessions[fall.until]}"
    print_message(f"Mean IC {fall.before:.4f} before, {fall.after:.4f} {period}.")
