"""The values that should have been served: of a registered source, else of the feature store."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, cast

import numpy as np

from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.common.frames import InvalidFrame, make_frame
from mlflow_timescale.common.micros import Micros
from mlflow_timescale.common.time import from_micros
from mlflow_timescale.db import Connection
from mlflow_timescale.features import known

from ..inputs import columns
from .cells import Floats

__all__ = ["Research", "Source", "of_store"]

Source = Any  # a frame, a Parquet file, a version, or a function of a spine
FIRST_TEXT, APART = 1e15, 1e12  # codes of texts: beyond numbers, and further apart than tolerances


class Texts:
    """Texts as numbers, the same for the same text."""

    def __init__(self) -> None:
        self._codes: dict[str, float] = {}

    def code(self, value: str) -> float:
        """The number of a text (of JSON).

        >>> texts = Texts()
        >>> texts.code('"a"') == texts.code('"a"') != texts.code('"b"')
        True
        """
        return self._codes.setdefault(value, FIRST_TEXT + APART * len(self._codes))

    def into(self, values: Floats, others: Mapping[tuple[int, int], Any]) -> None:
        """Enter the numbers of values that are no numbers, by their places in `values`."""
        for place, value in others.items():
            values[place] = self.code(json.dumps(value, sort_keys=True))


class Research:
    """A registered source of the right values of some features.

    Parameters
    ----------
    source
        A frame, or the path of a Parquet or CSV file, with the columns `entity_key`, `session` (or
        `as_of`, aware) and one for each feature; or a function from such a frame without features,
        the spine, to the frame with them.
    calendar
        The calendar of the strategy.
    """

    def __init__(self, source: Source, calendar: TradingCalendar) -> None:
        self.calendar = calendar
        self.name = _name(source)
        self._function: Callable[[Any], Any] | None = source if callable(source) else None
        self._table = None if callable(source) else _Table(source, calendar, self.name)
        self._spine: Any = None  # of the function's last call, whose result is `_table`

    def has(self, feature: str) -> bool:
        """Whether a frame has a column of the feature; a function may have any."""
        return self._function is not None or feature in cast("_Table", self._table).columns

    def values(
        self, sessions: Sequence[date], entities: Sequence[str], as_of: Micros, feature: str
    ) -> Floats:
        """The values of a feature in some cells, shape (n,); NaN where the source has none.

        Raises InvalidFrame where the source has no column of the feature.
        """
        if self._function is not None:
            self._call(self._function, sessions, entities, as_of)
        return cast("_Table", self._table).values(sessions, entities, feature)

    def _call(
        self,
        function: Callable[[Any], Any],
        sessions: Sequence[date],
        entities: Sequence[str],
        as_of: Micros,
    ) -> None:
        key = (tuple(sessions), tuple(entities), as_of.tobytes())
        if key == self._spine:
            return
        spine = {
            "entity_key": list(entities),
            "session": list(sessions),
            "as_of": [from_micros(int(moment)) for moment in as_of],
        }
        result = function(make_frame(spine, "pandas"))
        self._table, self._spine = _Table(result, self.calendar, self.name), key


class _Table:
    """A frame by entity and session; of several rows of one the last counts."""

    def __init__(self, source: Any, calendar: TradingCalendar, name: str) -> None:
        self.name = name
        self.columns = columns.read(source)
        if "session" in self.columns:
            days = columns.days(self.columns, "session").tolist()
        else:
            days = calendar.instants_to_sessions(columns.instants(self.columns, "as_of")).tolist()
        entities = columns.texts(self.columns, "entity_key")
        self._rows = {key: row for row, key in enumerate(zip(entities, days, strict=True))}

    def values(self, sessions: Sequence[date], entities: Sequence[str], feature: str) -> Floats:
        if feature not in self.columns:
            names = ", ".join(self.columns)
            raise InvalidFrame(f"{self.name} has no column {feature!r}; it has {names}")
        column = np.append(columns.numbers(self.columns, feature), np.nan)
        rows = [self._rows.get(key, -1) for key in zip(entities, sessions, strict=True)]
        values: Floats = column[rows]
        return values


def _name(source: Source) -> str:
    if isinstance(source, (str, Path)):
        return str(source)
    kind = getattr(source, "__name__", None) or type(source).__name__
    return f"{kind} given as research"


def of_store(
    conn: Connection,
    entities: Sequence[str],
    as_of: Micros,
    features: Mapping[str, int],
    texts: Texts,
    *,
    exact: bool = False,
    **options: Any,
) -> tuple[Floats, Micros]:
    """Values and event times as known in the feature store, shape (features, n).

    `exact` finds values that were known long before their events too, and takes longer.
    """
    read = known.exact_cells if exact else known.cells
    cells = read(conn, entities, as_of, features, **options)
    values = cells.values.copy()
    for place, value in cells.texts.items():
        values[place] = texts.code(value)
    return values, cells.events
