"""The two ways to find what was known: look up each cell, or stream whole series past the spine.

A lookup costs 3 to 5 microseconds a cell, a streamed point 0.3, so streaming wins where fewer than
about 15 points are stored for each cell. Both give the same answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlflow_timescale import db
from mlflow_timescale.common.micros import FIRST, Micros
from mlflow_timescale.common.time import MICROSECOND, from_micros
from mlflow_timescale.db.arrays import Int4Array, TimestampArray

from ..catalogue.series import Ids
from .cells import Cells, Winners
from .frontier import search, strict_frontier
from .lookups import Bounds, SeriesLookup, look_up
from .readers import Readers

_queries = db.load("features")
POINTS_PER_CELL = 15
_LOOKBACK = 2  # times the usual interval of points: one extra point to read, few misses
_ALWAYS_LOOK_UP = 500  # cells; the question which plan is better would cost more than the answer
_SAMPLE = 16
_SERIES_AT_ONCE, _SMALLEST_PART = 20_000, 100
_STRUCTURES_AT_ONCE = 100_000


class Density(NamedTuple):
    """Estimates for a streamed read: the number of points, and their usual interval."""

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
    readers: Readers,
    cells: Cells,
    lookups: list[SeriesLookup],
    bounds: Bounds,
    plan: str | None = None,
) -> None:
    """Fill the cells of all lookups, in the given order, by `plan` or the cheaper plan."""
    lookups = [lookup for lookup in lookups if len(lookup.rows)]
    if not lookups:
        return
    density = measure(readers.conn, lookups, bounds)
    writes = cells.write is not None or bounds.written_by is not None
    if (plan or choose(lookups, density)) == "stream":
        batches = stream(readers, lookups, bounds, writes=writes)
    else:
        near = _near(lookups, density)
        batches = look_up(readers, lookups, bounds, writes=writes, lookback=near)
    for winners in batches:
        cells.put(winners)
    _fetch_structures(readers.conn, cells)


def measure(conn: db.Connection, lookups: list[SeriesLookup], bounds: Bounds) -> Density | None:
    """Count the points of a sample of series; None where the count costs more than the read."""
    if sum(len(lookup.rows) for lookup in lookups) <= _ALWAYS_LOOK_UP:
        return None
    sample = lookups[:: max(1, len(lookups) // _SAMPLE)]
    first, last = _stretch(lookups, bounds)
    ids = {"series": [lookup.series for lookup in sample], "first": first, "last": last}
    row: Any = conn.execute(_queries.count_points, ids).fetchone()
    count, begun = row
    spacing = (last - begun) * len(sample) / count if count else None
    return Density(count / len(sample) * len(lookups), spacing)


def choose(lookups: list[SeriesLookup], density: Density | None) -> str:
    """The cheaper plan: "lookup" or "stream"."""
    cells_wanted = sum(len(lookup.rows) for lookup in lookups)
    too_many = density is None or density.points >= POINTS_PER_CELL * cells_wanted
    return "lookup" if too_many else "stream"


def _near(lookups: list[SeriesLookup], density: Density | None) -> timedelta | None:
    """How far before as_of to read first; None where that is not known, or before the year 1."""
    if density is None or not density.spacing:
        return None
    near = _LOOKBACK * density.spacing
    earliest = min(int(lookup.as_of[0]) for lookup in lookups)
    return near if earliest - near // MICROSECOND >= FIRST else None


def stream(
    readers: Readers, lookups: list[SeriesLookup], bounds: Bounds, *, writes: bool
) -> Iterator[Winners]:
    """Read the series once each, reduce them to their frontier, and search it."""
    first, last = _stretch(lookups, bounds)
    window = {"first": first, "last": last, "last_ingest": last, "written_by": bounds.written_by}
    size = readers.share(len(lookups), _SMALLEST_PART, _SERIES_AT_ONCE)
    parts = (lookups[start : start + size] for start in range(0, len(lookups), size))
    for batch in readers.map(
        lambda conn, part: list(_reduce(conn, part, window, writes=writes)), parts
    ):
        yield from batch


def _reduce(
    conn: db.Connection, lookups: list[SeriesLookup], window: dict[str, Any], *, writes: bool
) -> Iterator[Winners]:
    ids = np.array([lookup.series for lookup in lookups], dtype=np.int32)
    for position, series in stream_series(conn, ids, window, writes=writes):
        lookup = lookups[position]
        positions = search(strict_frontier(series.event, series.ingest), lookup.as_of)
        hit = positions >= 0
        at = positions[hit]
        if len(at):
            yield Winners(
                lookup.feature,
                lookup.rows[hit],
                lookup.series,
                lookup.version,
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
    Memory is bounded by one series.
    """
    query = _queries.stream_series_writes if writes else _queries.stream_series
    for start in range(0, len(ids), _SERIES_AT_ONCE):
        parameters = {**window, "series": Int4Array(ids[start : start + _SERIES_AT_ONCE])}
        with conn.cursor(binary=True) as cursor:
            for position, event, ingest, value, has_json, write in cursor.stream(query, parameters):
                yield start + position - 1, StoredSeries(event, ingest, value, has_json, write)


def _stretch(lookups: list[SeriesLookup], bounds: Bounds) -> tuple[datetime | str, datetime]:
    """The event times between which all winners lie."""
    first, last = (
        min(lookup.as_of[0] for lookup in lookups),
        max(lookup.as_of[-1] for lookup in lookups),
    )
    if bounds.max_age is None:
        return "-infinity", from_micros(last)
    return from_micros(first) - bounds.max_age, from_micros(last)


def _fetch_structures(conn: db.Connection, cells: Cells) -> None:
    for group in _groups(cells.pending()):
        series = np.repeat([w.series for w in group], [len(w.rows) for w in group])
        event, ingest = (
            np.concatenate([getattr(w, name) for w in group]) for name in ("event", "ingest")
        )
        # Most rows of a spine see the same few values: each is fetched once.
        keys, inverse = np.unique(np.stack([series, event, ingest]), axis=1, return_inverse=True)
        values = _structures(conn, keys)[inverse.ravel()]
        ends = np.cumsum([len(w.rows) for w in group])[:-1]
        for winners, part in zip(group, np.split(values, ends), strict=True):
            cells.put_structures(winners, part)


def _structures(conn: db.Connection, keys: npt.NDArray[np.int64]) -> npt.NDArray[np.object_]:
    """The structures of points by (series, event, ingest), shape (3, points)."""
    parameters = {
        "series": Int4Array(keys[0]),
        "event": TimestampArray(keys[1]),
        "ingest": TimestampArray(keys[2]),
    }
    values: npt.NDArray[np.object_] = np.full(keys.shape[1], None, dtype=object)
    for position, value in conn.execute(_queries.structures, parameters):
        values[position - 1] = value
    return values


def _groups(pending: list[Winners]) -> Iterator[list[Winners]]:
    """Winners together that have about `_STRUCTURES_AT_ONCE` rows, so that memory stays bounded."""
    group: list[Winners] = []
    rows = 0
    for winners in pending:
        group.append(winners)
        rows += len(winners.rows)
        if rows >= _STRUCTURES_AT_ONCE:
            yield group
            group, rows = [], 0
    if group:
        yield group
