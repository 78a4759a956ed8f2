"""`mlflow-timescale qlib online`: the recorders that were online at a time."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_timescale.cli.kit import (
    Exit,
    Moment,
    database_option,
    exit_with,
    json_option,
    output_option,
    print_json,
    print_message,
)
from mlflow_timescale.common.time import format_second
from mlflow_timescale.db.uri import DatabaseURI

if TYPE_CHECKING:
    from mlflow_timescale.operations.qlib_online import OnlineAnswer


@click.command()
@click.argument("experiment")
@database_option
@click.option("--at", "moment", type=Moment(), help="As of this time; default: now.")
@click.option(
    "--path", default="pred.pkl", show_default=True, help="The artifact with the predictions."
)
@output_option()
@json_option
def online(
    experiment: str,
    uri: DatabaseURI,
    moment: datetime | None,
    path: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Show which recorders were online at a time, and what has changed.

    The command lists the recorders of EXPERIMENT whose tag online_status was online, by its
    history, with their predictions as of that time, and the sessions in which the present
    predictions differ. -o writes the predictions as of that time as .csv or .parquet. Exit code 3:
    the history does not reach back, or the past has changed, or cannot be compared.
    """
    from mlflow_timescale.operations.qlib_online import qlib_online

    suffix = output.suffix if output else ".csv"
    if suffix not in (".csv", ".parquet"):
        raise click.BadParameter(f"{output}: end it with .csv or .parquet", param_hint="--output")
    answer = qlib_online(uri, experiment, moment or datetime.now(timezone.utc), path=path)
    if output is not None:
        _write(answer, output)
    if as_json:
        print_json(answer.as_dict())
    else:
        _print(answer, output)
    is_unchanged = all(recorder.past_changed is False for recorder in answer.recorders)
    exit_with(Exit.OK if is_unchanged and not answer.unknown else Exit.NO)


def _write(answer: OnlineAnswer, output: Path) -> None:
    from pyarrow import csv, parquet

    from mlflow_timescale.common.frames import without_formulas
    from mlflow_timescale.common.output_files import replacing

    table = answer.table()
    with replacing(output) as draft:
        if output.suffix == ".csv":
            csv.write_csv(without_formulas(table)[0], draft)
        else:
            parquet.write_table(table, draft)


def _print(answer: OnlineAnswer, output: Path | None) -> None:
    from mlflow_timescale.operations.qlib_online import summary

    when = format_second(answer.moment)
    if answer.unknown:
        recorded = "; the last record follows" if answer.recorders else ""
        print_message(f"not known for {when}: {answer.unknown}{recorded}", style="yellow")
    if not answer.recorders and not answer.unknown:
        print_message(f"nothing was online in {answer.experiment} at {when}")
    for recorder in answer.recorders:
        state = recorder.state
        since = format_second(state.valid_from)
        until = f"until {format_second(state.valid_to)}" if state.valid_to else "and still is"
        print_message(
            f"{recorder.run_id} {recorder.name}: online since {since} {until}, marked by {state.by}"
        )
        style = "red" if recorder.changes else "yellow" if recorder.problem else ""
        for line in summary(recorder):
            print_message(f"  {line}", style=style)
    if output is not None:
        print_message(f"{output}: {answer.table().num_rows:,} predictions of then")
