"""Features of live code as arrays: numbers, what had no value, texts, and event times.

NaN is a value ("computed, undefined"), None is the absence of one, and an infinity stays what it
is: the feature store refuses it, but a memory keeps what a model was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlflow_timescale.common import packages
from mlflow_timescale.common.errors import first_of
from mlflow_timescale.common.frames import Columns, Frame, InvalidFrame, as_column, text
from mlflow_timescale.common.micros import MISSING, Micros, column_micros, object_micros
from mlflow_timescale.common.time import to_micros

EVENT_TIME = "__event_time"  # ends the name of a column of event times, as in `training_frame`
ENTITY = "entity_key"
_LISTED = 5
encoding = packages.attribute("feature_store", "values.encoding")
names_of_store = packages.attribute("feature_store", "values.names")

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FeatureCells:
    """The features of n entities: m names, and arrays of shape (n, m).

    Attributes
    ----------
    names
        The features, in the order of the columns.
    values
        float64; NaN also where `absent` or `others` has the cell.
    absent
        Which cells had no value.
    others
        JSON texts of texts and structures, by (row, column).
    event
        Event times in microseconds since 1970; MISSING where they are not known.
    versions
        Feature versions, int32; 0 where they are not known.
    """

    names: tuple[str, ...]
    values: Floats
    absent: Flags
    others: Mapping[tuple[int, int], str] = field(default_factory=dict)
    event: Micros | None = None
    versions: npt.NDArray[np.int32] | None = None


def no_features(rows: int) -> FeatureCells:
    """The cells of predictions without features: shape (rows, 0).

    >>> no_features(2).values.shape
    (2, 0)
    """
    return FeatureCells((), np.empty((rows, 0)), np.empty((rows, 0), dtype=bool))


def read_features(features: Any, entities: Sequence[str], event_times: Any = None) -> FeatureCells:
    """The cells of any frame or mapping, in the order of `entities`.

    A column `entity_key`, or a pandas index that holds the entities, aligns the rows by name; else
    the rows are in the order of `entities`. Columns `<feature>__event_time` are event times.

    Parameters
    ----------
    features
        Any source of `Frame`; for one entity also a mapping of names to values.
    entities
        The names, shape (n,).
    event_times
        An aware datetime for all cells, or a mapping or frame of aware datetimes by feature.

    Raises
    ------
    InvalidFrame, InvalidTime, InvalidValue
        The rows do not belong to the entities, a time is naive, a value is neither a number, a text
        nor JSON.

    Examples
    --------
    >>> cells = read_features({"rsi_14": [61.5, None]}, ["AAPL", "MSFT"])
    >>> cells.values.tolist(), cells.absent.tolist()
    ([[61.5], [nan]], [[False], [True]])
    """
    if event_times is None and len(entities) == 1 and _is_plain(features):
        names_of_store.check_names(features, "a feature")
        values = np.array([list(features.values())], dtype=np.float64)
        return FeatureCells(tuple(features), values, np.zeros(values.shape, dtype=bool))
    columns = _columns(features, entities)
    times = {name: columns.pop(name) for name in list(columns) if name.endswith(EVENT_TIME)}
    names = tuple(columns)
    names_of_store.check_names(names, "a feature")
    parts = [cell_values(columns[name], f"feature {name!r}") for name in names]
    if not parts:
        return no_features(len(entities))
    others = {
        (int(row), j): part.json[row]
        for j, part in enumerate(parts)
        if part.json is not None
        for row in np.flatnonzero([text is not None for text in part.json])
    }
    return FeatureCells(
        names,
        np.column_stack([part.number for part in parts]),
        ~np.column_stack([part.present for part in parts]),
        others,
        _event_times(names, times, event_times, entities),
    )


def cell_values(column: Any, what: str) -> Any:
    """A column as the feature store reads it (`number`, `present`, `json`), infinities included.

    >>> import numpy as np
    >>> cell_values(pa.array([1.5, float("inf"), None]), "feature 'x'").number.tolist()
    [1.5, inf, nan]
    """
    if isinstance(column, np.ndarray):
        return _object_values(column, what)
    if pa.types.is_floating(column.type):
        present = column.is_valid().to_numpy(zero_copy_only=False)
        numbers = column.cast(pa.float64()).fill_null(float("nan"))
        return encoding.Values(
            np.array(numbers.to_numpy(zero_copy_only=False), dtype=np.float64), present
        )
    return encoding.column_values(column, what)


def aligned(given: Any, entities: Sequence[str], name: str) -> Any:
    """A column that is given by entity (a mapping, an indexed series) or in their order.

    Raises InvalidFrame where an entity is missing, or the lengths differ.

    >>> aligned({"MSFT": 0.2, "AAPL": 0.1}, ["AAPL", "MSFT"], "output").tolist()
    [0.1, 0.2]
    """
    if isinstance(given, Mapping):
        missing = [entity for entity in entities if entity not in given]
        _refuse_missing(missing, name)
        return as_column([given[entity] for entity in entities], name)
    order = _order_of_index(given, entities, name)
    column = as_column(given, name)
    if order is not None:
        column = _take(column, order)
    if len(column) != len(entities):
        raise InvalidFrame(f"{name} has {len(column)} values for {len(entities)} entities")
    return column


def _is_plain(features: Any) -> bool:
    """Whether features are a mapping of floats, which needs no frame: 0.3 ms of a single call."""
    return isinstance(features, dict) and all(type(value) is float for value in features.values())


def _object_values(column: npt.NDArray[np.object_], what: str) -> Any:
    infinite = np.array([isinstance(v, (float, np.floating)) and abs(v) == np.inf for v in column])
    if not infinite.any():
        return encoding.object_values(column, what)
    finite = column.copy()
    finite[infinite] = 0.0
    read = encoding.object_values(finite, what)
    read.number[infinite] = column[infinite].astype(np.float64)
    return read


def _columns(features: Any, entities: Sequence[str]) -> Columns:
    """The columns in the order of the entities, without that of the entities."""
    if isinstance(features, Mapping) and len(entities) == 1:
        features = {name: _listed(value) for name, value in features.items()}
    order = _order_of_index(features, entities, "the index of features")
    columns = Frame(features, text=(ENTITY,), keys=(ENTITY,)).columns()
    if ENTITY in columns:
        names = text(columns.pop(ENTITY), ENTITY).to_pylist()
        order = _order(names, entities, f"column {ENTITY!r} of features")
    if order is not None:
        columns = Columns((name, _take(column, order)) for name, column in columns.items())
    rows = {len(column) for column in columns.values()}
    if rows - {len(entities)}:
        raise InvalidFrame(f"features has {rows.pop()} rows for {len(entities)} entities")
    return columns


def _listed(value: Any) -> Any:
    """A column of one value, from a value or from a column of one."""
    is_column = hasattr(value, "__len__") and not isinstance(value, (str, bytes, Mapping))
    return value if is_column and len(value) == 1 else [value]


def _order_of_index(frame: Any, entities: Sequence[str], what: str) -> list[int] | None:
    """The rows of a pandas object by entity, if its index holds names; else None."""
    index: Any = getattr(frame, "index", None)
    if type(frame).__module__.partition(".")[0] != "pandas" or getattr(index, "nlevels", 2) != 1:
        return None
    names = index.tolist()
    if not names or not all(isinstance(name, str) for name in names):
        return None
    return _order(names, entities, what)


def _order(names: Sequence[Any], entities: Sequence[str], what: str) -> list[int]:
    positions = {name: row for row, name in enumerate(names)}
    if len(positions) < len(names):
        raise InvalidFrame(f"{what} names an entity more than once")
    _refuse_missing([entity for entity in entities if entity not in positions], what)
    return [positions[entity] for entity in entities]


def _refuse_missing(missing: Sequence[str], what: str) -> None:
    if missing:
        raise InvalidFrame(f"{what} has no row for {first_of(missing, _LISTED)}")


def _take(column: Any, order: list[int]) -> Any:
    return column[order] if isinstance(column, np.ndarray) else column.take(pa.array(order))


def _event_times(
    names: tuple[str, ...], times: Mapping[str, Any], given: Any, entities: Sequence[str]
) -> Micros | None:
    if given is None and not times:
        return None
    event = np.full((len(entities), len(names)), MISSING, dtype=np.int64)
    if isinstance(given, datetime):
        event[:] = to_micros(given, "event_times")
    elif given is not None:
        if isinstance(given, Mapping):
            given = {name: _repeated(value, len(entities)) for name, value in given.items()}
        times = {**times, **{f"{k}{EVENT_TIME}": v for k, v in _columns(given, entities).items()}}
    for name, column in times.items():
        feature = name.removesuffix(EVENT_TIME)
        if feature not in names:
            raise InvalidFrame(f"event times of {feature!r}, which is not among the features")
        event[:, names.index(feature)] = _micros(column, f"event time of {feature!r}")
    return event


def _repeated(value: Any, rows: int) -> Any:
    return [value] * rows if value is None or isinstance(value, datetime) else value


def _micros(column: Any, what: str) -> Micros:
    if isinstance(column, np.ndarray):
        return object_micros(column, what, missing=True)
    return column_micros(column, what, missing=True)
