"""`mlflow-timescale registry`: the registry's history, and rollback."""

from __future__ import annotations

from datetime import datetime, timezone

import click

from mlflow_timescale.cli.kit import (
    Exit,
    Moment,
    database_option,
    dry_run_option,
    exit_with,
    json_option,
    print_json,
    print_message,
    print_table,
    reason_option,
    workspace_option,
)
from mlflow_timescale.db.uri import DatabaseURI


@click.group()
def registry() -> None:
    """Show which model version ran when, and roll back."""


@registry.command()
@database_option
@workspace_option
@click.argument("name")
@click.argument("alias", required=False)
@click.option(
    "--kind",
    type=click.Choice(["alias", "stage", "version", "tag", "model", "all"]),
    default="alias",
    show_default=True,
    help="Kind of change to show.",
)
@json_option
def history(uri: DatabaseURI, name: str, alias: str | None, kind: str, as_json: bool) -> None:
    """List the changes of model NAME, or of one ALIAS of it.

    NAME@ALIAS works too.
    """
    from mlflow_timescale.registry.model_registry import ModelRegistry

    models = ModelRegistry(uri)
    changes = models.history(name, kind=None if kind == "all" else kind, subject=alias)
    if not changes:
        models.require_model(name)
    if as_json:
        print_json([change.as_dict() for change in changes])
        return
    if not changes:
        print_message(f"The registry holds no change of {name}{'@' + alias if alias else ''}.")
        return
    rows = [
        (
            change.kind,
            change.subject,
            change.value,
            change.valid_from,
            change.valid_to,
            change.ended if change.valid_to else "",
            change.by,
            (change.reason or "") + (" (overridden)" if change.detail.get("override") else ""),
        )
        for change in changes
    ]
    print_table(("kind", "of", "value", "from", "to", "ended", "by", "reason"), rows)


@registry.command()
@database_option
@workspace_option
@click.argument("name")
@click.argument("alias")
@click.argument("moment", required=False)
@json_option
def at(uri: DatabaseURI, name: str, alias: str, moment: str | None, as_json: bool) -> None:
    """Show the version that ALIAS of model NAME pointed at, at MOMENT.

    NAME@ALIAS MOMENT works too. Exit code 3: it pointed at no version.
    """
    from mlflow_timescale.registry.naming import required_alias

    if moment is None:
        _at(uri, *required_alias(name, None), alias, as_json)
    else:
        _at(uri, *required_alias(name, alias), moment, as_json)


def _at(uri: DatabaseURI, name: str, alias: str, text: str, as_json: bool) -> None:
    from mlflow_timescale.registry.model_registry import ModelRegistry

    moment: datetime = Moment().convert(text, None, None)
    state = ModelRegistry(uri).state_at(name, alias, moment)
    if as_json:
        print_json(state.as_dict() if state else None)
    elif state is None:
        print_message(f"{name}@{alias} pointed at no version at {_time(moment)}.")
    else:
        until = f"until {_time(state.valid_to)}" if state.valid_to else "and still is"
        print_message(
            f"{name}@{alias} was version {state.version} at {_time(moment)}: since "
            f"{_time(state.valid_from)} {until}, set by {state.by}."
        )
    exit_with(Exit.OK if state else Exit.NO)


@registry.command()
@database_option
@workspace_option
@click.argument("name")
@click.argument("alias", required=False)
@click.option("--override", is_flag=True, help="Even if the version's artifacts do not verify.")
@reason_option
@dry_run_option
def rollback(
    uri: DatabaseURI, name: str, alias: str | None, reason: str, override: bool, dry_run: bool
) -> None:
    """Point ALIAS of model NAME back at its previous version.

    NAME@ALIAS works too.
    """
    from mlflow_timescale.registry.model_registry import ModelRegistry
    from mlflow_timescale.registry.naming import required_alias

    model = ModelRegistry(uri)
    name, alias = required_alias(name, alias)
    before = model.version_at(name, alias, datetime.now(timezone.utc))
    if dry_run:
        version = model.rollback_target(name, alias)
        print_message(f"{name}@{alias}: would go from version {before} to {version}.")
        return
    version = model.rollback(name, alias, reason=reason, override=override)
    print_message(f"{name}@{alias}: version {before} -> {version}.")


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S.%f}Z"
