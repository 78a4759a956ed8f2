"""The commands of `mlflow-timescale`, as click knows them."""

from __future__ import annotations

from collections.abc import Iterator

import click

from mlflow_timescale.cli import cli


def leaves(group: click.Group = cli, words: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that is no group, with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, f"{words}{name} ")
        else:
            yield f"{words}{name}", command
