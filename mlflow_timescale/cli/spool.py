"""`mlflow-timescale spool ...`: writes that wait on this machine for a database that was away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlflow_timescale.cli.kit import (
    Exit,
    database_option,
    exit_with,
    json_option,
    print_json,
    print_message,
    print_table,
    uri_option,
)
from mlflow_timescale.db.uri import DatabaseURI

if TYPE_CHECKING:
    from mlflow_timescale.spool import Status

spool_option = click.option(
    "--spool",
    "folder",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the spool; default: the one of the URI, or of the database.",
)


@click.group()
def spool() -> None:
    """Writes that wait on this machine for a database that was away."""


@spool.command()
@uri_option
@spool_option
@json_option
def status(uri: DatabaseURI, folder: Path | None, as_json: bool) -> None:
    """Show what waits, and what the database refused.

    The database is not needed: the URI only names the spool. Exit code 3 where the database refused
    a record, or bytes of the spool are damaged; both are kept until someone removes the files.
    """
    from mlflow_timescale.spool import Spool

    path = _path(uri, folder)
    found = Spool(path).status()
    if as_json:
        print_json({"spool": str(path), **_as_dict(found)})
    else:
        _print(path, found)
    if found.refused or found.damaged:
        exit_with(Exit.NO)


@spool.command()
@database_option
@spool_option
@json_option
def drain(uri: DatabaseURI, folder: Path | None, as_json: bool) -> None:
    """Send what waits to the database, in order, exactly once.

    A record that the database refuses goes to a list that `spool status` shows, and the next one
    follows; then the exit code is 3. If the database goes away, the rest keeps waiting.
    """
    from mlflow_timescale.db import Database
    from mlflow_timescale.spool import Spool
    from mlflow_timescale.spool.senders import sender_of

    Database(uri).prepare()
    spool = Spool(_path(uri, folder))
    drained = spool.drain(sender_of(uri))
    if as_json:
        print_json({"spool": str(spool.path), **vars(drained)})
    else:
        again = f", {drained.repeated:,} were recorded before" if drained.repeated else ""
        refused = f", {drained.refused:,} were refused: see `spool status`"
        print_message(f"sent {drained.sent:,}{again}{refused if drained.refused else ''}")
    if drained.refused:
        exit_with(Exit.NO)


def _path(uri: DatabaseURI, folder: Path | None) -> Path:
    from mlflow_timescale.spool.places import folder_of

    return folder or folder_of(uri)


def _as_dict(found: Status) -> dict[str, Any]:
    return {
        "waiting": found.waiting,
        "bytes": found.bytes,
        "oldest": found.oldest,
        "kinds": found.kinds,
        "sent": found.sent,
        "dropped": found.dropped,
        "refused": [
            {
                "kind": entry.record.kind,
                "id": entry.record.record_id,
                "appended_at": entry.record.appended_at,
                "reason": entry.reason,
            }
            for entry in found.refused
        ],
        "damaged": found.damaged,
    }


def _print(path: Path, found: Status) -> None:
    since = f", the oldest since {found.oldest:%Y-%m-%d %H:%M:%SZ}" if found.oldest else ""
    print_message(f"{path}: {found.waiting:,} records wait, {found.bytes:,} bytes{since}")
    print_message(f"sent before: {found.sent:,}")
    if found.dropped:
        print_message(f"dropped because the spool was full: {found.dropped:,}", style="yellow")
    for name in found.damaged:
        print_message(f"damaged: {path / name}", style="red")
    if found.refused:
        print_message(f"refused by the database: {len(found.refused):,}", style="red")
        print_table(
            ["appended", "kind", "reason"],
            [[e.record.appended_at, e.record.kind, e.reason] for e in found.refused],
        )
