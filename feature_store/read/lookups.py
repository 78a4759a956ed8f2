"""Looking cells up in the index, for spines that are small beside what is stored.

Most winners are recent, so first the last few points of all series of an entity are read in lookup
go for each row of the spine: 60 microseconds for a row of twenty features, where twenty searches
take 200. What has no recent point is then searched for by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlflow_timescale import db
from mlflow_timescale.common.micros import Micros
from mlflow_timescale.db.arrays import Int4Array, TimestampArray

from ..catalogue.series import Positions
from .cells import Winners
from .readers import Readers

_queries = db.load("features")
_LARGEST_PART, _SMALLEST_PART = 20_000, 4_000  # cells


class SeriesLookup(NamedTuple):
    """One series, and the rows of the spine that need it, in the order of their as_of."""

    series: int
    feature: int
    version: int
    rows: Positions
    as_of: Micros

    def take(self, chosen: slice | npt.NDArray[np.bool_]) -> SeriesLookup:
        """Only some of the rows."""
        return self._replace(rows=self.rows[chosen], as_of=self.as_of[chosen])


class Bounds(NamedTuple):
    """Limits of a read: values older than `max_age` or written after `written_by` are left out."""

    max_age: timedelta | None = None
    written_by: datetime | None = None


def look_up(
    readers: Readers,
    lookups: list[SeriesLookup],
    bounds: Bounds,
    *,
    writes: bool,
    lookback: timedelta | None = None,
) -> Iterator[Winners]:
    """Search the index for each cell; with `lookback`, read the latest points first."""
    cells = sum(len(lookup.rows) for lookup in lookups)
    size = readers.share(cells, _SMALLEST_PART, _LARGEST_PART)
    if lookback is None or writes:
        for each in readers.map(
            lambda conn, part: _search(conn, part, bounds, writes=writes), _chunks(lookups, size)
        ):
            yield from each
        return
    for recent_first in readers.map(
        lambda conn, groups: list(_look_back(conn, groups, bounds, lookback)), _parts(lookups, size)
    ):
        yield from recent_first


def _look_back(
    conn: db.Connection, groups: list[list[SeriesLookup]], bounds: Bounds, lookback: timedelta
) -> Iterator[Winners]:
    """The latest points of the series; a search in the index where there are none."""
    is_all = bounds.max_age is not None and bounds.max_age <= lookback
    recent = _recent(conn, groups, bounds.max_age if is_all else lookback)
    older: dict[int, Winners] = {}
    if not is_all:
        without_hit = list(_without(groups, recent))
        older = {hit.series: hit for hit in _search(conn, without_hit, bounds, writes=False)}
    # In the order of `lookups`: the value of a newer version overwrites that of an older one.
    for lookup in (lookup for group in groups for lookup in group):
        if lookup.series in recent:
            yield recent[lookup.series]
        if lookup.series in older:
            yield older[lookup.series]


def _search(
    conn: db.Connection, part: list[SeriesLookup], bounds: Bounds, *, writes: bool
) -> list[Winners]:
    """Search the index for each cell."""
    if not part:
        return []
    query = _queries.lookup_points_writes if writes else _queries.lookup_points
    series = np.repeat([lookup.series for lookup in part], [len(lookup.rows) for lookup in part])
    parameters = {
        "series": Int4Array(series),
        "as_of": TimestampArray(np.concatenate([lookup.as_of for lookup in part])),
        "max_age": bounds.max_age,
        "written_by": bounds.written_by,
    }
    with conn.cursor(binary=True) as cursor:
        row: Any = cursor.execute(query, parameters).fetchone()
    return [] if row[0] is None else list(_split(part, *row))


def _parts(lookups: list[SeriesLookup], size: int) -> Iterator[list[list[SeriesLookup]]]:
    """Series by entity, whose rows are the same, cut where a part has about `size` cells."""
    by_entity: dict[int, list[SeriesLookup]] = {}
    for lookup in lookups:
        by_entity.setdefault(int(lookup.rows[0]), []).append(lookup)
    part: list[list[SeriesLookup]] = []
    cells = 0
    for group in by_entity.values():
        step = max(1, size // len(group))
        for start in range(0, len(group[0].rows), step):
            part.append([lookup.take(slice(start, start + step)) for lookup in group])
            cells += len(group) * len(part[-1][0].rows)
            if cells >= size or step < len(group[0].rows):
                yield part
                part, cells = [], 0
    if part:
        yield part


def _recent(
    conn: db.Connection, groups: list[list[SeriesLookup]], lookback: timedelta | None
) -> dict[int, Winners]:
    """By series, the winners that happened within `lookback` before their as_of."""
    firsts = [group[0] for group in groups]
    series = [lookup.series for group in groups for lookup in group]
    numbers = np.arange(len(groups), dtype=np.int32)
    parameters = {
        "series": Int4Array(np.array(series, dtype=np.int32)),
        "entity": Int4Array(numbers.repeat([len(group) for group in groups])),
        "asked": Int4Array(numbers.repeat([len(lookup.rows) for lookup in firsts])),
        "as_of": TimestampArray(np.concatenate([lookup.as_of for lookup in firsts])),
        "lookback": lookback,
    }
    with conn.cursor(binary=True) as cursor:
        row: Any = cursor.execute(_queries.recent_points, parameters).fetchone()
    if row[0] is None:
        return {}
    position, ids, event, ingest = row[:4]
    order = np.lexsort((ingest, event, position, ids))
    ids, position = ids[order], position[order]
    last = np.append((ids[1:] != ids[:-1]) | (position[1:] != position[:-1]), True)
    latest = order[last]
    ids, rows = ids[last], np.concatenate([lookup.rows for lookup in firsts])[position[last] - 1]
    by_series = {}
    starts, ends = (np.searchsorted(ids, series, side) for side in ("left", "right"))
    all_lookups = (lookup for group in groups for lookup in group)
    for lookup, start, end in zip(all_lookups, starts.tolist(), ends.tolist(), strict=True):
        if end > start:
            at = slice(start, end)
            point = latest[at]
            by_series[lookup.series] = Winners(
                lookup.feature,
                rows[at],
                lookup.series,
                lookup.version,
                event[point],
                ingest[point],
                row[4][point],
                None,
                bool(row[5][point].any()),
            )
    return by_series


def _without(
    groups: list[list[SeriesLookup]], recent: dict[int, Winners]
) -> Iterator[SeriesLookup]:
    """The lookups without a hit."""
    for lookup in (lookup for group in groups for lookup in group):
        if lookup.series not in recent:
            yield lookup
        elif len(recent[lookup.series].rows) < len(lookup.rows):
            yield lookup.take(~np.isin(lookup.rows, recent[lookup.series].rows))


def _chunks(lookups: list[SeriesLookup], size: int) -> Iterator[list[SeriesLookup]]:
    """Cut into parts of about `size` cells; a series with more is cut itself."""
    part: list[SeriesLookup] = []
    count = 0
    for lookup in lookups:
        for start in range(0, len(lookup.rows), size):
            piece = lookup.take(slice(start, start + size))
            part.append(piece)
            count += len(piece.rows)
            if count >= size:
                yield part
                part, count = [], 0
    if part:
        yield part


def _split(part: list[SeriesLookup], position: Any, *columns: Any) -> Iterator[Winners]:
    """Split the result of many lookups by series."""
    order = np.argsort(position, kind="stable")
    position = position[order] - 1
    event, ingest, value, is_json = (column[order] for column in columns[:4])
    write = None if columns[4] is None else columns[4][order]
    ends = np.cumsum([len(lookup.rows) for lookup in part])
    cuts = np.searchsorted(position, np.concatenate([[0], ends]))
    for i, lookup in enumerate(part):
        at = slice(cuts[i], cuts[i + 1])
        if at.stop > at.start:
            rows = lookup.rows[position[at] - (ends[i] - len(lookup.rows))]
            yield Winners(
                lookup.feature,
                rows,
                lookup.series,
                lookup.version,
                event[at],
                ingest[at],
                value[at],
                None if write is None else write[at],
                bool(is_json[at].any()),
            )
