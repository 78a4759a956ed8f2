"""Served blocks as one table of cells, by set of features: what a reconciliation compares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlflow_timescale.common.micros import MISSING, Micros
from mlflow_timescale.common.time import to_micros

from ..serving.memory import ServedBlock
from .cells import Flags, Floats

STORE = "store"


@dataclass(frozen=True)
class ServedTable:
    """n rows (an entity at a decision), and m features read in one way.

    Attributes
    ----------
    features
        The version of each feature, 0 where it is not known; m of them.
    source, reading
        "store" with the arguments of the read, or "caller".
    sessions, entities, as_of, recorded_at
        Of each row, shape (n,); the moments in microseconds.
    values, absent, event
        Shape (n, m), as in `ServedBlock`.
    others
        Texts and structures by (row, column).
    """

    features: Mapping[str, int]
    source: str
    reading: Mapping[str, str]
    sessions: NDArray[np.object_]
    entities: NDArray[np.object_]
    as_of: Micros
    recorded_at: Micros
    values: Floats
    absent: Flags
    event: Micros
    others: Mapping[tuple[int, int], Any]

    def __len__(self) -> int:
        return len(self.entities)

    @cached_property
    def rows_by_session(self) -> dict[date, NDArray[np.intp]]:
        """The rows of each session, in order."""
        if not len(self):
            return {}
        days, codes = np.unique(self.sessions.astype("datetime64[D]"), return_inverse=True)
        order = np.argsort(codes, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
        return dict(zip(days.tolist(), parts, strict=True))

    def column(self, feature: str) -> int:
        """The column of a feature."""
        return list(self.features).index(feature)

    def of_sessions(self, start: date, end: date) -> ServedTable:
        """The rows from one session to another."""
        at = np.flatnonzero((self.sessions >= start) & (self.sessions <= end))
        places = {int(row): place for place, row in enumerate(at)}
        return ServedTable(
            self.features,
            self.source,
            self.reading,
            self.sessions[at],
            self.entities[at],
            self.as_of[at],
            self.recorded_at[at],
            self.values[at],
            self.absent[at],
            self.event[at],
            {(places[r], c): v for (r, c), v in self.others.items() if r in places},
        )


def tables(blocks: Iterable[ServedBlock]) -> list[ServedTable]:
    """Blocks with the same features, read in the same way, as one table each."""
    groups: dict[Any, list[ServedBlock]] = {}
    for block in blocks:
        if block.feature_names:
            features = zip(block.feature_names, block.feature_versions, strict=True)
            key = (tuple(features), block.source, tuple(sorted(block.reading.items())))
            groups.setdefault(key, []).append(block)
    return [_table(key, group) for key, group in groups.items()]


def _table(key: Any, blocks: Sequence[ServedBlock]) -> ServedTable:
    features, source, reading = key
    counts = [len(block.entities) for block in blocks]
    starts = np.cumsum([0, *counts[:-1]]).tolist()
    return ServedTable(
        dict(features),
        source,
        dict(reading),
        np.repeat(np.array([block.session for block in blocks], dtype=object), counts),
        np.array([name for block in blocks for name in block.entities], dtype=object),
        np.repeat([to_micros(block.as_of) for block in blocks], counts),
        np.repeat([to_micros(block.recorded_at) for block in blocks], counts),
        np.concatenate([block.values for block in blocks]),
        np.concatenate([block.absent for block in blocks]),
        np.concatenate([block.event for block in blocks]),
        {
            (start + row, column): value
            for start, block in zip(starts, blocks, strict=True)
            for (row, column), value in block.others.items()
        },
    )


def knows_events(table: ServedTable) -> bool:
    """Whether any event time of what was served is known."""
    return bool((table.event != MISSING).any())
