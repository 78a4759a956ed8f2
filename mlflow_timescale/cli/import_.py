"""`mlflow-timescale import` and `sync`: bring the data of another MLflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import reduce
from typing import TYPE_CHECKING, Any

import click
import psycopg

from mlflow_timescale import db
from mlflow_timescale.cli.kit import (
    Exit,
    counted_progress,
    database_option,
    dry_run_option,
    exit_with,
    jobs_option,
    json_option,
    maintenance,
    note_printer,
    print_json,
    print_message,
    require_server,
)
from mlflow_timescale.common import logs
from mlflow_timescale.common.settings import IMPORT_SOURCE
from mlflow_timescale.db.opening import connection_lost
from mlflow_timescale.db.uri import DatabaseURI

if TYPE_CHECKING:
    from mlflow_timescale.operations.bringing.files import Copied, Owner
    from mlflow_timescale.operations.bringing.merging import Merged

_OPTIONS = (
    click.argument("source", envvar=IMPORT_SOURCE.name),
    database_option,
    click.option(
        "--prefix",
        default="",
        help="Begin the names of experiments and registered models with this.",
    ),
    click.option(
        "--artifacts", is_flag=True, help="Copy artifacts too, with their SHA-256 in the ledger."
    ),
    jobs_option,
    dry_run_option,
    json_option,
)


def _bringing(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of both: they differ in what they do with changes."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)


@click.command("import")
@_bringing
def import_(**options: Any) -> None:
    """Copy another MLflow database or file store into this one.

    SOURCE is a database URI (sqlite:///mlflow.db, postgresql://...), a sqlite file, or the
    directory of a file store (./mlruns); it is only read. Put a URI with a password into
    MLFLOW_TIMESCALE_IMPORT_SOURCE. A new database gets everything or nothing: the rows of every
    table are counted before the commit. A database in use gets missing data, a run completely or
    not at all: run ids are kept, experiments are matched by name. A run with another value of a
    param, and a registered model with a different version of the same number, are listed and do
    not change (exit code 3). Data that cannot be read is left out and named. Artifacts are not
    copied without --artifacts.
    """
    _bring(changes=False, **options)


@click.command()
@_bringing
def sync(**options: Any) -> None:
    """Add the new data of another MLflow; may be repeated.

    SOURCE is as for `import`: the sqlite file or folder of a cluster without network, or another
    database. The command adds new runs, points, params and tags, the status of runs that ended, and
    tags that changed in SOURCE since the last call; it does the same for experiments, registered
    models, logged models and traces. Data that changed on both sides is listed, and does not
    change. Data that was deleted here stays deleted; data that no longer exists in SOURCE is kept.
    Only changed data is read again; the next call continues an interrupted one. --artifacts also
    copies new files of known runs.
    """
    _bring(changes=True, **options)


def _bring(
    source: str,
    uri: DatabaseURI,
    prefix: str,
    artifacts: bool,
    jobs: int,
    dry_run: bool,
    as_json: bool,
    *,
    changes: bool,
) -> None:
    if source.startswith(("postgresql", "postgres:", "timescaledb")):
        require_server(DatabaseURI.parse(source))
        source = DatabaseURI.parse(source).url
    from mlflow_timescale.operations.bringing.turns import turn
    from mlflow_timescale.schema import initialize

    initialize(uri.url)
    with ExitStack() as until_done:
        # psycopg logs lines of a connection that ended.
        until_done.enter_context(logs.noted("psycopg", lambda line: None))
        with maintenance(uri, changes=not changes) as conn:
            holder = until_done.enter_context(maintenance(uri, changes=False))
            until_done.enter_context(turn(holder, note_printer(quiet=as_json)))
            db.ensure(conn, uri)
            with _loss_named(conn, uri):
                result, owners = _rows(source, conn, prefix, dry_run, as_json, changes)
        if artifacts:
            result |= _files(source, uri, owners, jobs, dry_run, as_json)
    if as_json:
        print_json(result)
    is_partial = any(result.get(name) for name in ("conflicts", "not_brought", "skipped"))
    exit_with(Exit.NO if is_partial else Exit.OK)


@contextmanager
def _loss_named(conn: db.Connection, uri: DatabaseURI) -> Iterator[None]:
    """Raise ConnectionFailed where the connection to the target ends."""
    try:
        yield
    except psycopg.OperationalError as exc:
        if not conn.closed:
            raise
        raise connection_lost(exc, uri) from exc


def _rows(
    source: str, conn: db.Connection, prefix: str, dry_run: bool, as_json: bool, changes: bool
) -> tuple[dict[str, Any], list[Owner]]:
    """Bring the rows; return what is printed as JSON, and what has artifacts."""
    from mlflow_timescale.operations.bringing.files import owners_of
    from mlflow_timescale.operations.bringing.merging import merge_from
    from mlflow_timescale.operations.importing import is_occupied

    note = note_printer(quiet=as_json)
    if not (changes or prefix or is_occupied(conn)):
        return _whole(source, conn, dry_run, as_json, note)
    owners: list[Owner] = []
    with counted_progress("runs", quiet=as_json) as on_runs:
        merged = merge_from(
            source,
            conn,
            prefix=prefix,
            changes=changes,
            on_note=note,
            on_runs=on_runs,
            then=lambda done: owners.extend(owners_of(conn, done.locations)),
            dry_run=dry_run,
        )
    if not as_json:
        _print_merged(merged, dry_run)
    return _as_json(merged), owners


def _as_json(merged: Merged) -> dict[str, Any]:
    return {
        "experiments": merged.experiments,
        "runs": {
            "new": merged.runs,
            "grown": merged.grown,
            "unchanged": merged.unchanged,
            "deleted": merged.deleted,
        },
        "tables": merged.rows,
        "rows": sum(merged.rows.values()),
        "conflicts": [
            {"run_id": conflict.run_id, "reason": conflict.reason} for conflict in merged.conflicts
        ],
        "different": merged.different,
        "not_brought": merged.not_brought,
        "notes": merged.notes,
    }


def _whole(
    source: str, conn: db.Connection, dry_run: bool, as_json: bool, note: Callable[[str], None]
) -> tuple[dict[str, Any], list[Owner]]:
    """Copy everything into a new database, in one transaction."""
    from mlflow_timescale.operations.bringing.files import owners_of
    from mlflow_timescale.operations.importing import import_from

    notes: list[str] = []
    owners: list[Owner] = []

    def print_copied(table: str, rows: int) -> None:
        if rows and not as_json:
            print_message(f"{rows:>12,} {table}")

    def keep_note(line: str) -> None:
        notes.append(line)
        note(line)

    copied = import_from(
        source,
        conn,
        on_table=print_copied,
        on_note=keep_note,
        then=lambda: owners.extend(owners_of(conn)),
        dry_run=dry_run,
    )
    if not as_json:
        done = "rows would be imported" if dry_run else "rows imported"
        print_message(f"{sum(copied.values()):>12,} {done}")
    return {"tables": copied, "rows": sum(copied.values()), "notes": notes}, owners


def _files(
    source: str, uri: DatabaseURI, owners: list[Owner], jobs: int, dry_run: bool, as_json: bool
) -> dict[str, Any]:
    from mlflow_timescale.operations.bringing.files import copy_artifacts

    with counted_progress("artifacts", quiet=as_json) as on_owner:
        copied = copy_artifacts(
            uri, owners, tracking_uri=source, jobs=jobs, on_owner=on_owner, dry_run=dry_run
        )
    if not as_json:
        _print_copied(copied, dry_run)
    return {"files": copied.files, "bytes": copied.bytes, "skipped": copied.skipped}


def _print_merged(merged: Merged, dry_run: bool) -> None:
    for table, rows in merged.rows.items():
        print_message(f"{rows:>12,} {table}")
    for line in merged.different:
        print_message(f"{line} has another value here: left as it is", style="yellow", stderr=True)
    for conflict in merged.conflicts:
        print_message(f"run {conflict.run_id}: {conflict.reason}", style="red", stderr=True)
    verb = "would be added" if dry_run else "added"
    counts = [
        (merged.experiments, "new experiments"),
        (merged.runs, "new runs"),
        (merged.grown, "runs with news"),
        (merged.unchanged, "runs without news"),
        (merged.deleted, "runs that are deleted here"),
        (len(merged.conflicts), "runs with conflicts or unreadable files, left as they are"),
        (len(merged.not_brought), "models and others with conflicts, left as they are"),
    ]
    texts = [f"{number:,} {name}" for number, name in counts if number]
    print_message(f"{sum(merged.rows.values()):,} rows {verb}: {', '.join(texts) or 'nothing new'}")


def _print_copied(copied: Copied, dry_run: bool) -> None:
    verb = "would be copied" if dry_run else "copied"
    print_message(
        f"{copied.files:,} artifacts ({copied.bytes:,} bytes) of {copied.owners:,} runs, logged "
        f"models and traces {verb}"
    )
    if copied.without:
        print_message(f"{copied.without:,} runs and logged models have no files there")
    for name, reason in sorted(copied.skipped.items()):
        print_message(f"{name}: not copied: {reason}", style="red", stderr=True)
