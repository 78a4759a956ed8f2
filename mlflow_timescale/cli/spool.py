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

    The database is not needed: the URI only names the spool. Exit code 3: the database refused a
    record, or bytes of the spool are damaged; both stay until a person removes the files.
    """
    from mlflow_timescale.spool import Spool

    path = _path(uri, folder)
    spool_status = Spool(path).status()
    if as_json:
        print_json({"spool": str(path), **_as_dict(spool_status)})
    else:
        _print(path, spool_status)
    if spool_status.refused or spool_status.damaged:
        exit_with(Exit.NO)


@spool.command()
@database_option
@spool_option
@json_option
def drain(uri: DatabaseURI, folder: Path | None, as_json: bool) -> None:
    """Send what waits to the database, in order, exactly once.

    A record that the database refuses goes to a list that `spool status` shows, and the drain goes
    on; the exit code is then 3. If the database goes away, the other records keep waiting.
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


def _as_dict(status: Status) -> dict[str, Any]:
    return {
        "waiting": status.waiting,
        "bytes": status.bytes,
        "oldest": status.oldest,
        "kinds": status.kinds,
        "sent": status.sent,
        "dropped": status.dropped,
        "refused": [
            {
                "kind": entry.record.kind,
                "id": entry.record.record_id,
                "appended_at": entry.record.appended_at,
                "reason": entry.reason,
            }
            for entry in status.refused
        ],
        "damaged": status.damaged,
    }


def _print(path: Path, status: Status) -> None:
    since = f", the oldest since {status.oldest:%Y-%m-%d %H:%M:%SZ}" if status.oldest else ""
    print_message(f"{path}: {status.waiting:,} records wait, {status.bytes:,} bytes{since}")
    print_message(f"sent before: {status.sent:,}")
    if status.dropped:
        print_message(f"dropped because the spool was full: {status.dropped:,}", style="yellow")
    for name in status.damaged:
        print_message(f"damaged: {path / name}", style="red")
    if status.refused:
        print_message(f"refused by the database: {len(status.refused):,}", style="red")
        print_table(
            ["appended", "kind", "reason"],
            [[e.record.appended_at, e.record.kind, e.reason] for e in status.refused],
        )
