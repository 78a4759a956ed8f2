"""The points of all features in a time, and the newest value of each entity in a part of it.

For readers that judge features over many entities at once, such as the drift monitor: one pass over
the points for any number of features and periods.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlflow_timescale import db
from mlflow_timescale.common.time import to_micros
from mlflow_timescale.db import arrays
from mlflow_timescale.db.rows import scalar

_queries = db.load("features")
# A value known longer than this before its event (a forecast) is not looked for.
FOREKNOWLEDGE = timedelta(days=3)
FEW = 50  # entities that may be joined in any way


class Period(NamedTuple):
    """The events after one moment, until another one, as far as they were known at a third."""

    after: datetime
    until: datetime
    known_by: datetime


class CrossSection(NamedTuple):
    """One value for each entity: their increasing numbers, the values, the event times in µs."""

    entities: NDArray[np.int64]
    values: NDArray[np.float64]
    events: NDArray[np.int64]


class FeaturePoints(NamedTuple):
    """All points of one version of a feature, in order of entity, event and ingest time (µs).

    `texts` holds the text of each point, None for a number; it is None where all are numbers. The
    value of a text is -inf.
    """

    feature: str
    version: int
    entities: NDArray[np.int64]
    events: NDArray[np.int64]
    ingests: NDArray[np.int64]
    values: NDArray[np.float64]
    texts: NDArray[np.object_] | None

    def newest(self, period: Period, entities: NDArray[np.int64]) -> CrossSection:
        """The newest value of each entity in a period; only of `entities` (increasing), if any."""
        visible = (self.events > to_micros(period.after)) & (self.events <= to_micros(period.until))
        visible &= self.ingests <= to_micros(period.known_by)
        if len(entities):
            at = np.searchsorted(entities, self.entities)
            visible &= entities[np.minimum(at, len(entities) - 1)] == self.entities
        of, values, events = self.entities[visible], self.values[visible], self.events[visible]
        last = np.append(of[1:] != of[:-1], True)[: len(of)]
        return CrossSection(of[last], values[last], events[last])


def exists(conn: db.Connection) -> bool:
    """Whether this database has a feature store."""
    return bool(scalar(conn, _queries.exists))


def names(conn: db.Connection) -> list[str]:
    """The names of all features in the store, sorted."""
    return sorted({name for name, _version in conn.execute(_queries.feature_names)})


def points(
    conn: db.Connection,
    period: Period,
    features: Sequence[str] | None,
    numbers: Mapping[str, int],
    *,
    others: bool,
) -> Iterator[FeaturePoints]:
    """The points of a period, feature by feature.

    `numbers` gives the entities that are read, and the number that stands for each. With `others`,
    all other entities are read as well; each of their series has a negative number. Call it in a
    transaction: its settings end with that.
    """
    conn.execute(_queries.sort_in_memory)
    if len(numbers) > FEW:
        conn.execute(_queries.hash_entities)
    parameters = {
        **period._asdict(),
        "foreknowledge": FOREKNOWLEDGE,
        "features": None if features is None else list(features),
        "entities": list(numbers),
        "numbers": list(numbers.values()),
        "others": others,
    }
    with conn.cursor(binary=True) as cursor:
        arrays.register(cursor)
        cursor.execute(_queries.points_of_features, parameters)
        for feature, version, entities, events, ingests, values, texts in cursor:
            order = np.lexsort((ingests, events, entities))
            yield FeaturePoints(
                feature,
                version,
                entities[order].astype(np.int64),
                events[order],
                ingests[order],
                values[order],
                None if texts is None else _by_point(values, texts)[order],
            )


def _by_point(values: NDArray[np.float64], texts: list[str]) -> NDArray[np.object_]:
    by_point = np.full(len(values), None, dtype=object)
    by_point[np.isneginf(values)] = texts
    return by_point
