"""The two ways to find what was known: look up each cell, or stream whole series past the spine.

A lookup costs 12 to 15 microseconds a cell, a streamed point 0.3, so streaming wins where fewer
than about 45 points are stored for each cell that is asked for. Both give the same answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from feature_store.arrays import Int4Array, TimestampArray
from feature_store.cells import Cells, Rows, Winners
from feature_store.frontier import search, strict_frontier
from feature_store.series import Ids
from feature_store.times import Micros, from_micros
from mlflow_timescale import db

_queries = db.load("features")
POINTS_PER_CELL = 45
_BOUNDED_POINTS_PER_CELL = 20  # with a lower bound a lookup costs half
_ALWAYS_LOOK_UP = 500  # cells; the question which plan is better would cost more than the answer
_SAMPLE = 16
_LOOKUPS_AT_ONCE = 20_000
_SERIES_AT_ONCE = 20_000


class Asked(NamedTuple):
    """One series, and the rows of the spine that ask for it, in the order of their as_of."""

    series: int
    feature: int
    version: int
    rows: Rows
    as_of: Micros


@dataclass(frozen=True)
class Bounds:
    """What a read may leave out: older than `max_age`, written after `written_by`."""

    max_age: timedelta | None = None
    written_by: datetime | None = None


class Series(NamedTuple):
    """The points of one series in the order of its key."""

    event: Micros
    ingest: Micros
    value: npt.NDArray[np.float64]
    has_json: bool
    write: npt.NDArray[np.int64] | None


def fill(
    conn: db.Connection, cells: Cells, asked: list[Asked], bounds: Bounds, plan: str | None = None
) -> None:
    """Enter the winners of all that is asked, in the given order, by `plan` or the cheaper one."""
    asked = [one for one in asked if len(one.rows)]
    if not asked:
        return
    plan = plan or choose(conn, asked, bounds)
    writes = cells.write is not None or bounds.written_by is not None
    execute = look_up if plan == "lookup" else stream
    for found in execute(conn, asked, bounds, writes=writes):
        cells.put(found)
    _fetch_structures(conn, cells)


def choose(conn: db.Connection, asked: list[Asked], bounds: Bounds) -> str:
    """ "lookup" or "stream", by counting the points of a few of the series."""
    wanted = sum(len(one.rows) for one in asked)
    if wanted <= _ALWAYS_LOOK_UP:
        return "lookup"
    sample = asked[:: max(1, len(asked) // _SAMPLE)]
    first, last = _stretch(asked, bounds)
    ids = {"series": [one.series for one in sample], "first": first, "last": last}
    row: Any = conn.execute(_queries.count_points, ids).fetchone()
    stored = row[0] / len(sample) * len(asked)
    ratio = POINTS_PER_CELL if bounds.max_age is None else _BOUNDED_POINTS_PER_CELL
    return "stream" if stored < ratio * wanted else "lookup"


def look_up(
    conn: db.Connection, asked: list[Asked], bounds: Bounds, *, writes: bool
) -> Iterator[Winners]:
    """Ask the index for each cell."""
    query = _queries.lookup_points_writes if writes else _queries.lookup_points
    for part in _chunks(asked, _LOOKUPS_AT_ONCE):
        series = np.repeat([one.series for one in part], [len(one.rows) for one in part])
        as_of = np.concatenate([one.as_of for one in part])
        parameters = {
            "series": Int4Array(series),
            "as_of": TimestampArray(as_of),
            "max_age": bounds.max_age,
            "written_by": bounds.written_by,
        }
        with conn.cursor(binary=True) as cursor:
            row: Any = cursor.execute(query, parameters).fetchone()
        if row[0] is not None:
            yield from _split(part, *row)


def stream(
    conn: db.Connection, asked: list[Asked], bounds: Bounds, *, writes: bool
) -> Iterator[Winners]:
    """Read the series once each, reduce them to their frontier, and search it."""
    first, last = _stretch(asked, bounds)
    ids = np.array([one.series for one in asked], dtype=np.int32)
    window = {"first": first, "last": last, "last_ingest": last, "written_by": bounds.written_by}
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
) -> Iterator[tuple[int, Series]]:
    """The points of each series in a window, with its position in `ids`; empty ones are left out.

    `window` has first and last (of event_time), last_ingest, and with `writes` also written_by.
    Memory is that of one series.
    """
    query = _queries.stream_series_writes if writes else _queries.stream_series
    for start in range(0, len(ids), _SERIES_AT_ONCE):
        parameters = {**window, "series": Int4Array(ids[start : start + _SERIES_AT_ONCE])}
        with conn.cursor(binary=True) as cursor:
            for position, event, ingest, value, has_json, write in cursor.stream(query, parameters):
                yield start + position - 1, Series(event, ingest, value, has_json, write)


def _stretch(asked: list[Asked], bounds: Bounds) -> tuple[datetime | str, datetime]:
    """The event times between which all winners lie."""
    first, last = min(one.as_of[0] for one in asked), max(one.as_of[-1] for one in asked)
    if bounds.max_age is None:
        return "-infinity", from_micros(last)
    return from_micros(first) - bounds.max_age, from_micros(last)


def _chunks(asked: list[Asked], size: int) -> Iterator[list[Asked]]:
    """Cut into parts of about `size` cells; a series with more is cut itself."""
    part: list[Asked] = []
    count = 0
    for one in asked:
        for start in range(0, len(one.rows), size):
            piece = one._replace(
                rows=one.rows[start : start + size], as_of=one.as_of[start : start + size]
            )
            part.append(piece)
            count += len(piece.rows)
            if count >= size:
                yield part
                part, count = [], 0
    if part:
        yield part


def _split(part: list[Asked], position: Any, *columns: Any) -> Iterator[Winners]:
    """Cut the answer to many lookups into one for each series."""
    order = np.argsort(position, kind="stable")
    position = position[order] - 1
    event, ingest, value, is_json, write = (c if c is None else c[order] for c in columns)
    ends = np.cumsum([len(one.rows) for one in part])
    cuts = np.searchsorted(position, np.concatenate([[0], ends]))
    for i, one in enumerate(part):
        at = slice(cuts[i], cuts[i + 1])
        if at.stop > at.start:
            rows = one.rows[position[at] - (ends[i] - len(one.rows))]
            yield Winners(
                one.feature,
                rows,
                one.series,
                one.version,
                event[at],
                ingest[at],
                value[at],
                None if write is None else write[at],
                bool(is_json[at].any()),
            )


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
