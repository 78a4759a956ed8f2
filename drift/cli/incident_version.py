"""`incident version`."""

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
    output_option,
    strategy_option,
)
from mlflow_timescale.db import DatabaseURI

from .answers import show, write
from .monitors import only_strategy, open_monitor

if TYPE_CHECKING:
    from ..incidents.versions import ServedVersions


@click.command()
@database_option
@strategy_option(only=True)
@click.argument("start", type=Day(), required=False)
@click.argument("end", type=Day(), required=False)
@click.option(
    "--alias", metavar="NAME", help="Alias to compare with; default: that of Serving, or champion."
)
@output_option()
@json_option
def version(
    uri: DatabaseURI,
    strategy: str | None,
    start: date | None,
    end: date | None,
    alias: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Show which model version served, beside the version of its alias.

    From START to END, by default the last session with predictions. The file is a picture (PNG).
    Exit code 3: another version served than the alias pointed at.
    """
    monitor = open_monitor(uri, only_strategy(uri, strategy))
    result = monitor.served_versions(start, end, alias=alias)
    write(output, lambda: _picture(result))
    show(result, as_json, output, style=lambda line: "red" if "<- DIFFERS" in line else "")
    exit_with(Exit.OK if result.agrees else Exit.NO)


def _picture(result: ServedVersions) -> bytes:
    from ..incidents.picture import versions_picture  # loads matplotlib

    return versions_picture(result)
