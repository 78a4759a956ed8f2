"""`mlflow-timescale reproduce`."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from mlflow_timescale.cli.kit import (
    Cell,
    Exit,
    database_option,
    exit_with,
    json_option,
    print_json,
    print_message,
    print_table,
    yes_option,
)
from mlflow_timescale.db.uri import DatabaseURI

if TYPE_CHECKING:
    from mlflow_timescale.operations.reproduce import Context
    from mlflow_timescale.operations.reproduce_rerun import Rerun

STYLES = {"yes": "green", "no": "red", "unknown": "yellow"}


@click.command()
@database_option
@click.argument("run_id", metavar="RUN")
@click.option("--check", is_flag=True, help="Rebuild the training set, too, and compare it.")
@click.option("--rerun", is_flag=True, help="With --check: train again and compare the metrics.")
@click.option("--command", "entry_point", help="Entry point of --rerun; default: the recorded one.")
@click.option(
    "--metric-tolerance",
    "tolerance",
    type=click.FloatRange(min=0),
    default=1e-6,
    show_default=True,
    help="Relative difference within which metrics agree.",
)
@yes_option
@json_option
def reproduce(
    uri: DatabaseURI,
    run_id: str,
    check: bool,
    rerun: bool,
    entry_point: str | None,
    tolerance: float,
    yes: bool,
    as_json: bool,
) -> None:
    """Check whether RUN can be repeated, and what is missing.

    RUN is the id of a run, or a model version: NAME/3 or NAME@ALIAS.

    Artifacts and feature snapshots are read again and compared with their fingerprints. With
    --check each row is yes, no or unknown, and the training set is read from the database again,
    as it was known then. Exit code 3: something is missing or differs.
    """
    if rerun and not check:
        raise click.UsageError("--rerun belongs to --check")
    if check:
        again = _rerun(entry_point, yes=yes, as_json=as_json) if rerun else None
        _check(uri, run_id, again, tolerance, as_json)
    from mlflow_timescale.operations.reproduce import checklist

    items = checklist(uri, run_id)
    if as_json:
        print_json(items)
    else:
        rows = [
            (
                Cell("yes", "green") if item.holds else Cell("no", "red"),
                item.name,
                item.recorded,
                item.missing,
            )
            for item in items
        ]
        print_table(("", "item", "recorded", "missing"), rows)
    exit_with(Exit.OK if all(item.holds for item in items) else Exit.NO)


def _check(
    uri: DatabaseURI,
    run_id: str,
    again: Callable[[Context], Rerun] | None,
    tolerance: float,
    as_json: bool,
) -> None:
    """Print the six answers, and end the command."""
    from mlflow_timescale.operations.reproduce_check import YES, answers

    rows = answers(uri, run_id, rerun=again, tolerance=tolerance)
    if as_json:
        print_json(rows)
    else:
        table = [
            (Cell(row.answer, STYLES[row.answer]), row.name, row.evidence, row.remedy)
            for row in rows
        ]
        print_table(("", "item", "evidence", "what to do"), table)
    exit_with(Exit.OK if all(row.answer == YES for row in rows) else Exit.NO)


def _rerun(entry_point: str | None, *, yes: bool, as_json: bool) -> Callable[[Context], Rerun]:
    """Trains again, after a person has seen the command: a run can record any command."""

    def run(context: Context) -> Rerun:
        from mlflow_timescale.operations import reproduce_rerun

        command = (
            shlex.split(entry_point) if entry_point else reproduce_rerun.recorded_command(context)
        )
        if command and not yes:
            print_message(f"To run: {shlex.join(command)}", stderr=True)
            click.confirm("Run it?", abort=True, err=as_json)
        return reproduce_rerun.run_again(context, command)

    return run
