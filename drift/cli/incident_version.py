"""`incident version`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Any

import click

from mlflow_timescale.cli.kit import (
    Cell,
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

if TYPE_CHECKING:
    from ..incidents.versions import ServedInterval, ServedVersions


@click.command()
@database_option
@strategy_option(only=True)
@click.argument("start", type=Day(), required=False)
@click.argument("end", type=Day(), required=False)
@click.option(
    "--alias", metavar="NAME", help="Alias to compare with; default: that of Serving, or champion."
)
@json_option
def version(
    uri: DatabaseURI,
    strategy: str | None,
    start: date | None,
    end: date | None,
    alias: str | None,
    as_json: bool,
) -> None:
    """Show which model version served, beside the version of its alias.

    From START to END, by default the last session with predictions. Exit code 3: another version
    served than the alias pointed at.
    """
    monitor = open_monitor(uri, only_strategy(uri, strategy))
    result = monitor.served_versions(start, end, alias=alias)
    if as_json:
        print_json(result.to_dict())
    else:
        _print(result)
    exit_with(Exit.OK if result.agrees else Exit.NO)


def _print(result: ServedVersions) -> None:
    if result.intervals:
        header: tuple[str, ...] = (
            "served",
            "from",
            "to",
            "sessions",
            result.alias,
            "mean IC",
            "beside",
        )
        rows = list(_rows(result.intervals))
        if not any(row[-1] for row in rows):
            header, rows = header[:-1], [row[:-1] for row in rows]
        print_table(header, rows)
    for line in result.lines():
        print_message(line)


def _rows(intervals: tuple[ServedInterval, ...]) -> Iterator[tuple[Any, ...]]:
    for part in intervals:
        is_wrong = part.verdict == "differs"
        alias = part.verdict if part.alias_version is None else str(part.alias_version)
        yield (
            Cell(part.served or "no name", "red" if is_wrong else ""),
            part.first,
            part.last,
            part.sessions,
            Cell(f"{alias}  <- DIFFERS" if is_wrong else alias, "red" if is_wrong else ""),
            "" if part.mean_ic is None else f"{part.mean_ic:+.3f}",
            ", ".join(part.beside),
        )
