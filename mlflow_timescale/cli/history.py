"""`mlflow-timescale history`: the tags and artifacts whose past is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mlflow_timescale.cli.kit import (
    database_option,
    dry_run_option,
    json_option,
    maintenance,
    print_json,
    print_message,
    print_table,
    require_schema,
)
from mlflow_timescale.db.uri import DatabaseURI

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_timescale.db import Connection


@click.group()
def history() -> None:
    """Choose run tags and artifacts whose past is kept; show it."""


_remove_option = click.option(
    "--remove", is_flag=True, help="Stop keeping it; the recorded history stays."
)


@history.command("keep-tag")
@click.argument("key")
@database_option
@_remove_option
@dry_run_option
@json_option
def keep_tag(uri: DatabaseURI, key: str, remove: bool, dry_run: bool, as_json: bool) -> None:
    """Keep every value of the run tag KEY, with its times, from now on."""
    from mlflow_timescale.tracking import tag_history

    _keep(uri, f"the tag {key}", tag_history.keep, key, remove, dry_run, as_json)


@history.command("keep-path")
@click.argument("pattern")
@database_option
@_remove_option
@dry_run_option
@json_option
def keep_path(uri: DatabaseURI, pattern: str, remove: bool, dry_run: bool, as_json: bool) -> None:
    """Keep the bytes of artifacts that are replaced or deleted.

    PATTERN is the whole path among a run's artifacts, such as pred.pkl; * stands for any
    characters, also /, and ? for one: */pred.pkl is the file in every folder. Only artifacts in the
    database are kept.
    """
    from mlflow_timescale.artifacts import versions

    _keep(uri, f"artifacts {pattern}", versions.keep, pattern, remove, dry_run, as_json)


def _keep(
    uri: DatabaseURI,
    what: str,
    keep: Callable[..., bool],
    name: str,
    remove: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    with maintenance(uri) as conn:
        require_schema(conn, uri)
        with conn.transaction(force_rollback=dry_run):
            changed = keep(conn, name, keeps=not remove)
    if as_json:
        print_json({"name": name, "kept": not remove, "changed": changed and not dry_run})
        return
    if remove:
        state = "is no longer kept" if changed else "is not kept; nothing was changed"
    else:
        state = "is kept" if changed else "is kept, as before"
    print_message(f"the past of {what} {state}")
    if dry_run:
        print_message("dry run: nothing was changed", stderr=True)


@history.command("list")
@database_option
@json_option
def list_kept(uri: DatabaseURI, as_json: bool) -> None:
    """List the tags and artifact paths whose past is kept."""
    from mlflow_timescale import db

    with db.Database(uri, application="history", translate=True).connection() as conn:
        rows = list(_kept(conn))
    if as_json:
        names = ("kind", "name", "since", "until", "by")
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        print_table(("kind", "name", "since", "until", "by"), rows)


def _kept(conn: Connection) -> Any:
    from mlflow_timescale.artifacts import versions
    from mlflow_timescale.tracking import tag_history

    for period in tag_history.kept(conn):
        yield ("tag", period.name, period.since, period.until, period.db_user)
    for pattern, since, until, by in versions.kept(conn):
        yield ("path", pattern, since, until, by)


@history.command()
@click.argument("run")
@click.argument("key", required=False)
@database_option
@json_option
def tags(uri: DatabaseURI, run: str, key: str | None, as_json: bool) -> None:
    """List the values that kept tags of RUN had, or one KEY."""
    from mlflow_timescale.tracking.tag_history import run_tag_history

    run = run.removeprefix("runs:/")
    states = run_tag_history(uri, run, key)
    if as_json:
        print_json([state.as_dict() for state in states])
        return
    if not states:
        print_message(
            f"no history of {key or 'any tag'} is known of run {run or repr(run)}; "
            "`mlflow-timescale history list` shows of which tags it is kept, and since when"
        )
        return
    rows = [
        (
            state.key,
            state.value,
            state.valid_from,
            state.valid_to,
            state.ended or "",
            state.by,
            state.reason or "",
        )
        for state in states
    ]
    print_table(("tag", "value", "from", "to", "ended", "by", "reason"), rows)
