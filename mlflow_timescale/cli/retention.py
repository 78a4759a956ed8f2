"""`mlflow-timescale retention`."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import click

from mlflow_timescale.cli.kit import (
    database_option,
    dry_run_option,
    maintenance,
    print_message,
    require_schema,
    yes_option,
)
from mlflow_timescale.db.uri import DatabaseURI

if TYPE_CHECKING:
    from mlflow_timescale.operations.retention import Forecast


@click.command()
@database_option
@click.option(
    "--days", type=click.IntRange(min=1), required=True, help="Keep runs written in these days."
)
@click.option(
    "--by-point-time",
    is_flag=True,
    help="Go by the timestamps of points instead, whenever their runs were written.",
)
@dry_run_option
@yes_option
def retention(uri: DatabaseURI, days: int, by_point_time: bool, dry_run: bool, yes: bool) -> None:
    """Delete the metric points of runs not written for some days.

    They are gone for good; runs that were written in these days keep every point, however old.

    Runs, params, tags and the latest value of each metric stay. Runs that a registered version or
    the drift monitor needs keep all points. Run it from cron, with --yes; on TimescaleDB, chunks
    that become empty are dropped, which frees their disk space at once.
    """
    from mlflow_timescale.operations.retention import forecast, remove

    before = datetime.now(timezone.utc) - timedelta(days=days)
    with maintenance(uri, changes=not dry_run) as conn:
        require_schema(conn, uri)
        going = forecast(conn, before, by_point_time=by_point_time)
        for reason, runs in going.needed.items():
            print_message(f"kept: {runs:,} runs that {reason} needs")
        if not going.points:
            print_message(f"nothing to remove: no points of {_what(before, by_point_time)}")
            return
        print_message(_summary(going, before, by_point_time))
        if dry_run:
            return
        if not yes:
            click.confirm("Remove these points?", abort=True)
        removed = remove(conn, before, by_point_time=by_point_time)
    print_message(f"removed {removed:,} points")


def _summary(going: Forecast, before: datetime, by_point_time: bool) -> str:
    from mlflow_timescale.operations.doctor import in_bytes

    assert going.written is not None  # nosec B101  # for mypy
    assert going.times is not None  # nosec B101  # for mypy
    first, last = going.times
    oldest, newest = going.written
    return (
        f"to remove: {going.points:,} points of {len(going.run_ids):,} "
        f"{_what(before, by_point_time)}: points of {first:%Y-%m-%d} to {last:%Y-%m-%d}, runs last "
        f"written {oldest:%Y-%m-%d} to {newest:%Y-%m-%d}, about {in_bytes(going.bytes)}"
    )


def _what(before: datetime, by_point_time: bool) -> str:
    moment = f"{before:%Y-%m-%d %H:%M} UTC"
    if by_point_time:
        return f"runs with timestamps before {moment}"
    return f"runs last written before {moment}"
