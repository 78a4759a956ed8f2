"""Extremes as metrics of MLflow: `loss/min` and `loss/max` beside `loss`, if switched on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlflow_timescale import db
from mlflow_timescale.db import Connection, rows
from mlflow_timescale.db.locks import with_short_waits
from mlflow_timescale.db.revisions import MIGRATE
from mlflow_timescale.tracking.chosen_runs import experiments_named

Progress = Callable[[int, int], None]
_queries = db.load("extremes")
_RUNS_AT_ONCE = 200  # writers to these runs wait for the transaction


@dataclass(frozen=True)
class ExtremesSetting:
    """Whether extremes are shown in an experiment; None stands for all without a setting."""

    experiment: str | None
    is_on: bool


@dataclass(frozen=True)
class Switched:
    """The numbers of runs, and of metrics that were (or would be) generated or removed."""

    runs: int
    metrics: int


def settings(conn: Connection) -> list[ExtremesSetting]:
    """The settings of experiments; an empty list if extremes are shown in none."""
    _require_setting(conn)
    return rows.records(conn, ExtremesSetting, _queries.settings)


def switch(
    conn: Connection,
    *,
    on: bool,
    experiment: str | None = None,
    dry_run: bool = False,
    progress: Progress = lambda done, total: None,
) -> Switched:
    """Show extremes as metrics, or remove those that were generated.

    New points change them at once; existing runs follow in batches. The next call completes an
    interrupted one.

    Parameters
    ----------
    conn
        A connection in autocommit mode. Raises LookupError if there is no such experiment, or if
        the schema is of an earlier version, and LocksHeld.
    on
        True to show them, False to remove them.
    experiment
        The name or id of one experiment; None: all of them, also those to come.
    dry_run
        Count, and change nothing.
    progress
        Called with the number of runs that are done, and of all runs.
    """
    _require_setting(conn)
    experiments = None if experiment is None else experiments_named(conn, experiment)
    values = {"experiments": experiments}
    runs = rows.scalars(conn, _queries.runs if on else _queries.generated_runs, values)
    if not dry_run:
        with_short_waits(conn, lambda: _set(conn, experiments, on=on))
        runs = rows.scalars(conn, _queries.runs if on else _queries.generated_runs, values)
    work = _work(on=on, dry_run=dry_run)
    metrics = 0
    for first in range(0, len(runs), _RUNS_AT_ONCE):
        batch = runs[first : first + _RUNS_AT_ONCE]
        metrics += int(rows.scalar(conn, work, {"runs": batch}))
        progress(first + len(batch), len(runs))
    return Switched(len(runs), metrics)


def _work(*, on: bool, dry_run: bool) -> object:
    if dry_run:
        return _queries.would_show if on else _queries.would_hide
    return _queries.show if on else _queries.hide


def _set(conn: Connection, experiments: list[int] | None, *, on: bool) -> None:
    conn.execute(_queries.lock_metrics)
    if experiments is None:
        conn.execute(_queries.clear_settings)
        if on:
            conn.execute(_queries.set_all)
    else:
        conn.execute(_queries.set_experiments, {"experiments": experiments, "is_on": on})


def _require_setting(conn: Connection) -> None:
    if not rows.scalar(conn, _queries.is_ready):
        raise LookupError(f"the schema of this database has no extremes: run `{MIGRATE}` first")
