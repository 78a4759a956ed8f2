"""`incident skew`."""

from __future__ import annotations

from datetime import date

import click

from mlflow_timescale.cli.kit import (
    Day,
    Exit,
    database_option,
    exit_with,
    json_option,
    print_json,
    print_message,
    print_table,
    strategy_option,
)
from mlflow_timescale.db import DatabaseURI

from .monitors import only_strategy, open_monitor


@click.command()
@database_option
@strategy_option(only=True)
@click.argument("start", type=Day(), required=False)
@click.argument("end", type=Day(), required=False)
@click.option(
    "--research",
    help="File or table of the database with the right values; default: the feature store.",
)
@click.option(
    "--tolerance", type=float, help="Relative, for values of the caller's own code; default: 1e-9."
)
@json_option
def skew(
    uri: DatabaseURI,
    strategy: str | None,
    start: date | None,
    end: date | None,
    research: str | None,
    tolerance: float | None,
    as_json: bool,
) -> None:
    """Compare served features with research, and explain what differs.

    From START to END, by default the last session that was served. Exit code 3: served values
    differ from research. A file or table has the columns entity_key, session (or as_of) and the
    features; those that it does not have are compared with the feature store.
    """
    from . import skew_results

    monitor = open_monitor(uri, only_strategy(uri, strategy))
    first, last = skew_results.span(monitor, start, end)
    result = monitor.reconcile(
        first,
        last,
        research=None if research is None else {"*": research},
        tolerances=None if tolerance is None else {"*": tolerance},
    )
    alert = skew_results.first_alert(monitor, result)
    if as_json:
        print_json(skew_results.as_json(result, alert))
    else:
        print_message(skew_results.title(result), style="bold")
        header = ("feature", "matches", "since", "diagnosis")
        print_table(header, list(skew_results.rows(result)))
        for line in skew_results.summary(result, alert):
            print_message(line)
    exit_with(Exit.OK if result.agrees else Exit.NO)
