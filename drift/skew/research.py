"""The values that should have been served: of a registered source, else of the feature store."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.common.frames import Columns, InvalidFrame, make_frame
from mlflow_timescale.common.micros import Micros
from mlflow_timescale.common.time import from_micros
from mlflow_timescale.db import Connection
from mlflow_timescale.features import known

from ..inputs import columns
from ..inputs.sources import is_table
from .cells import Floats
from .tables import DatabaseTable

__all__ = ["Research", "Source", "of_store", "then_and_now"]

Source = Any  # a frame, a file, a table, or a function of a spine
FIRST_TEXT, APART = 1e15, 1e12  # codes of texts: beyond numbers, and further apart than tolerances


class Texts:
    """Texts as numbers, the same for the same text."""

    def __init__(self) -> None:
        self._codes: dict[str, float] = {}

    def code(self, value: str) -> float:
        """The number of a text (of JSON); its spelling and the order of its keys do not matter.

        >>> texts = Texts()
        >>> texts.code('"a"') == texts.code('"\\u0061"') != texts.code('"b"')
        True
        """
        number = self._codes.get(value)
        if number is None:
            new = FIRST_TEXT + APART * len(self._codes)
            number = self._codes.setdefault(_json(json.loads(value)), new)
            self._codes[value] = number
        return number

    def into(self, values: Floats, others: Mapping[tuple[int, int], Any]) -> None:
        """Enter the numbers of values that are no numbers, by their places in `values`."""
        for place, value in others.items():
            values[place] = self.code(_json(value))


class Research:
    """A registered source of the right values of some features.

    Parameters
    ----------
    source
        A frame, or the path of a Parquet or CSV file, with the columns `entity_key`, `session` (or
        `as_of`, aware) and one for each feature; the name of a table or view of the database with
        these columns; or a function from such a frame without features, the spine, to the frame
        with them.
    calendar
        The calendar of the strategy.
    conn
        The database of a table, in autocommit mode.
    """

    def __init__(
        self, source: Source, calendar: TradingCalendar, conn: Connection | None = None
    ) -> None:
        self.calendar = calendar
        self.name = _name(source)
        self._function: Callable[[Any], Any] | None = source if callable(source) else None
        self._stored, self._table = None, None
        if conn is not None and is_table(source):
            self._stored = DatabaseTable(conn, source, calendar)
        elif not callable(source):
            self._table = _Table(source, calendar, self.name)
        self._spine: Any = None  # of the function's last call, whose result is `_table`

    def has(self, feature: str) -> bool:
        """Whether a frame or table has a column of the feature; a function may have any."""
        if self._stored is not None:
            return feature in self._stored.columns
        return self._function is not None or feature in cast("_Table", self._table).columns

    def values(
        self,
        sessions: Sequence[date],
        entities: Sequence[str],
        as_of: Micros,
        feature: str,
        texts: Texts,
    ) -> Floats:
        """The values of a feature in some cells, shape (n,); NaN where the source has none.

        Texts and structures are their numbers in `texts`. Raises InvalidFrame where the source has
        no column of the feature.
        """
        table = self._table
        if self._function is not None:
            self._call(self._function, sessions, entities, as_of)
            table = self._table
        elif self._stored is not None:
            read = self._stored.read(sessions, entities, feature)
            table = _Table(read, self.calendar, self.name)
        return cast("_Table", table).values(sessions, entities, feature, texts)

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

    def values(
        self, sessions: Sequence[date], entities: Sequence[str], feature: str, texts: Texts
    ) -> Floats:
        if feature not in self.columns:
            names = ", ".join(self.columns)
            raise InvalidFrame(f"{self.name} has no column {feature!r}; it has {names}")
        column = np.append(_numbers(self.columns, feature, texts), np.nan)
        rows = [self._rows.get(key, -1) for key in zip(entities, sessions, strict=True)]
        values: Floats = column[rows]
        return values


def _numbers(given: Columns, feature: str, texts: Texts) -> Floats:
    """A column as float64: numbers and flags as they are, of all else the number of its JSON."""
    column = columns.values(given, feature)
    kind = column.type
    if is_number(kind) or pa.types.is_null(kind):
        return columns.numbers(given, feature)
    listed = column.to_pylist()
    codes = [np.nan if value is None else texts.code(_json(value)) for value in listed]
    return np.array(codes, dtype=np.float64)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def is_number(kind: pa.DataType) -> bool:
    """Whether values of an Arrow type are numbers; flags count as 0 and 1.

    >>> is_number(pa.bool_()), is_number(pa.string())
    (True, False)
    """
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    return any(test(kind) for test in tests)


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
    return _with_texts(cells, texts), cells.events


def then_and_now(
    conn: Connection,
    entities: Sequence[str],
    as_of: Micros,
    features: Mapping[str, int],
    texts: Texts,
    now: datetime | None,
    reading: Mapping[str, str],
) -> tuple[Floats, Micros, dict[str, Floats]]:
    """As `of_store`; also what is known `now` of the same events, of features that allow it."""
    cells = known.cells(conn, entities, as_of, features, reading=reading, now=now)
    return _with_texts(cells, texts), cells.events, dict(cells.now)


def _with_texts(cells: known.KnownCells, texts: Texts) -> Floats:
    values = cells.values.copy()
    for place, value in cells.texts.items():
        values[place] = texts.code(value)
    return values
