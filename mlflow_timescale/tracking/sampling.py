"""Charts: at most so many points of a series, evenly spread by rank, exactly those MLflow picks.

MLflow numbers every point (NTILE) and keeps the first of each bucket, and the last of all. Which
ranks those are follows from the number of points alone; marks then lead to them, so that a chart
costs the same at a thousand points and at ten million.
"""

from __future__ import annotations

from mlflow_timescale.db.queries import load
from mlflow_timescale.tracking.history import Row, Series, Shape, shape

_queries = load("tracking")
# Up to this length one walk along the index costs less than a short one for each of 320 points.
_SHORT = 16384
# Points after the last mark are walked over for each point wanted among them: cheap as long as they
# are a small part of the series, of which few points are wanted then.
_SMALL_PART = 12


def ranks(points: int, buckets: int) -> list[int]:
    """The ranks that MLflow's sample of a series of `points` points has.

    >>> ranks(10, 4)
    [0, 3, 6, 9]
    >>> ranks(3, 5), ranks(9, 1), ranks(0, 3)
    ([0, 1, 2], [8], [])
    """
    if points <= buckets:
        return list(range(points))
    size, larger = divmod(points, buckets)
    first = [bucket * size + min(bucket, larger) for bucket in range(buckets)]
    return [*first[:-1], points - 1]


def sample(of: Series, buckets: int, start_step: int | None, end_step: int | None) -> list[Row]:
    """At most `buckets` points between two steps (inclusive), or of all."""
    measured = shape(of)
    first = 0 if start_step is None else _before(of, start_step, measured)
    after = measured.points if end_step is None else _before(of, end_step + 1, measured)
    wanted = [first + rank for rank in ranks(max(after - first, 0), buckets)]
    return _at(of, wanted, measured) if wanted else []


def _before(of: Series, step: int, measured: Shape) -> int:
    if step >= 2**63:
        return measured.points
    query = _queries.rows_before if measured.intact else _queries.rows_before_by_scan
    return int(of.ask(query, step=step)[0][0])


def _at(of: Series, wanted: list[int], measured: Shape) -> list[Row]:
    if measured.points > max(_SHORT, measured.tail * _SMALL_PART):
        return of.ask(_queries.points_at, ranks=wanted, marked=measured.marked)
    return of.ask(_queries.points_at_by_scan, ranks=wanted)
