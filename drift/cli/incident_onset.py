"""`incident onset`, and its older name `drift onset`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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
from mlflow_timescale.db import DatabaseURI

from .answers import show, write
from .monitors import only_strategy, open_monitor

if TYPE_CHECKING:
    from ..incidents.onset import Decay


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
    if decay is not None:
        write(output, lambda: _picture(decay))
        show(decay, as_json, output)
    elif as_json:
        print_json(None)
    else:
        print_message("The IC has not left its accepted level.")
    exit_with(Exit.NO if decay is not None and decay.recovered is None else Exit.OK)


def _picture(decay: Decay) -> bytes:
    from ..incidents.picture import onset_picture  # loads matplotlib

    return onset_picture(decay)
