"""`incident explain`."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_timescale.cli.kit import (
    Cell,
    Day,
    Exit,
    database_option,
    exit_with,
    json_option,
    mlflow_option,
    output_option,
    print_json,
    print_message,
    print_table,
    strategy_option,
)
from mlflow_timescale.db import DatabaseURI

from .answers import print_written, write
from .monitors import only_strategy, open_monitor

if TYPE_CHECKING:
    from ..incidents.chapters import Chapter, Listing
    from ..incidents.explanation import Explanation

STYLES = {"ok": "green", "warning": "yellow"}


@click.command()
@database_option
@strategy_option(only=True)
@click.argument("start", type=Day(), required=False)
@click.argument("end", type=Day(), required=False)
@mlflow_option
@output_option()
@json_option
def explain(
    uri: DatabaseURI,
    strategy: str | None,
    start: date | None,
    end: date | None,
    output: Path | None,
    mlflow: bool,
    as_json: bool,
) -> None:
    """Explain what is wrong, since when, why, and what to decide.

    One date is the last session to look at, by default the last one; START and END are a range.
    The file is an HTML page, which also becomes an artifact of the strategy's MLflow run. Exit
    code 3: something is wrong in the last session.
    """
    monitor = open_monitor(uri, only_strategy(uri, strategy), mlflow=mlflow)
    first, last = (start, end) if end is not None else (None, start)
    explanation = monitor.explain(first, last)
    write(output, lambda: explanation.html().encode())
    if as_json:
        print_json(explanation.to_dict())
    else:
        _print(explanation)
        print_written(output)
    exit_with(Exit.OK if explanation.status == "ok" else Exit.NO)


def _print(explanation: Explanation) -> None:
    style = STYLES.get(explanation.status, "red")
    print_message(explanation.title, style=f"bold {style}")
    print_message(explanation.range_text)
    for chapter in explanation.chapters:
        _print_chapter(chapter)


def _print_chapter(chapter: Chapter) -> None:
    print_message("")
    print_message(chapter.title, style="bold")
    for line in chapter.sentences:
        print_message(line)
    for listing in chapter.listings:
        _print_listing(listing)
    for line in (*chapter.decided(), *chapter.notes):
        print_message(line)


def _print_listing(listing: Listing) -> None:
    if listing.caption:
        print_message(listing.caption)
    rows = [
        [Cell(text, "red" if row in listing.loud and not column else "") for column, text in line]
        for row, line in enumerate(map(enumerate, listing.rows))
    ]
    print_table(listing.header, rows)
