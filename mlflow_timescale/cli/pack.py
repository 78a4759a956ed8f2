"""`mlflow-timescale pack`."""

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
    require_schema,
)
from mlflow_timescale.db.uri import DatabaseURI

if TYPE_CHECKING:
    from mlflow_timescale.operations.packing import LooseKey


@click.command()
@database_option
@dry_run_option
@json_option
def pack(uri: DatabaseURI, dry_run: bool, as_json: bool) -> None:
    """Reclaim disk space from bloated metric indexes.

    Interleaved points of many runs leave index pages half full. Every index that is much larger
    than necessary is rebuilt beside the old one (it needs the space of one index meanwhile),
    while MLflow keeps reading and writing. Run it from cron, about once a month. Compressed chunks
    do not need it.
    """
    from mlflow_timescale.operations.doctor import in_bytes
    from mlflow_timescale.operations.packing import loose_keys
    from mlflow_timescale.operations.packing import pack as rebuild_keys

    rebuilt: list[dict[str, Any]] = []

    def print_rebuilt(key: LooseKey, now: int) -> None:
        rebuilt.append({"index": key.name, "bytes": key.bytes, "bytes_now": now})
        if not as_json:
            print_message(f"{key.name}: {in_bytes(key.bytes)} before, {in_bytes(now)} now")

    with maintenance(uri, changes=not dry_run) as conn:
        require_schema(conn, uri, exists=False)
        keys = loose_keys(conn) if dry_run else []
        if not dry_run:
            rebuild_keys(conn, print_rebuilt)
    if as_json:
        plan = [{"index": k.name, "bytes": k.bytes, "bytes_packed": k.packed} for k in keys]
        print_json(plan if dry_run else rebuilt)
        return
    for key in keys:
        size, packed = in_bytes(key.bytes), in_bytes(key.packed)
        print_message(f"{key.name}: {size}, about {packed} if packed")
    if not (keys or rebuilt):
        print_message("the keys of metrics are packed")
