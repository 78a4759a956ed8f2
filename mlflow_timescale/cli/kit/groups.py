"""Groups of commands that import a command's module when it is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from mlflow_timescale.common import packages


class LazyGroup(click.Group):
    """A group whose commands are given as "module:attribute".

    Parameters
    ----------
    lazy
        From a command's name to where it is defined.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name].partition(":")
        command: click.Command = getattr(packages.load(module), attribute)
        return command
