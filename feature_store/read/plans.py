"""The two ways to find what was known: look up each cell, or stream whole series past the spine.

A lookup costs 3 to 5 microseconds a cell, a streamed point 0.3, so streaming wins where fewer than
about 15 points are stored for each cell that is asked for. Both give the same answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlflow_timescale import db
from mlflow_timescale.common.micros import Micros
from mlflow_timescale.common.time import from_micros
from mlflow_timescale.db.arrays import Int4Array, TimestampArray

from ..catalogue.series import Ids
from .cells import Cells, Winners
from .frontier import search, strict_frontier
from .lookups import Asked, Bounds, look_up
from .readers import Readers

_queries = db.load("features")
POINTS_PER_CELL = 15
_LOOKBACK = 2  # times the usual time between two points: one more to read, few are missed
_ALWAYS_LOOK_UP = 500  # cells; the question which plan is better would cost more than the answer
_SAMPLE = 16
_SERIES_AT_ONCE, _SMALLEST_PART = 20_000, 100


class Density(NamedTuple):
    """About how many points all that is asked for would read, and how far apart they are."""

    points: float
    spacing: timedelta | None


class StoredSeries(NamedTuple):
    """The points of one series in the order of its key."""

    event: Micros
    ingest: Micros
    value: npt.NDArray[np.float64]
    has_json: bool
    write: npt.NDArray[np.int64] | None


def fill(
    readers: Readers, cells: Cells, asked: list[Asked], bounds: Bounds, plan: str | None = None
) -> None:
    """Enter the winners of all that is asked, in the given order, by `plan` or the cheaper one."""
    asked = [one for one in asked if len(one.rows)]
    if not asked:
        return
    density = measure(readers.conn, asked, bounds)
    writes = cells.write is not None or bounds.written_by is not None
    if (plan or choose(asked, density)) == "stream":
        found = stream(readers, asked, bounds, writes=writes)
    else:
        near = None if density is None or not density.spacing else _LOOKBACK * density.spacing
        found = look_up(readers, asked, bounds, writes=writes, lookback=near)
    for winners in found:
        cells.put(winners)
    _fetch_structures(readers.conn, cells)


def measure(conn: db.Connection, asked: list[Asked], bounds: Bounds) -> Density | None:
    """Count the points of a few of the series; None where so little is asked that it costs more."""
    if sum(len(one.rows) for one in asked) <= _ALWAYS_LOOK_UP:
        return None
    sample = asked[:: max(1, len(asked) // _SAMPLE)]
    first, last = _stretch(asked, bounds)
    ids = {"series": [one.series for one in sample], "first": first, "last": last}
    row: Any = conn.execute(_queries.count_points, ids).fetchone()
    count, begun = row
    spacing = (last - begun) * len(sample) / count if count else None
    return Density(count / len(sample) * len(asked), spacing)


def choose(asked: list[Asked], density: Density | None) -> str:
    """ "lookup" or "stream", whichever is the cheaper."""
    wanted = sum(len(one.rows) for one in asked)
    too_many = density is None or density.points >= POINTS_PER_CELL * wanted
    return "lookup" if too_many else "stream"


def stream(
    readers: Readers, asked: list[Asked], bounds: Bounds, *, writes: bool
) -> Iterator[Winners]:
    """Read the series once each, reduce them to their frontier, and search it."""
    first, last = _stretch(asked, bounds)
    window = {"first": first, "last": last, "last_ingest": last, "written_by": bounds.written_by}
    size = readers.share(len(asked), _SMALLEST_PART, _SERIES_AT_ONCE)
    parts = (asked[start : start + size] for start in range(0, len(asked), size))
    for found in readers.map(
        lambda conn, part: list(_reduce(conn, part, window, writes=writes)), parts
    ):
        yield from found


def _reduce(
    conn: db.Connection, asked: list[Asked], window: dict[str, Any], *, writes: bool
) -> Iterator[Winners]:
    ids = np.array([one.series for one in asked], dtype=np.int32)
    for position, series in stream_series(conn, ids, window, writes=writes):
        one = asked[position]
        found = search(strict_frontier(series.event, series.ingest), one.as_of)
        hit = found >= 0
        at = found[hit]
        if len(at):
            yield Winners(
                one.feature,
                one.rows[hit],
                one.series,
                one.version,
                series.event[at],
                series.ingest[at],
                series.value[at],
                None if series.write is None else series.write[at],
                series.has_json,
            )


def stream_series(
    conn: db.Connection, ids: Ids, window: dict[str, Any], *, writes: bool = False
) -> Iterator[tuple[int, StoredSeries]]:
    """The points of each series in a window, with its position in `ids`; empty ones are left out.

    `window` has first and last (of event_time), last_ingest, and with `writes` also written_by.
    Memory is that of one series.
    """
    query = _queries.stream_series_writes if writes else _queries.stream_series
    for start in range(0, len(ids), _SERIES_AT_ONCE):
        parameters = {**window, "series": Int4Array(ids[start : start + _SERIES_AT_ONCE])}
        with conn.cursor(binary=True) as cursor:
            for position, event, ingest, value, has_json, write in cursor.stream(query, parameters):
                yield start + position - 1, StoredSeries(event, ingest, value, has_json, write)


def _stretch(asked: list[Asked], bounds: Bounds) -> tuple[datetime | str, datetime]:
    """The event times between which all winners lie."""
    first, last = min(one.as_of[0] for one in asked), max(one.as_of[-1] for one in asked)
    if bounds.max_age is None:
        return "-infinity", from_micros(last)
    return from_micros(first) - bounds.max_age, from_micros(last)


def _fetch_structures(conn: db.Connection, cells: Cells) -> None:
    for winners in cells.pending():
        keys, inverse = np.unique(
            np.stack([winners.event, winners.ingest]), axis=1, return_inverse=True
        )
        parameters = {
            "series": Int4Array(np.full(keys.shape[1], winners.series)),
            "event": TimestampArray(keys[0]),
            "ingest": TimestampArray(keys[1]),
        }
        found = np.full(keys.shape[1], None, dtype=object)
        for position, value in conn.execute(_queries.structures, parameters):
            found[position - 1] = value
        cells.put_structures(winners, found[inverse.ravel()])
