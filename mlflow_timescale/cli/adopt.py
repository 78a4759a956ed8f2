"""`mlflow-timescale adopt` and `mlflow-timescale release`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import Progress

from mlflow_timescale import db
from mlflow_timescale.cli.options import uri_option
from mlflow_timescale.db.uri import DatabaseURI

if TYPE_CHECKING:
    from mlflow_timescale.operations.adopt import Layout

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say what would be done and how long it takes; change nothing."
)


@click.command()
@uri_option
@dry_run_option
def adopt(uri: DatabaseURI, dry_run: bool) -> None:
    """Turn a database that plain MLflow used into ours, in place.

    The metrics are copied run by run into their new layout beside the old one, every run's count
    and checksum is compared, and only then the tables change places. MLflow may go on writing.
    Interrupted, it goes on where it stopped. `release` is the way back.
    """
    from mlflow_timescale.operations import adopt as module
    from mlflow_timescale.schema import verify

    verify(uri.url)
    _rebuild(uri, dry_run, module.adopt, done_already=lambda found: found.ours)


@click.command()
@uri_option
@dry_run_option
def release(uri: DatabaseURI, dry_run: bool) -> None:
    """Give a database back to plain MLflow: no lock-in.

    MLflow's tables get MLflow's own layout again, with every point. Point MLflow at a plain
    postgresql:// URI before: our store would lay them out anew. Features, artifacts and drift
    results stay in the schema `mlops`; `DROP SCHEMA mlops CASCADE` removes them.
    """
    from mlflow_timescale.operations import adopt as module

    _rebuild(uri, dry_run, module.release, done_already=lambda found: not found.ours)


def _rebuild(
    uri: DatabaseURI, dry_run: bool, work: Callable[..., None], done_already: Callable[[Any], bool]
) -> None:
    from mlflow_timescale.operations.adopt import copied, layout

    console = Console(highlight=False, soft_wrap=True)
    with db.connect(uri, autocommit=True) as conn:
        before = layout(conn)
        done = done_already(before)
        console.print("metrics: in this layout already" if done else _forecast(before))
        if not done and (runs := copied(conn)):
            console.print(f"interrupted before: goes on after {runs:,} of {before.runs:,} runs")
        if dry_run:
            return
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("copying runs", total=before.runs)
            work(conn, progress=lambda done, total: bar.update(task, completed=done, total=total))
        after = layout(conn)
    if not done:
        console.print(f"done: {_size(before.bytes)} before, {_size(after.bytes)} now")


def _forecast(before: Layout) -> str:
    return (
        f"metrics: about {before.points:,} points of {before.runs:,} runs, {_size(before.bytes)}; "
        f"about {_time(before.seconds)}, and up to {_size(before.space)} of free space until it is "
        f"done"
    )


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1024:
            return f"{count:,.0f} {unit}"
        count /= 1024
    return f"{count:,.1f} TB"


def _time(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
