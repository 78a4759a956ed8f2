"""`mlflow-timescale pack`."""

from __future__ import annotations

import click
from rich.console import Console

from mlflow_timescale import db
from mlflow_timescale.cli.options import uri_option
from mlflow_timescale.db.uri import DatabaseURI


@click.command()
@uri_option
@click.option("--dry-run", is_flag=True, help="Say what would be built anew; change nothing.")
def pack(uri: DatabaseURI, dry_run: bool) -> None:
    """Give back the room that the index of metrics wastes.

    Points of many runs that come in turns leave it half empty. Each key that is much larger than
    need be is built anew, beside the old one (so it needs the room of one key until it is done),
    while MLflow goes on reading and writing. Run it from cron, once a month or so. Compressed
    chunks need none of it.
    """
    from mlflow_timescale.operations.doctor import in_bytes
    from mlflow_timescale.operations.packing import LooseKey, loose_keys
    from mlflow_timescale.operations.packing import pack as work

    console = Console(highlight=False, soft_wrap=True)

    finished = 0

    def say(key: LooseKey, now: int) -> None:
        nonlocal finished
        finished += 1
        console.print(f"{key.name}: {in_bytes(key.bytes)} before, {in_bytes(now)} now")

    with db.connect(uri, autocommit=True) as conn:
        found = loose_keys(conn) if dry_run else []
        for key in found:
            console.print(
                f"{key.name}: {in_bytes(key.bytes)}, about {in_bytes(key.packed)} if packed"
            )
        if not dry_run:
            work(conn, say)
    if not (found or finished):
        console.print("the keys of metrics are packed")
