"""Feature values of a session, out of the feature store: for each name, the newest that was known.

A feature counts for a session if its event lies after the previous session's close, and it was
known (ingested) by the session's as-of time, when its last prediction was made. A decision before
the session's close may use the closes of the session before: then values dated exactly at that
close count as well. A name that was predicted without one counts as missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.common.time import to_micros
from mlflow_timescale.db import Connection, arrays, load
from mlflow_timescale.features import cross_section

from ..metrics.arrays import Floats
from ..metrics.categories import category_codes

if TYPE_CHECKING:
    from mlflow_timescale.features import Freshness

_queries = load("drift")
_NO_EVENTS = np.empty(0, dtype=np.int64)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class FeatureWindow:
    """The time a session's features may stem from, and the names expected to have them.

    `entities` are their numbers, increasing; empty where nothing was predicted: then every name of
    the store that has a value counts, and none is missing. `before_close`: the as-of time
    lies before the session's close: values dated exactly at `after`, the previous close, may count.
    """

    session: date
    after: datetime
    as_of: datetime
    entities: NDArray[np.int64]
    known_by: datetime | None = None
    before_close: bool = False

    @property
    def period(self) -> cross_section.Period:
        """The events that may count."""
        after = self.after - _MICROSECOND if self.before_close else self.after
        return cross_section.Period(after, self.as_of, self.known)

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
    return cross_section.exists(conn)


def names(conn: Connection) -> list[str]:
    """The names of all features in the store."""
    return cross_section.names(conn)


def freshness(
    conn: Connection,
    calendar: TradingCalendar,
    session: date,
    entities: Sequence[str],
    features: Sequence[str] | None,
    *,
    as_of: datetime,
    before_close: bool = False,
) -> list[Freshness]:
    """How fresh each feature of some names is, on the strategy's calendar.

    A feature is stale beyond the maximum staleness of its definition; without one, if nothing of
    it happened since the session before closed. For decisions `before_close` the values of that
    close are fresh.
    """
    from mlflow_timescale.features import health

    arrays.register(conn)
    due = to_micros(calendar.session_close(calendar.previous_session(session)))
    allowed = timedelta(microseconds=int(calendar.age(np.array([due]), as_of)[0]))
    allowed -= timedelta(0) if before_close else _MICROSECOND
    return health.newest(conn, features, entities, calendar, as_of=as_of, max_staleness=allowed)


def samples(
    conn: Connection, windows: Sequence[FeatureWindow], features: Sequence[str] | None = None
) -> Iterator[Sample]:
    """Each feature's values in the sessions of `windows` (in order of time), read in one pass."""
    if not windows:
        return
    period = cross_section.Period(
        min(window.period.after for window in windows),
        max(window.as_of for window in windows),
        max(window.known for window in windows),
    )
    expected = _expected(windows)
    numbers: dict[str, int] = dict(
        conn.execute(_queries.entity_numbers, {"entity_ids": expected}).fetchall()
    )
    for points in cross_section.points(conn, period, features, numbers, others=expected is None):
        coded, names = _with_codes(points)
        sections = {window.session: _section(coded, window) for window in windows}
        yield Sample(label(points.feature, points.version), sections, names)


def _with_codes(
    points: cross_section.FeaturePoints,
) -> tuple[cross_section.FeaturePoints, dict[float, str] | None]:
    """The points with the codes of categories as values, and the texts of the codes."""
    if points.texts is None:
        return points, None
    is_text = np.isneginf(points.values)
    codes, names = category_codes(points.texts[is_text].tolist())
    values = points.values.copy()
    values[is_text] = codes
    return points._replace(values=values), names


def _section(points: cross_section.FeaturePoints, window: FeatureWindow) -> Section:
    """The newest value of each name by the window's end.

    Where half of the names have a value after the previous close, a name without one is missing
    although it has a value of that close.
    """
    known = points.newest(window.period, window.entities)
    is_later = known.events > to_micros(window.after)
    if 2 * is_later.sum() >= len(is_later):
        known = cross_section.CrossSection(
            known.entities[is_later], known.values[is_later], known.events[is_later]
        )
    without = max(len(window.entities) - len(known.entities), 0)
    return Section(known.entities, known.values, without, known.events)


def label(feature: str, version: int) -> str:
    """How a feature is called here: "rsi_14", and from its second version on "rsi_14@2"."""
    return feature if version == 1 else f"{feature}@{version}"


def base(label: str) -> str:
    """The feature that a label names, of whichever version."""
    return label.partition("@")[0]


def _expected(windows: Sequence[FeatureWindow]) -> list[int] | None:
    """The numbers of the names of all windows; None if one of them has none: then all count."""
    if any(not len(window.entities) for window in windows):
        return None
    entities: list[int] = np.unique(np.concatenate([w.entities for w in windows])).tolist()
    return entities
