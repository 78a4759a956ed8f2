"""`mlflow-timescale adopt` and `mlflow-timescale release`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from mlflow_timescale.cli.kit import (
    database_option,
    dry_run_option,
    maintenance,
    print_message,
    progress,
    require_schema,
)
from mlflow_timescale.db.uri import DatabaseURI

if TYPE_CHECKING:
    from mlflow_timescale.operations.adopt import Additions, Layout


abort_option = click.option(
    "--abort", is_flag=True, help="Give up an interrupted conversion, in either direction."
)


@click.command()
@database_option
@abort_option
@dry_run_option
def adopt(uri: DatabaseURI, abort: bool, dry_run: bool) -> None:
    """Convert a database of plain MLflow to our layout, in place.

    Metrics are copied run by run into a new table, the count and checksum of every run are
    compared, and then the tables are swapped. MLflow can keep writing. Owner, grants, options,
    comments, indexes, triggers and views of the table are kept. An interrupted command continues
    where it stopped; `--abort` removes what it has built. `release` reverts it.
    """
    from mlflow_timescale.operations import adopt as module
    from mlflow_timescale.schema import verify

    if abort:
        _abort(uri, dry_run)
        return
    verify(uri.url)
    _rebuild(uri, dry_run, module.adopt, to_ours=True)


@click.command()
@database_option
@dry_run_option
def release(uri: DatabaseURI, dry_run: bool) -> None:
    """Convert a database back to plain MLflow: no lock-in.

    MLflow's tables get MLflow's own layout again, with every point. Point MLflow at a plain
    postgresql:// URI first: our store would convert them again. Features, artifacts and drift
    results stay in the schema `mlops`; `DROP SCHEMA mlops CASCADE` removes them.
    """
    from mlflow_timescale.operations import adopt as module

    _rebuild(uri, dry_run, module.release, to_ours=False)


def _rebuild(uri: DatabaseURI, dry_run: bool, work: Callable[..., None], *, to_ours: bool) -> None:
    from mlflow_timescale.operations import adopt as module
    from mlflow_timescale.operations.doctor import in_bytes

    with maintenance(uri, changes=not dry_run) as conn:
        require_schema(conn, uri, exists=False)
        before = module.layout(conn)
        done = module.is_complete(conn, before) if to_ours else not before.ours
        print_message("metrics: in this layout already" if done else _forecast(before))
        if not done and (runs := module.copied(conn)):
            print_message(f"interrupted before: continues after {runs:,} of {before.runs:,} runs")
        if dry_run:
            if not done:
                _print_additions(module.additions(conn, to_ours=to_ours))
            return
        with progress() as bar:
            task = bar.add_task("copying runs", total=before.runs)
            work(conn, progress=lambda done, total: bar.update(task, completed=done, total=total))
        after = module.layout(conn)
    if not done:
        print_message(f"done: {in_bytes(before.bytes)} before, {in_bytes(after.bytes)} now")


def _abort(uri: DatabaseURI, dry_run: bool) -> None:
    from mlflow_timescale.operations import adopt as module

    with maintenance(uri, changes=not dry_run) as conn:
        runs = module.copied(conn)
        is_begun = module.is_begun(conn) if dry_run else module.abort(conn)
    if not is_begun:
        print_message("no conversion was interrupted: there is nothing to give up")
    elif dry_run:
        print_message(f"would remove the copies of {runs:,} runs; metrics stays as it is")
    else:
        print_message(f"removed the copies of {runs:,} runs; metrics is as it was")


def _print_additions(additions: Additions) -> None:
    for each in additions.carried:
        print_message(f"carries over: {each}")
    for obstacle in additions.obstacles:
        print_message(f"cannot carry over: {obstacle}", style="red")


def _forecast(before: Layout) -> str:
    from mlflow_timescale.operations.doctor import in_bytes

    return (
        f"metrics: about {before.points:,} points of {before.runs:,} runs, "
        f"{in_bytes(before.bytes)}; takes about {_time(before.seconds)}, and up to "
        f"{in_bytes(before.space)} of free space until it is done"
    )


def _time(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
