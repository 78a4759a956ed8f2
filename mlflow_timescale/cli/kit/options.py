"""The options that several commands share: one name, one short form, one help text each.

A help text may go on after ";" with what holds for one command only. On every command they stand
in one order: FIRST, then the command's own options, then LAST.
"""

from __future__ import annotations

import functools
import getpass
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mlflow_timescale.cli.kit.printing import print_message
from mlflow_timescale.cli.kit.servers import require_server
from mlflow_timescale.cli.kit.types import Age, Day, Moment, Names, URIType
from mlflow_timescale.common.settings import URI, embedded_directory
from mlflow_timescale.db.uri import DatabaseURI

FIRST = ("--uri", "--workspace", "--strategy", "--features", "--entity", "--as-of", "--session")
LAST = ("--reason", "--by", "--output", "--dry-run", "--yes", "--json")

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]


def default_uri() -> DatabaseURI:
    """MLFLOW_TIMESCALE_URI, else MLFLOW_TRACKING_URI if it names a database, else embedded."""
    for value in (URI.get() or "", os.environ.get("MLFLOW_TRACKING_URI", "")):
        if value.startswith(("postgresql", "postgres:", "timescaledb")):
            return DatabaseURI.parse(value)
    return DatabaseURI("mlflow", embedded=embedded_directory())


def _with(text: str, more: str) -> str:
    return f"{text}; {more}." if more else f"{text}."


uri_option = click.option(
    "--uri",
    type=URIType(),
    default=default_uri,
    show_default="MLFLOW_TIMESCALE_URI, else the embedded database",
    help="Database URI, such as postgresql+timescaledb://user@host/database.",
)


def database_option(command: Command) -> Command:
    """--uri, for a command that needs the server: it is checked before the command runs."""

    @functools.wraps(command)
    def with_server(*args: Any, uri: DatabaseURI, **kwargs: Any) -> Any:
        require_server(uri)
        return command(*args, uri=uri, **kwargs)

    return uri_option(with_server)


def workspace_option(command: Command) -> Command:
    """--workspace, entered before the command runs."""

    @functools.wraps(command)
    def in_workspace(*args: Any, workspace: str | None, **kwargs: Any) -> Any:
        if workspace:
            _enter_workspace(workspace)
        return command(*args, **kwargs)

    option = click.option(
        "--workspace", metavar="NAME", help="MLflow workspace; default: the active one."
    )
    return option(in_workspace)


def _enter_workspace(workspace: str) -> None:
    import mlflow
    from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES

    MLFLOW_ENABLE_WORKSPACES.set(True)
    mlflow.set_workspace(workspace)


def strategy_option(*, multiple: bool = False, only: bool = False) -> Decorator:
    """-s: one strategy, with `multiple` some of all, with `only` None for the only one."""
    default = None if multiple or only else "default"
    more = "may be repeated; default: all" if multiple else ""
    return click.option(
        "-s",
        "--strategy",
        "strategies" if multiple else "strategy",
        metavar="NAME",
        multiple=multiple,
        default=default,
        show_default=default is not None,
        help=_with("Strategy", "may be left out if there is only one" if only else more),
    )


def _names_option(*declarations: str, text: str, required: bool) -> Decorator:
    return click.option(
        *declarations,
        type=Names(),
        multiple=True,
        required=required,
        callback=lambda ctx, param, value: [name for names in value for name in names] or None,
        help=_with(text, "" if required else "default: all"),
    )


def features_option(*, required: bool = False) -> Decorator:
    """-f: a list of names; None if not given."""
    return _names_option(
        *("-f", "--features", "names"),
        text="Features, with commas between",
        required=required,
    )


def entity_option(command: Command) -> Command:
    """-e: a list of entities; None if not given."""
    option = _names_option(
        *("-e", "--entity", "entities"), text="Entities, with commas between", required=False
    )
    return option(command)


as_of_option = click.option(
    "--as-of", type=Moment(), help="Use what was known at this time; default: now."
)
max_age_option = click.option(
    "--max-age", type=Age(), help="Ignore values older than this: 5d, 4h, or 1 session."
)
calendar_option = click.option(
    "--calendar", metavar="NAME", help="Trading calendar: XNYS, 24/7, weekdays, ..."
)


def session_option(default: str) -> Decorator:
    """--session: one trading session; `default` is the text for the session without it."""
    return click.option(
        "--session", type=Day(), help=_with("Trading session", f"default: {default}")
    )


mlflow_option = click.option(
    "--mlflow/--no-mlflow", default=True, show_default=True, help="Log the results to MLflow."
)
reason_option = click.option("--reason", required=True, help="Reason, kept in the history.")
by_option = click.option(
    "--by", default=getpass.getuser, show_default="your user name", help="Who makes the change."
)


def output_option(*, required: bool = False) -> Decorator:
    """-o: a file to write."""
    return click.option(
        "-o",
        "--output",
        type=click.Path(dir_okay=False, path_type=Path),
        required=required,
        help=_with("File to write", "" if required else "default: print"),
    )


dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Show what would be done; change nothing."
)


def rehearsal_option(command: Command) -> Command:
    """--dry-run, for a command that changes databases only through `Database`.

    It does everything, prints what it always prints, and all of it is rolled back.
    """

    @functools.wraps(command)
    def rehearsed(*args: Any, dry_run: bool, **kwargs: Any) -> Any:
        if not dry_run:
            return command(*args, **kwargs)
        from mlflow_timescale.db import rehearsal

        try:
            with rehearsal():
                command(*args, **kwargs)
        except click.exceptions.Exit:
            _print_unchanged()
            raise
        return _print_unchanged()

    return dry_run_option(rehearsed)


def _print_unchanged() -> None:
    print_message("dry run: nothing was changed", stderr=True)


jobs_option = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Files to read, or runs to copy, at a time.",
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
