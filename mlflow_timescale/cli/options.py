"""Options that several commands share, and what they print on."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from mlflow_timescale.common.settings import URI, embedded_directory
from mlflow_timescale.db.uri import DatabaseURI

if TYPE_CHECKING:
    _ParamType = click.ParamType[DatabaseURI]
else:  # older versions of click have no type parameter
    _ParamType = click.ParamType


class URIType(_ParamType):
    """A database URI, checked when the command line is read."""

    name = "URI"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> DatabaseURI:
        try:
            return DatabaseURI.parse(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


def default_uri() -> DatabaseURI:
    """MLFLOW_TIMESCALE_URI, else MLFLOW_TRACKING_URI if it names a database, else embedded."""
    for given in (URI.get() or "", os.environ.get("MLFLOW_TRACKING_URI", "")):
        if given.startswith(("postgresql", "postgres:", "timescaledb")):
            return DatabaseURI.parse(given)
    return DatabaseURI("mlflow", embedded=embedded_directory())


def _enter_workspace(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value:
        import mlflow
        from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES

        MLFLOW_ENABLE_WORKSPACES.set(True)
        mlflow.set_workspace(value)


workspace_option = click.option(
    "--workspace",
    expose_value=False,
    callback=_enter_workspace,
    help="The workspace of the model; else MLflow's active one.",
)
uri_option = click.option(
    "--uri",
    type=URIType(),
    default=default_uri,
    show_default="MLFLOW_TIMESCALE_URI, else the embedded database",
    help="The database: postgresql+timescaledb://user:password@host:5432/database.",
)


def console() -> Console:
    """As wide as the terminal; cron and pipes have no width, and no table is folded there."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)
