"""`incident onset`, and its older name `drift onset`."""

from __future__ import annotations

import click

from mlflow_timescale.cli.kit import (
    Exit,
    database_option,
    exit_with,
    json_option,
    print_json,
    print_message,
    strategy_option,
)
from mlflow_timescale.db import DatabaseURI

from .monitors import only_strategy, open_monitor


@click.command()
@database_option
@strategy_option(only=True)
@json_option
def onset(uri: DatabaseURI, strategy: str | None, as_json: bool) -> None:
    """Estimate when the IC began to fall, and show what changed then.

    With a 95% interval, the inputs that moved first, and everything that changed near that session.
    Exit code 3: the IC has fallen, and is not back.
    """
    decay = open_monitor(uri, only_strategy(uri, strategy)).onset()
    if as_json:
        print_json(None if decay is None else decay.to_dict())
    elif decay is None:
        print_message("The IC has not left its accepted level.")
    else:
        for line in decay.lines():
            print_message(line)
    exit_with(Exit.NO if decay is not None and decay.recovered is None else Exit.OK)
