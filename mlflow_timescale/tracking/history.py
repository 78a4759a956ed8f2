"""Reads of one metric's points: pages, single steps, and samples by rank.

A series is ordered by (step, timestamp, value, is_nan), like its index. `mlops.metric_marks` holds
the rank of every 128th point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Metric

from mlflow_timescale.db import Connection
from mlflow_timescale.db.queries import load
from mlflow_timescale.db.rows import if_migrated
from mlflow_timescale.tracking.errors import translated

_queries = load("tracking")
_NAN = float("nan")
# value, timestamp, step, is_nan
Row = tuple[float, int, int, bool]


@dataclass(frozen=True)
class MetricSeries:
    """A metric of a run: number of points, extent of its marks, and order of its timestamps.

    `ordered` is True if timestamps increase with steps. `first_ms` and `last_ms` bound the run's
    timestamps.
    """

    conn: Connection
    run_id: str
    key: str
    marked: int
    points: int
    ordered: bool
    first_ms: int
    last_ms: int

    def ask(self, query: Any, **arguments: Any) -> list[Any]:
        """Run a query over the series."""
        # prepare=False: the time range must be a constant in the plan, so that TimescaleDB
        # excludes the other chunks; a generic plan would open all of them.
        extent = {
            "run_id": self.run_id,
            "key": self.key,
            "first_ms": self.first_ms,
            "last_ms": self.last_ms,
        }
        with translated():
            cursor = self.conn.execute(query, {**extent, **arguments}, prepare=False, binary=True)
            return cursor.fetchall()


def can_measure(conn: Connection) -> bool:
    """Whether this database has our layout; otherwise MLflow's own reads must be used."""
    return bool(conn.execute(_queries.can_measure).fetchall()[0][0])


def series(conn: Connection, run_id: str, key: str) -> MetricSeries | None:
    """The extent of a series, from its marks; None where it has no points."""
    arguments = {"run_id": run_id, "key": key}
    with translated():
        row = conn.execute(_queries.measure, arguments, prepare=True, binary=True).fetchone()
    return None if row is None else MetricSeries(conn, run_id, key, *row[:5])


def page(of: MetricSeries, rank: int, limit: int | None) -> list[Row]:
    """Points from a rank on, in MLflow's order: timestamp, step, value."""
    query = _queries.points_from if of.ordered else _queries.points_by_time
    return of.ask(query, rank=rank, limit=limit)


def sample(
    conn: Connection,
    run_id: str,
    key: str,
    buckets: int,
    start_step: int | None,
    end_step: int | None,
) -> list[Row]:
    """At most `buckets` points between two steps (inclusive), or of all, evenly spaced by rank.

    The points are those that MLflow selects. Marks make the cost independent of the length of the
    series.
    """
    arguments = {
        "run_id": run_id,
        "key": key,
        "buckets": buckets,
        "start_step": start_step,
        "end_step": end_step,
    }
    with translated():
        return conn.execute(_queries.sample, arguments, prepare=True, binary=True).fetchall()


def generated(
    conn: Connection,
    run_id: str,
    key: str,
    start_step: int | None = None,
    end_step: int | None = None,
) -> list[Row]:
    """The one point of an extreme that is shown as a metric (`loss/min`); empty for others."""
    if not key.endswith(("/min", "/max")):
        return []
    arguments = {"run_id": run_id, "key": key, "start_step": start_step, "end_step": end_step}
    return if_migrated(conn, _queries.generated_point, arguments)


def of_steps(of: MetricSeries, steps: Sequence[int], limit: int | None) -> list[Row]:
    """Points at these steps."""
    return of.ask(_queries.points_of_steps, steps=list(steps), limit=limit)


def max_step(conn: Connection, run_id: str, key: str) -> int:
    """The greatest step of a series, 0 without any."""
    with translated():
        row = conn.execute(_queries.max_step, {"run_id": run_id, "key": key}).fetchone()
    return int(row[0]) if row else 0


def metrics(key: str, rows: Sequence[Row]) -> list[Metric]:
    """MLflow's entities."""
    return [
        Metric(key, _NAN if is_nan else value, timestamp, step)
        for value, timestamp, step, is_nan in rows
    ]
