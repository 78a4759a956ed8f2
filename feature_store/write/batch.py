"""A batch of points in the order of their key, as it goes into the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import Cursor
from psycopg.sql import SQL

from mlflow_timescale.common.micros import Micros
from mlflow_timescale.common.time import from_micros
from mlflow_timescale.db.binary_copy import Field

from ..catalogue.series import Ids
from ..errors import ConflictingValues
from ..values.encoding import Floats, is_there
from ..values.points import Points
from .copying import copy_json, copy_numbers, timestamps

_SHOWN = 10


@dataclass(frozen=True)
class Batch:
    """Points by (series, event_time, ingest_time), each key once; the index is written in order."""

    series: Ids
    event: Micros
    ingest: Micros | None
    value: Floats
    json: npt.NDArray[np.object_] | None

    def __len__(self) -> int:
        return len(self.series)

    @property
    def is_json(self) -> npt.NDArray[np.bool_]:
        """Which points are structures."""
        if self.json is None:
            return np.zeros(len(self), dtype=bool)
        return is_there(self.json)

    def event_ranges(self) -> tuple[Ids, Micros, Micros]:
        """The distinct series, and the first and last event of each."""
        first = np.flatnonzero(np.diff(self.series, prepend=-1))
        last = np.append(first[1:], len(self)) - 1
        return self.series[first], self.event[first], self.event[last]

    def copy(self, cursor: Cursor[Any], numbers: SQL, structures: SQL, *more: Field) -> None:
        """COPY into a table with the columns series, event, [ingest,] [more,] value."""
        fields: list[Field] = [self.series, timestamps(self.event)]
        if self.ingest is not None:
            fields.append(timestamps(self.ingest))
        fields += more
        json = self.is_json
        if self.json is None or not json.all():
            columns = [*fields, self.value]
            copy_numbers(
                cursor, numbers, columns if self.json is None else [f[~json] for f in columns]
            )
        if self.json is not None and json.any():
            texts = self.json[json].tolist()
            copy_json(cursor, structures, [field[json] for field in fields], texts)


def make_batch(points: Points, series: Ids) -> Batch:
    """Sort points by key and drop duplicates. Two values of one key raise ConflictingValues."""
    order = _key_order(series, points.event, points.ingest)
    keys: list[Field] = [series[order], points.event[order]]
    if points.ingest is not None:
        keys.append(points.ingest[order])
    repeated = np.zeros(len(order), dtype=bool)
    if len(order) > 1:
        repeated[1:] = np.logical_and.reduce([key[1:] == key[:-1] for key in keys])
    if repeated.any():
        _refuse_contradictions(points, order, repeated)
        order = order[~repeated]
    json = points.json
    return Batch(
        series[order],
        points.event[order],
        None if points.ingest is None else points.ingest[order],
        points.value[order],
        None if json is None else json[order],
    )


def _key_order(series: Ids, event: Micros, ingest: Micros | None) -> npt.NDArray[np.intp]:
    keys: list[Field] = [event, series] if ingest is None else [ingest, event, series]
    return np.lexsort(keys)


def _refuse_contradictions(
    points: Points, order: npt.NDArray[np.intp], repeated: npt.NDArray[np.bool_]
) -> None:
    second = order[repeated]
    first = order[np.flatnonzero(repeated) - 1]
    same = (points.value[first] == points.value[second]) | (
        np.isnan(points.value[first]) & np.isnan(points.value[second])
    )
    if points.json is not None:
        same &= points.json[first] == points.json[second]
    if not same.all():
        pairs = list(zip(first[~same], second[~same], strict=True))
        rows = [_contradiction(points, a, b) for a, b in pairs[:_SHOWN]]
        raise ConflictingValues(rows, len(pairs), "The frame itself gives two values for one key")


def _contradiction(points: Points, first: int, second: int) -> dict[str, Any]:
    def value(row: int) -> Any:
        text = None if points.json is None else points.json[row]
        return float(points.value[row]) if text is None else text

    ingest_time = points.event[first] if points.ingest is None else points.ingest[first]
    return {
        "entity_key": points.entities[points.entity[first]],
        "feature_name": points.features[points.feature[first]],
        "feature_version": "",
        "event_time": from_micros(points.event[first]),
        "ingest_time": from_micros(ingest_time),
        "stored": value(first),
        "given": value(second),
    }
