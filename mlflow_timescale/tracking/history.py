"""Reading series: pages, single steps, and the way from a rank to a point.

A series is in the order of (step, timestamp, value, is_nan): the index's. `mlops.metric_marks`
holds the rank of every 128th point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Metric

from mlflow_timescale.db.queries import load
from mlflow_timescale.tracking.errors import translated
from mlflow_timescale.tracking.session import Connection

_queries = load("tracking")
_NAN = float("nan")
# value, timestamp, step, is_nan
Row = tuple[float, int, int, bool]


@dataclass(frozen=True)
class Series:
    """A metric of a run, and the range of time in which the run has points.

    The range is a constant in every statement: TimescaleDB then opens only the run's chunks.
    """

    conn: Connection
    run_id: str
    key: str
    first_ms: int
    last_ms: int

    def ask(self, query: Any, **arguments: Any) -> list[Any]:
        """Run a query over the series; planned anew each time, for the sake of the range."""
        known = {
            "run_id": self.run_id,
            "key": self.key,
            "first_ms": self.first_ms,
            "last_ms": self.last_ms,
        }
        with translated():
            cursor = self.conn.execute(query, {**known, **arguments}, prepare=False, binary=True)
            return cursor.fetchall()


@dataclass(frozen=True)
class Shape:
    """How long a series is, how far its marks reach, and whether timestamps rise with steps."""

    marked: int
    tail: int
    ordered: bool
    intact: bool

    @property
    def points(self) -> int:
        return self.marked + self.tail


def has_marks(conn: Connection) -> bool:
    """Whether this database was adopted; before that MLflow's own reads are the right ones."""
    return bool(conn.execute(_queries.has_marks).fetchall()[0][0])


def series(conn: Connection, run_id: str, key: str) -> Series | None:
    """The series, or None where the run has no points at all."""
    with translated():
        found = conn.execute(_queries.run_range, {"run_id": run_id}).fetchone()
    return None if found is None else Series(conn, run_id, key, found[0], found[1])


def shape(of: Series) -> Shape:
    """Measure a series by its marks; it reads what lies after the last one."""
    measured = Shape(*of.ask(_queries.series)[0])
    if measured.intact:
        return measured
    return Shape(0, int(of.ask(_queries.series_by_scan)[0][0]), ordered=False, intact=False)


def page(of: Series, rank: int, limit: int | None) -> list[Row]:
    """Points from a rank on, in MLflow's order of a history: timestamp, step, value."""
    measured = shape(of)
    query = _queries.points_from if measured.ordered else _queries.points_by_time
    return of.ask(query, rank=rank, limit=limit)


def of_steps(of: Series, steps: Sequence[int], limit: int | None) -> list[Row]:
    """Points at these steps."""
    return of.ask(_queries.points_of_steps, steps=list(steps), limit=limit)


def max_step(conn: Connection, run_id: str, key: str) -> int:
    """The greatest step of a series, 0 without any."""
    with translated():
        found = conn.execute(_queries.max_step, {"run_id": run_id, "key": key}).fetchone()
    return int(found[0]) if found else 0


def metrics(key: str, rows: Sequence[Row]) -> list[Metric]:
    """MLflow's entities."""
    return [
        Metric(key, _NAN if is_nan else value, timestamp, step)
        for value, timestamp, step, is_nan in rows
    ]
