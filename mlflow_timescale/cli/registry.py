"""`mlflow-timescale registry`: which version ran when, and going back to the one before."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from mlflow_timescale.cli.options import uri_option, workspace_option
from mlflow_timescale.db.uri import DatabaseURI

console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)


class MomentType(click.ParamType):  # type: ignore[type-arg]
    """A moment in ISO 8601, with its offset from UTC."""

    name = "TIME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
        except ValueError:
            self.fail(f"{value!r} is not a time; write 2024-01-15T09:30:00-05:00", param, ctx)
        if moment.tzinfo is None:
            self.fail(
                f"{value!r} has no offset from UTC, so it names no moment; write {value}Z or "
                f"{value}-05:00",
                param,
                ctx,
            )
        return moment


@click.group()
def registry() -> None:
    """Which version ran when, and going back to the one before."""


@registry.command()
@uri_option
@workspace_option
@click.argument("name")
@click.argument("alias", required=False)
@click.option(
    "--kind",
    type=click.Choice(["alias", "stage", "version", "tag", "model", "all"]),
    default="alias",
    show_default=True,
    help="What to show the history of.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def history(uri: DatabaseURI, name: str, alias: str | None, kind: str, as_json: bool) -> None:
    """What the registry said of a model, and from when to when."""
    from mlflow_timescale.registry.model_registry import ModelRegistry

    changes = ModelRegistry(uri).history(name, kind=None if kind == "all" else kind, subject=alias)
    if as_json:
        click.echo(json.dumps([change.as_dict() for change in changes], indent=2))
        return
    if not changes:
        console.print(f"The registry never said anything of {name}{'@' + alias if alias else ''}.")
        return
    table = Table("Kind", "Of", "Value", "From", "To", "By", "Reason", box=None)
    for change in changes:
        end = f"{_time(change.valid_to)} {change.ended}" if change.valid_to else ""
        table.add_row(
            change.kind,
            change.subject,
            change.value or "",
            _time(change.valid_from),
            end,
            change.mlflow_user or change.db_user,
            (change.reason or "") + (" (overridden)" if change.detail.get("override") else ""),
        )
    console.print(table)


@registry.command()
@uri_option
@workspace_option
@click.argument("name")
@click.argument("alias")
@click.argument("moment", type=MomentType())
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def at(
    ctx: click.Context, uri: DatabaseURI, name: str, alias: str, moment: datetime, as_json: bool
) -> None:
    """Which version an alias pointed at, at a moment. Exits with 1 if it pointed at none."""
    from mlflow_timescale.registry.model_registry import ModelRegistry

    state = ModelRegistry(uri).state_at(name, alias, moment)
    if as_json:
        click.echo(json.dumps(state.as_dict() if state else None, indent=2))
    elif state is None:
        console.print(f"{name}@{alias} pointed at no version at {_time(moment)}.")
    else:
        until = f"until {_time(state.valid_to)}" if state.valid_to else "and still is"
        console.print(
            f"{name}@{alias} was version {state.version} at {_time(moment)}: since "
            f"{_time(state.valid_from)} {until}, set by {state.mlflow_user or state.db_user}.",
            soft_wrap=True,
        )
    ctx.exit(0 if state else 1)


@registry.command()
@uri_option
@workspace_option
@click.argument("name")
@click.argument("alias")
@click.option("--reason", required=True, help="Why; it stays in the history.")
@click.option("--override", is_flag=True, help="Even if the version's artifacts do not verify.")
def rollback(uri: DatabaseURI, name: str, alias: str, reason: str, override: bool) -> None:
    """Point an alias back at the version it had before the current one."""
    from mlflow_timescale.registry.model_registry import ModelRegistry

    model = ModelRegistry(uri)
    before = model.version_at(name, alias, datetime.now(timezone.utc))
    version = model.rollback(name, alias, reason=reason, override=override)
    console.print(f"{name}@{alias}: version {before} -> {version}.")


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S.%f}Z"
