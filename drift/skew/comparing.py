"""Phase one of a reconciliation: every served cell beside the value of research."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.common.micros import Micros
from mlflow_timescale.db import Connection
from mlflow_timescale.features import known

from .cells import TOLERANCE, Flags, Floats, same
from .research import Research, Texts, of_store, then_and_now
from .served import STORE, ServedTable

__all__ = ["Comparison", "Sources", "compare"]


@dataclass(frozen=True)
class Sources:
    """Where the right values come from.

    Attributes
    ----------
    registered
        By feature, or "*" for all: a `Research`, or the number of a version in the store.
    tolerances
        Relative, by feature, for values that the caller's code computed.
    versions
        The versions of every feature in the store.
    """

    registered: Mapping[str, Research | int]
    tolerances: Mapping[str, float]
    versions: Mapping[str, Sequence[int]]

    @classmethod
    def of(
        cls,
        conn: Connection,
        calendar: TradingCalendar,
        research: Mapping[str, Any] | None,
        tolerances: Mapping[str, float] | None,
    ) -> Sources:
        """Read the caller's sources: frames, files, tables and functions become `Research`."""
        registered: dict[str, Research | int] = {}
        for name, source in (research or {}).items():
            if hasattr(source, "features") and hasattr(source, "version"):  # a FeatureView
                registered |= dict.fromkeys(source.features, int(source.version))
            else:
                version = isinstance(source, int)
                registered[name] = source if version else Research(source, calendar, conn)
        return cls(registered, tolerances or {}, known.versions(conn))

    def of_feature(self, feature: str) -> Research | int | None:
        """The registered source of a feature; None for the store."""
        source = self.registered.get(feature, self.registered.get("*"))
        if feature not in self.registered and isinstance(source, Research):
            return source if source.has(feature) else None
        return source

    def version(self, feature: str, served: int) -> int | None:
        """The version that is read from the store, 0 for the newest; None if it has none."""
        stored = self.versions.get(feature, ())
        source = self.of_feature(feature)
        version = source if isinstance(source, int) else served
        return version if stored and (version == 0 or version in stored) else None

    def tolerance(self, feature: str, table: ServedTable) -> float:
        """0 for values that serving read from the store that they are compared with."""
        if table.source == STORE and not isinstance(self.of_feature(feature), Research):
            return 0.0
        return self.tolerances.get(feature, self.tolerances.get("*", TOLERANCE))


@dataclass(frozen=True)
class Comparison:
    """One table of served cells, and research beside it; arrays of shape (features, n).

    `features` are those that could be compared, in the order of the rows; `now` holds what is known
    today of the same events, shape (n,), of those for which it was read in passing.
    """

    table: ServedTable
    features: tuple[str, ...]
    served: Floats
    expected: Floats
    stored: Floats
    events: Micros
    differs: Flags
    now: Mapping[str, Floats]


def compare(
    conn: Connection,
    table: ServedTable,
    sources: Sources,
    texts: Texts,
    *,
    exact: bool = True,
    now: datetime | None = None,
) -> Comparison:
    """Compare every cell of a table; with `exact`, read features that differ a second time.

    With `now`, what is known at that moment is read too, where it costs no further read.
    `stored` and `events` hold what the store knew at the decision; NaN for a feature that only a
    registered source has.
    """
    in_store = _in_store(table, sources)
    features = tuple(
        name
        for name in table.features
        if name in in_store or isinstance(sources.of_feature(name), Research)
    )
    shape = (len(features), len(table))
    stored, events = np.full(shape, np.nan), np.full(shape, np.iinfo(np.int64).min)
    rows = [i for i, name in enumerate(features) if name in in_store]
    current: dict[str, Floats] = {}
    if rows:
        stored[rows], events[rows], current = then_and_now(
            conn,
            table.entities.tolist(),
            table.as_of,
            {features[i]: in_store[features[i]] for i in rows},
            texts,
            now,
            table.reading,
        )
    served = _served(table, features, texts)
    if exact:
        first = events.copy()
        _read_again(conn, table, sources, texts, (features, served, stored, events))
        for i in np.flatnonzero((first != events).any(axis=1)).tolist():
            current.pop(features[i], None)
    expected, differs = stored.copy(), np.zeros(shape, dtype=bool)
    for i, name in enumerate(features):
        source = sources.of_feature(name)
        if isinstance(source, Research):
            expected[i] = source.values(
                table.sessions.tolist(), table.entities.tolist(), table.as_of, name, texts
            )
        differs[i] = ~same(served[i], expected[i], sources.tolerance(name, table))
    return Comparison(table, features, served, expected, stored, events, differs, current)


def _read_again(
    conn: Connection,
    table: ServedTable,
    sources: Sources,
    texts: Texts,
    cells: tuple[Sequence[str], Floats, Floats, Micros],
) -> None:
    """Read features that differ by the exact plan: the quick one misses values known in advance."""
    features, served, stored, events = cells
    rows, again = [], {}
    for i, name in enumerate(features):
        version = sources.version(name, table.features[name])
        agree = same(served[i], stored[i], sources.tolerance(name, table))
        if version is not None and not agree.all():
            rows.append(i)
            again[name] = version
    if rows:
        stored[rows], events[rows] = of_store(
            conn,
            table.entities.tolist(),
            table.as_of,
            again,
            texts,
            exact=True,
            reading=table.reading,
        )


def _in_store(table: ServedTable, sources: Sources) -> dict[str, int]:
    versions = {name: sources.version(name, v) for name, v in table.features.items()}
    return {name: version for name, version in versions.items() if version is not None}


def _served(table: ServedTable, features: Sequence[str], texts: Texts) -> Floats:
    values = np.where(table.absent, np.nan, table.values)
    texts.into(values, table.others)
    columns = [table.column(name) for name in features]
    return np.ascontiguousarray(values[:, columns].T)
