"""Series: the integer that stands for an (entity, feature, version) in every point."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from feature_store.points import Points
from mlflow_timescale import db

_queries = db.load("features")
_PAIRS_AT_ONCE = 20_000
Ids = npt.NDArray[np.int32]


class SeriesWriter:
    """The ids of the series of one version, created when first written."""

    def __init__(self, conn: db.Connection, version: int) -> None:
        self._conn = conn
        self._version = version
        self._ids: dict[tuple[str, str], int] = {}

    def ids(self, points: Points) -> Ids:
        """The series of each point.

        New series are committed at once, in a transaction of their own: a long write would
        otherwise make every other writer of a new series wait for its end.
        """
        width = len(points.features)
        flat = points.entity.astype(np.int64) * width + points.feature
        used, grid = _distinct(flat, len(points.entities) * width)
        pairs = [(points.entities[k // width], points.features[k % width]) for k in used.tolist()]
        self._learn([pair for pair in pairs if pair not in self._ids])
        ids = np.fromiter((self._ids[pair] for pair in pairs), dtype=np.int32, count=len(pairs))
        return ids[grid]

    def _learn(self, pairs: list[tuple[str, str]]) -> None:
        for first in range(0, len(pairs), _PAIRS_AT_ONCE):
            part = pairs[first : first + _PAIRS_AT_ONCE]
            missing = self._find(part)
            if missing:
                self._conn.execute(_queries.create_series, self._parameters(missing))
                self._find(missing)

    def _find(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Look ids up, and return the pairs that have none."""
        with self._conn.cursor(binary=True) as cursor:
            row: Any = cursor.execute(_queries.find_series, self._parameters(pairs)).fetchone()
        positions, ids = row
        if positions is not None:
            for position, series_id in zip(positions.tolist(), ids.tolist(), strict=True):
                self._ids[pairs[position - 1]] = series_id
        return [pair for pair in pairs if pair not in self._ids]

    def _parameters(self, pairs: list[tuple[str, str]]) -> dict[str, Any]:
        entities, features = map(list, zip(*pairs, strict=True))
        return {"entities": entities, "features": features, "version": self._version}


def _distinct(
    flat: npt.NDArray[np.int64], size: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The distinct values of codes below `size`, and the position of each code among them."""
    if size > 4 * len(flat) + 1024:
        used, position = np.unique(flat, return_inverse=True)
        return used.astype(np.intp), position
    there = np.bincount(flat, minlength=size) > 0
    return np.flatnonzero(there), (np.cumsum(there) - 1)[flat]
