"""Values found by the monitor: one per session, metric and dimension, in revisions.

A recomputation that comes out the same keeps the revision, so a rerun changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray
from psycopg.rows import class_row

from mlflow_timescale.db import Connection, load
from mlflow_timescale.db.rows import records

_queries = load("drift")
FIRST = date(1, 1, 1)
LAST = date(9999, 12, 31)


@dataclass(frozen=True)
class Value:
    """One number of one session; `value` is None, with a `status`, if it cannot be computed.

    `dimension` is what it is about: "" for the strategy, a feature's name, "h5" for a horizon,
    "group Tech". `n` counts the observations behind it.
    """

    session: date
    metric: str
    dimension: str
    value: float | None
    n: int
    status: str


@dataclass(frozen=True)
class Run:
    """One session as computed: its status ("ok", "no_data"), the model judged, as-of time."""

    session: date
    session_number: int
    status: str
    model_name: str
    model_version: str
    as_of: datetime
    digest: str = ""
    revision: int = 0
    computed_at: datetime | None = None
    logged_revision: int | None = None
    mlflow_run_id: str | None = None


def save(
    conn: Connection,
    strategy_id: str,
    values: Iterable[Value],
    runs: Sequence[Run],
    *,
    whole: Sequence[date] | None = None,
) -> list[date]:
    """Store values in one transaction; return the sessions that changed. Take the lock first.

    `whole` lists the sessions of which `values` holds everything (default: those of `runs`): their
    stored values that are not among these are withdrawn. Other sessions may be partial.
    """
    with conn.transaction():
        conn.execute(_queries.stage_values)
        with conn.cursor() as cursor, cursor.copy(_queries.copy_values) as copy:
            copy.set_types(["date", "text", "text", "float8", "int4", "text"])
            for v in values:
                copy.write_row((v.session, v.metric, v.dimension, _finite(v.value), v.n, v.status))
        conn.execute(_queries.analyze_staged)
        complete = [run.session for run in runs] if whole is None else list(whole)
        parameters = {"strategy_id": strategy_id, "whole": complete}
        changed = [row[0] for row in conn.execute(_queries.add_values, parameters)]
        _save_runs(conn, strategy_id, runs, set(changed))
        without_run = sorted(set(changed) - {run.session for run in runs})
        conn.execute(_queries.revise_runs, {"strategy_id": strategy_id, "sessions": without_run})
        conn.execute(_queries.drop_staged)
    return sorted(changed)


def _save_runs(
    conn: Connection, strategy_id: str, runs: Sequence[Run], changed: Collection[date]
) -> None:
    conn.execute(
        _queries.save_runs,
        {
            "strategy_id": strategy_id,
            "sessions": [run.session for run in runs],
            "changed": [run.session in changed for run in runs],
            "numbers": [run.session_number for run in runs],
            "statuses": [run.status for run in runs],
            "model_names": [run.model_name for run in runs],
            "model_versions": [run.model_version for run in runs],
            "as_of": [run.as_of for run in runs],
            "digests": [run.digest for run in runs],
        },
    )


def of_sessions(
    conn: Connection,
    strategy_id: str,
    start: date,
    end: date,
    metrics: Sequence[str] | None = None,
    dimensions: Sequence[str] | None = None,
) -> list[Value]:
    """The latest values of the sessions from `start` to `end`; of some metrics and dimensions."""
    return records(
        conn,
        Value,
        _queries.session_values,
        {
            "strategy_id": strategy_id,
            "start": start,
            "end": end,
            "metrics": None if metrics is None else list(metrics),
            "dimensions": None if dimensions is None else list(dimensions),
        },
        binary=True,
    )


def runs(conn: Connection, strategy_id: str, start: date = FIRST, end: date = LAST) -> list[Run]:
    """The sessions computed from `start` to `end`, in order."""
    with conn.cursor(row_factory=class_row(Run)) as cursor:
        parameters = {"strategy_id": strategy_id, "start": start, "end": end}
        return cursor.execute(_queries.runs, parameters).fetchall()


def on_sessions(
    values: Iterable[Value], sessions: Sequence[date]
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Values over `sessions`, shape (sessions,), by metric and dimension; NaN where none."""
    position = {session: index for index, session in enumerate(sessions)}
    arrays: dict[tuple[str, str], NDArray[np.float64]] = {}
    for v in values:
        key = (v.metric, v.dimension)
        if key not in arrays:
            arrays[key] = np.full(len(sessions), np.nan)
        if v.value is not None and v.session in position:
            arrays[key][position[v.session]] = v.value
    return arrays


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
