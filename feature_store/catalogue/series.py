"""Series: the integer that stands for an (entity, feature, version) in every point."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlflow_timescale import db
from mlflow_timescale.db.arrays import Int4Array

from ..values.points import Points

_queries = db.load("features")
_PAIRS_AT_ONCE = 200_000
Ids = npt.NDArray[np.int32]
Keys = npt.NDArray[np.int64]
Positions = npt.NDArray[np.intp]


class _Pairs(NamedTuple):
    """Distinct (entity, feature) of a batch, as positions in its two lists of names, in order."""

    entities: list[str]
    features: list[str]
    entity: Positions
    feature: Positions

    def take(self, rows: npt.NDArray[Any] | slice) -> _Pairs:
        return self._replace(entity=self.entity[rows], feature=self.feature[rows])

    def parameters(self) -> dict[str, Any]:
        """The pairs as positions (from 1) among the names that they use."""
        (entities, entity), (features, feature) = (
            np.unique(codes, return_inverse=True) for codes in (self.entity, self.feature)
        )
        return {
            "entities": [self.entities[code] for code in entities.tolist()],
            "features": [self.features[code] for code in features.tolist()],
            "entity": Int4Array(entity + 1),
            "feature": Int4Array(feature + 1),
        }


class SeriesWriter:
    """The ids of the series of one version, created when first written.

    What it has learned it keeps as two arrays, 12 bytes a series: a wide frame has millions.
    """

    def __init__(self, conn: db.Connection, version: int) -> None:
        self._conn = conn
        self._version = version
        self._numbers: dict[str, int] = {}
        self._keys: Keys = np.empty(0, dtype=np.int64)
        self._ids: Ids = np.empty(0, dtype=np.int32)

    def ids(self, points: Points) -> Ids:
        """The series of each point.

        New series are committed at once, in a transaction of their own: a long write would
        otherwise make every other writer of a new series wait for its end.
        """
        width = len(points.features)
        flat = points.entity.astype(np.int64) * width + points.feature
        used, grid = _distinct(flat, len(points.entities) * width)
        pairs = _Pairs(points.entities, points.features, *np.divmod(used, max(1, width)))
        keys = self._key(points.entities, points.features, pairs.entity, pairs.feature)
        self._learn(pairs.take(~self._knows(keys)))
        return self._ids[np.searchsorted(self._keys, keys)][grid]

    def _key(
        self, entities: list[str], features: list[str], entity: Positions, feature: Positions
    ) -> Keys:
        """One integer for each pair of names, the same in every batch."""
        high, low = (
            np.array([self._numbers.setdefault(n, len(self._numbers)) for n in names], np.int64)
            for names in (entities, features)
        )
        return (high[entity] << 32) | low[feature]

    def _learn(self, unknown: _Pairs) -> None:
        for first in range(0, len(unknown.entity), _PAIRS_AT_ONCE):
            part = unknown.take(slice(first, first + _PAIRS_AT_ONCE))
            missing = part.take(~self._find(part))
            if len(missing.entity):
                self._conn.execute(_queries.create_series, self._parameters(missing))
                self._find(missing)

    def _find(self, pairs: _Pairs) -> npt.NDArray[np.bool_]:
        """Look up ids; return which pairs have one."""
        parameters = self._parameters(pairs)
        with self._conn.cursor(binary=True) as cursor:
            # Unprepared: the best join depends on the length of the arrays, which a generic plan
            # does not consider.
            row: Any = cursor.execute(_queries.find_series, parameters, prepare=False).fetchone()
        if row[0] is None:
            return np.zeros(len(pairs.entity), dtype=bool)
        names = parameters["entities"], parameters["features"]
        self._keep(self._key(*names, row[0] - 1, row[1] - 1), row[2])
        keys = self._key(pairs.entities, pairs.features, pairs.entity, pairs.feature)
        return self._knows(keys)

    def _knows(self, keys: Keys) -> npt.NDArray[np.bool_]:
        if not len(self._keys):
            return np.zeros(len(keys), dtype=bool)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        is_known: npt.NDArray[np.bool_] = self._keys[at] == keys
        return is_known

    def _keep(self, keys: Keys, ids: Ids) -> None:
        self._keys, first = np.unique(np.concatenate([self._keys, keys]), return_index=True)
        self._ids = np.concatenate([self._ids, ids])[first]

    def _parameters(self, pairs: _Pairs) -> dict[str, Any]:
        return {**pairs.parameters(), "version": self._version}


def _distinct(
    flat: npt.NDArray[np.int64], size: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The distinct values of codes below `size`, and the position of each code among them."""
    if size > 4 * len(flat) + 1024:
        used, position = np.unique(flat, return_inverse=True)
        return used.astype(np.intp), position
    is_used = np.bincount(flat, minlength=size) > 0
    return np.flatnonzero(is_used), (np.cumsum(is_used) - 1)[flat]
