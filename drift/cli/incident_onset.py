"""`incident onset`, and its older name `drift onset`."""

from __future__ import annotations

from pathlib import Path

import click

from mlflow_timescale.cli.kit import (
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
@output_option()
@json_option
def onset(uri: DatabaseURI, strategy: str | None, output: Path | None, as_json: bool) -> None:
    """Estimate when the IC began to fall, and show what changed then.

    With a 95% interval, the inputs that moved first, and everything that changed near that session.
    The file is a picture (PNG). Exit code 3: the IC has fallen, and is not back.
    """
    decay = open_monitor(uri, only_strategy(uri, strategy)).onset()
    if decay is not None and output is not None:
        from ..incidents.picture import onset_picture  # loads matplotlib

        with replacing(output) as file:
            file.write_bytes(onset_picture(decay))
    if as_json:
        print_json(None if decay is None else decay.to_dict())
    elif decay is None:
        print_message("The IC has not left its accepted level.")
    else:
        for line in decay.lines():
            print_message(line)
        if output is not None:
            print_message(f"wrote {output}")
    exit_with(Exit.NO if decay is not None and decay.recovered is None else Exit.OK)
