"""The values that should have been served: of a registered source, else of the feature store."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.common.frames import Frame, InvalidFrame, text
from mlflow_timescale.common.micros import Micros, column_micros
from mlflow_timescale.common.time import from_micros
from mlflow_timescale.db import Connection
from mlflow_timescale.features import known

from .cells import Floats

__all__ = ["Research", "Source", "of_store"]

Source = Any  # a frame, a Parquet file, a version, or a function of a spine
EARLIER_TEXTS = 1e15  # codes of texts begin here: no feature of numbers reaches it


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
        return self._codes.setdefault(value, EARLIER_TEXTS + len(self._codes))

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
        self._function: Callable[[Any], Any] | None = source if callable(source) else None
        self.calendar = calendar
        self.name = _name(source)
        self._frame = None if callable(source) else Frame(source, text=("entity_key",))

    def has(self, feature: str) -> bool:
        """Whether a frame has a column of the feature; a function may have any."""
        return self._frame is None or feature in self._frame.names

    def values(
        self, sessions: Sequence[date], entities: Sequence[str], as_of: Micros, feature: str
    ) -> Floats:
        """The values of a feature in some cells, shape (n,); NaN where the source has none.

        Raises InvalidFrame where the source has no column of the feature.
        """
        frame = self._frame if self._function is None else self._called(sessions, entities, as_of)
        table = self._by_cell(frame, feature)
        nothing = float("nan")
        return np.array(
            [table.get(key, nothing) for key in zip(entities, sessions, strict=True)], dtype=float
        )

    def _called(self, sessions: Sequence[date], entities: Sequence[str], as_of: Micros) -> Frame:
        assert self._function is not None  # nosec B101  # for mypy
        from mlflow_timescale.common.frames import make_frame

        spine = {
            "entity_key": list(entities),
            "session": list(sessions),
            "as_of": [from_micros(int(moment)) for moment in as_of],
        }
        return Frame(self._function(make_frame(spine, "pandas")), text=("entity_key",))

    def _by_cell(self, frame: Any, feature: str) -> dict[tuple[str, date], float]:
        if feature not in frame.names:
            raise InvalidFrame(
                f"{self.name} has no column {feature!r}; it has {', '.join(frame.names)}"
            )
        entities = text(frame.column("entity_key"), "entity_key").to_pylist()
        values = frame.column(feature).to_numpy(zero_copy_only=False).astype(float)
        keys = zip(entities, self._sessions(frame), strict=True)
        return dict(zip(keys, values.tolist(), strict=True))

    def _sessions(self, frame: Any) -> list[date]:
        if "session" in frame.names:
            days = frame.column("session").to_pylist()
            return [day.date() if isinstance(day, datetime) else day for day in days]
        moments = column_micros(frame.column("as_of"), "as_of").view("datetime64[us]")
        days = self.calendar.instants_to_sessions(moments).tolist()
        return list(days)


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
    **options: Any,
) -> tuple[Floats, Micros]:
    """Values and event times as known in the feature store, shape (features, n)."""
    cells = known.cells(conn, entities, as_of, features, **options)
    values = cells.values.copy()
    for place, value in cells.texts.items():
        values[place] = texts.code(value)
    return values, cells.events
