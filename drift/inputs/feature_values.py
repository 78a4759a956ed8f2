"""Feature values of a session, out of the feature store: for each name, the newest that was known.

A feature counts for a session if its event lies after the previous session's close, and it was
known (ingested) by the session's as-of time, when its last prediction was made. A name that was
predicted without one counts as missing. Only this module of `drift` knows the store's tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.common.time import to_micros
from mlflow_timescale.db import Connection, load

from ..metrics.arrays import Floats
from ..metrics.categories import category_codes

if TYPE_CHECKING:
    from mlflow_timescale.features import Freshness

_queries = load("drift")
# A value known longer than this before its event (a forecast) is not looked for.
FOREKNOWLEDGE = timedelta(days=3)
_NO_EVENTS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class FeatureWindow:
    """The time a session's features may stem from, and the names expected to have them.

    `entities` are their numbers, increasing; empty where nothing was predicted: then every name of
    the store that has a value counts, and none is missing.
    """

    session: date
    after: datetime
    as_of: datetime
    entities: NDArray[np.int64]
    known_by: datetime | None = None

    @property
    def known(self) -> datetime:
        """When values must have been known; by default at the as-of time."""
        return self.known_by or self.as_of


class Section(NamedTuple):
    """One feature in one session.

    `known` holds the values of the names `entities`, `events` their event times in microseconds;
    `without` counts predicted names without one.
    """

    entities: NDArray[np.int64]
    known: Floats
    without: int = 0
    events: NDArray[np.int64] = _NO_EVENTS

    @property
    def values(self) -> Floats:
        """By name, NaN where a predicted name has none."""
        return np.concatenate([self.known, np.full(self.without, np.nan)])


class Sample(NamedTuple):
    """One feature in each session.

    `names` are the texts of the codes that stand for categories; None for a feature of numbers.
    """

    feature: str
    sections: dict[date, Section]
    names: dict[float, str] | None = None


def exist(conn: Connection) -> bool:
    """Whether this database has a feature store."""
    row = conn.execute(_queries.features_exist).fetchone()
    return bool(row and row[0])


def names(conn: Connection) -> list[str]:
    """The names of all features in the store."""
    return [row[0] for row in conn.execute(_queries.feature_names)]


def freshness(
    conn: Connection,
    calendar: TradingCalendar,
    session: date,
    entities: Sequence[str],
    features: Sequence[str] | None,
    *,
    as_of: datetime,
) -> list[Freshness]:
    """How fresh each feature of some names is, on the strategy's calendar.

    A feature is stale beyond the maximum staleness of its definition; without one, if nothing of
    it happened since the session before closed.
    """
    from mlflow_timescale.db import arrays
    from mlflow_timescale.features import health

    arrays.register(conn)
    due = to_micros(calendar.session_close(calendar.previous_session(session)))
    allowed = timedelta(microseconds=int(calendar.age(np.array([due]), as_of)[0]) - 1)
    return health.newest(conn, features, entities, calendar, as_of=as_of, max_staleness=allowed)


def samples(
    conn: Connection, windows: Sequence[FeatureWindow], features: Sequence[str] | None = None
) -> Iterator[Sample]:
    """Each feature's values in the sessions of `windows` (in order of time), read in one pass."""
    if not windows:
        return
    conn.execute(_queries.work_in_memory)
    with conn.cursor(binary=True) as cursor:
        _load_arrays(cursor)
        cursor.execute(
            _queries.feature_window,
            {
                "after": windows[0].after,
                "as_of": max(window.as_of for window in windows),
                "known_by": max(window.known for window in windows),
                "foreknowledge": FOREKNOWLEDGE,
                "features": None if features is None else list(features),
                "entities": _everyone(windows),
            },
        )
        for name, version, *arrays, labels in cursor:
            entities, events, ingests, numbers = (np.asarray(array) for array in arrays)
            values, names = _with_codes(numbers, labels)
            rows = _Rows.sorted(entities, events, ingests, values)
            yield Sample(label(name, version), {w.session: rows.section(w) for w in windows}, names)


def _with_codes(values: Floats, labels: list[str] | None) -> tuple[Floats, dict[float, str] | None]:
    """The values with the codes of categories, whose texts are `labels` in their order."""
    if labels is None:
        return values, None
    codes, names = category_codes(labels)
    coded = values.copy()
    coded[np.isneginf(values)] = codes
    return coded, names


def label(feature: str, version: int) -> str:
    """How a feature is called here: "rsi_14", and from its second version on "rsi_14@2"."""
    return feature if version == 1 else f"{feature}@{version}"


def base(label: str) -> str:
    """The feature that a label names, of whichever version."""
    return label.partition("@")[0]


def _load_arrays(cursor: Any) -> None:
    from mlflow_timescale.db import arrays

    arrays.register(cursor)


def _everyone(windows: Sequence[FeatureWindow]) -> list[int] | None:
    if any(not len(window.entities) for window in windows):
        return None
    entities: list[int] = np.unique(np.concatenate([w.entities for w in windows])).tolist()
    return entities


class _Rows(NamedTuple):
    """One feature's points in order of entity, event and ingest time (microseconds)."""

    entities: NDArray[np.int64]
    events: NDArray[np.int64]
    ingests: NDArray[np.int64]
    values: Floats

    @classmethod
    def sorted(cls, entities: Any, events: Any, ingests: Any, values: Any) -> _Rows:
        order = np.lexsort((ingests, events, entities))
        return cls(entities[order].astype(np.int64), events[order], ingests[order], values[order])

    def section(self, window: FeatureWindow) -> Section:
        """The newest value of each name by the window's end."""
        after, as_of = to_micros(window.after), to_micros(window.as_of)
        known = to_micros(window.known)
        visible = (self.events > after) & (self.events <= as_of) & (self.ingests <= known)
        if len(window.entities):
            at = np.searchsorted(window.entities, self.entities)
            visible &= window.entities[np.minimum(at, len(window.entities) - 1)] == self.entities
        entities, values = self.entities[visible], self.values[visible]
        events = self.events[visible]
        newest = np.append(entities[1:] != entities[:-1], True)[: len(entities)]
        without = max(len(window.entities) - int(newest.sum()), 0)
        return Section(entities[newest], values[newest], without, events[newest])
