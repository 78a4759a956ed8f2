"""`incident version`."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import click

from mlflow_timescale.cli.kit import (
    Day,
    Exit,
    database_option,
    exit_with,
    json_option,
    output_option,
    print_json,
    print_message,
    strategy_option,
)
from mlflow_timescale.common.output_files import replacing
from mlflow_timescale.db import DatabaseURI

from .monitors import only_strategy, open_monitor


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
    if output is not None:
        from ..incidents.picture import versions_picture  # loads matplotlib

        with replacing(output) as file:
            file.write_bytes(versions_picture(result))
    if as_json:
        print_json(result.to_dict())
    else:
        for line in result.lines():
            print_message(line, style="red" if "<- DIFFERS" in line else "")
        if output is not None:
            print_message(f"wrote {output}")
    exit_with(Exit.OK if result.agrees else Exit.NO)
