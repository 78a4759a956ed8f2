"""Columns: Arrow arrays, or arrays of Python objects where Arrow has no type for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlflow_timescale.common.errors import InvalidFrame, in_rows
from mlflow_timescale.common.frames.structures import JSON, structure_column
from mlflow_timescale.common.text import refusal

Column: TypeAlias = Any  # a pyarrow.Array, or a numpy array of Python objects
_ADVICE = "keep identifiers as text, for example with pandas.read_csv(..., dtype={...: str})"

# How a caller names the column of another name; only for the default names of a call.
_ARGUMENTS = {"entity_key": "entity='asset'", "event_time": "event_time='date'"}


class Columns(dict[str, Column]):
    """The columns of a batch by name, all of one length.

    A missing name raises InvalidFrame with the names that exist. `index` holds the names of the
    index levels of a pandas frame: they are no columns, and the error explains what to do. `zones`
    holds the time zones of its columns, which are read as UTC.

    >>> Columns({"entity_key": pa.array(["AAPL"])})["ticker"]
    Traceback (most recent call last):
    mlflow_timescale.common.errors.InvalidFrame: the frame has no column 'ticker'; it has
    entity_key
    """

    index: tuple[str, ...] = ()
    zones: Mapping[str, str] = MappingProxyType({})

    def zone(self, name: str) -> str | None:
        """The time zone of a column of times; None if it has none, or is no column of times."""
        kind = getattr(self[name], "type", None)
        return self.zones.get(name) or getattr(kind, "tz", None)

    def __missing__(self, name: str) -> Column:
        names = ", ".join(self) or "no columns"
        advice = "; it is a level of the index: call reset_index()" if name in self.index else ""
        if not advice and name in _ARGUMENTS:
            levels = f" and the index level(s) {', '.join(self.index)}" if self.index else ""
            advice = f"{levels}; name yours: {_ARGUMENTS[name]}"
        raise InvalidFrame(f"the frame has no column {name!r}; it has {names}{advice}")


def as_column(values: Any, what: str = "column") -> Column:
    """A column from a list, a numpy array, or a pandas, polars or Arrow column.

    In pandas, NaN of a float column stays NaN; None, NA and NaT become null. A list that holds
    other objects than texts stays an array of objects, so that each value keeps its type.

    >>> as_column(["AAPL", "MSFT"]).type
    DataType(string)
    >>> as_column([1.5, {"a": 1}])
    array([1.5, {'a': 1}], dtype=object)
    """
    if isinstance(values, pa.ChunkedArray):
        return flat(values)
    if isinstance(values, pa.Array):
        return values
    library = type(values).__module__.partition(".")[0]
    if library == "polars":
        return polars_column(values)
    if library == "pandas":
        is_index = hasattr(values, "to_series")
        return pandas_column(values.to_series() if is_index else values)
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise InvalidFrame(f"{what} is {values!r}, not a list of values")
    array = values if isinstance(values, np.ndarray) else objects(values)
    return _texts_or_objects(array) if array.dtype == object else _converted(array, array)


def polars_column(series: Any) -> Column:
    """A polars series as a column; an array of objects where Arrow has no type for them."""
    if str(series.dtype) == "Object":  # Arrow would get the addresses of the objects
        return objects(series.to_list())
    try:
        return series.to_arrow()
    except pa.ArrowException:  # 128-bit integers
        return objects(series.to_list())


def pandas_column(series: Any) -> Column:
    """A pandas series as a column, without a copy where Arrow can share its memory."""
    dtype = series.dtype
    if dtype == "object":
        return _texts_or_objects(series.to_numpy())
    if isinstance(dtype, np.dtype) and dtype.kind == "f":
        return _converted(series.to_numpy(), series)
    if getattr(dtype, "tz", None) is not None:
        moments = pa.array(series.dt.tz_convert(None).to_numpy())
        return moments.cast(pa.timestamp(moments.type.unit, "UTC"))
    if hasattr(series, "sparse"):  # Arrow has no sparse columns
        return pandas_column(series.sparse.to_dense())
    array = _converted(series.array, series)
    return flat(array) if isinstance(array, pa.ChunkedArray) else array


def as_arrow(column: Column, what: str) -> pa.Array:
    """A column as an Arrow array; raises InvalidFrame for objects without a common Arrow type.

    Mappings become JSON text; see `structure_column`.

    >>> as_arrow(as_column([[1.0], None]), "column 'v'").type
    ListType(list<item: double>)
    >>> as_arrow(as_column([1.0, "x"]), "column 'v'")
    Traceback (most recent call last):
    mlflow_timescale.common.errors.InvalidFrame: column 'v' holds values of several types,
    which Arrow has no column for: ...
    """
    return as_field(column, "", what)[1]


def as_field(column: Column, name: str, what: str) -> tuple[pa.Field, pa.Array]:
    """A column as `as_arrow` returns it, with its field; that of JSON text is marked.

    >>> as_field(as_column([{"a": 1}, {"b": 2}]), "m", "column 'm'")[0].metadata
    {b'feature_store': b'json'}
    """
    if not isinstance(column, np.ndarray):
        return pa.field(name, column.type), column
    structures = structure_column(column) if column.dtype == object else None
    if structures is not None:
        array, is_json = structures
        return pa.field(name, array.type, metadata=JSON if is_json else None), array
    array = _of_scalars(column, what)
    return pa.field(name, array.type), array


def _of_scalars(column: npt.NDArray[Any], what: str) -> pa.Array:
    try:
        return _array(column.tolist()) if column.dtype == object else pa.array(column)
    except UnicodeError as exc:
        raise InvalidFrame(f"{what} holds a lone surrogate, which Arrow cannot hold") from exc
    except (pa.ArrowException, OverflowError) as exc:
        raise InvalidFrame(
            f"{what} holds values of several types, which Arrow has no column for: {exc}"
        ) from exc


def text(column: Column, what: str) -> pa.Array:
    """A column of identifiers as text; integers are written out, nulls stay.

    The result is an array of text, or a dictionary of texts where the column is one. Raises
    InvalidFrame for numbers with a fraction, whose text would be ambiguous (1.10 and 1.1), and
    for anything else that is neither text nor integer.

    >>> text(pa.array([7, None]), "entity_key").to_pylist()
    ['7', None]
    >>> text(pa.array([1.1]), "model_version")
    Traceback (most recent call last):
    mlflow_timescale.common.errors.InvalidFrame: model_version holds double (such as 1.1),
    not text; ...
    """
    if isinstance(column, np.ndarray):
        return _text_of_objects(column, what)
    kind = column.type
    if pa.types.is_dictionary(kind):
        if _is_text(kind.value_type):
            return column
        names = text(column.dictionary, what)
        return pa.DictionaryArray.from_arrays(column.indices, names)
    if _is_text(kind):
        return column
    if pa.types.is_integer(kind) or pa.types.is_null(kind) or column.null_count == len(column):
        return column.cast(pa.string())
    sample = column.drop_null()[0].as_py()
    raise InvalidFrame(f"{what} holds {kind} (such as {sample!r}), not text; {_ADVICE}")


def labels(column: Column, what: str) -> tuple[list[str], npt.NDArray[np.int32]]:
    """A column of identifiers as its distinct texts, and a code for each row, shape (rows,).

    Raises InvalidFrame for a value that is missing, empty, or no identifier; see `text`.

    >>> labels(pa.array(["AAPL", "MSFT", "AAPL"]), "entity_key")
    (['AAPL', 'MSFT'], array([0, 1, 0], dtype=int32))
    """
    texts = text(column, what)
    if not pa.types.is_dictionary(texts.type):
        texts = texts.dictionary_encode()
    codes = texts.indices
    if codes.null_count:
        rows = np.flatnonzero(codes.is_null().to_numpy(zero_copy_only=False))
        raise InvalidFrame(f"{what} is missing in {len(rows)} row(s): {in_rows(rows.tolist())}")
    return _distinct(texts.dictionary.to_pylist(), codes.to_numpy(zero_copy_only=False), what)


def flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column in one piece; copied only where it is in several."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    joined = column.combine_chunks()
    return joined.chunk(0) if isinstance(joined, pa.ChunkedArray) and joined.num_chunks else joined


def refuse_duplicates(names: list[str]) -> None:
    """Raise InvalidFrame if a name occurs more than once."""
    if len(set(names)) == len(names):
        return
    twice = sorted({name for name in names if names.count(name) > 1})
    raise InvalidFrame(f"columns {', '.join(map(repr, twice))} of the frame occur more than once")


def objects(values: Iterable[Any]) -> npt.NDArray[np.object_]:
    """An array of one dimension, also where the values are lists of one length."""
    items = list(values)
    array: npt.NDArray[np.object_] = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def _converted(values: Any, native: Any) -> Any:
    """An Arrow array of values; their objects where Arrow has no type, as for complex numbers."""
    try:
        return pa.array(values)
    except (pa.ArrowException, UnicodeError):
        return np.asarray(native).astype(object)


def _array(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)  # NaN stays NaN
    except (pa.ArrowException, ValueError):
        return pa.array(values, from_pandas=True)  # NaN, NA and NaT are null among other objects


def _texts_or_objects(values: npt.NDArray[np.object_]) -> Column:
    if len(values) and all(isinstance(value, str) for value in values):
        try:
            return pa.array(values, type=pa.string())
        except UnicodeError:  # a lone surrogate, which is refused where the text is stored
            return values
    return values


def _text_of_objects(values: npt.NDArray[np.object_], what: str) -> pa.Array:
    texts: list[str | None] = []
    for row, value in enumerate(values):
        if value is None or type(value).__name__ in ("NAType", "NaTType") or value != value:
            texts.append(None)
        elif isinstance(value, str):
            if reason := refusal(value):
                raise InvalidFrame(f"{what} in row {row} {reason}: PostgreSQL cannot hold it")
            texts.append(value)
        elif isinstance(value, (int, np.integer)) and not isinstance(value, bool):
            texts.append(str(value))
        else:
            raise InvalidFrame(f"{what} in row {row} is {value!r}, not text; {_ADVICE}")
    return pa.array(texts, type=pa.string())


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _distinct(
    names: list[str | None], codes: npt.NDArray[Any], what: str
) -> tuple[list[str], npt.NDArray[np.int32]]:
    """Drop names that no row uses: a slice of a categorical column carries all of them."""
    used = np.bincount(codes, minlength=len(names)) > 0
    kept = [names[code] for code in np.flatnonzero(used)]
    if None in kept or "" in kept:
        empty = np.isin(codes, [i for i, name in enumerate(names) if not name])
        raise InvalidFrame(
            f"{what} is empty in some row: {in_rows(np.flatnonzero(empty).tolist())}"
        )
    refused = [reason for name in kept if name and (reason := refusal(name))]
    if refused:
        character = "NUL character" if "NUL" in refused[0] else "lone surrogate"
        raise InvalidFrame(
            f"{what} has a {character} in some row, which PostgreSQL cannot hold: it {refused[0]}"
        )
    return [str(name) for name in kept], (np.cumsum(used) - 1)[codes].astype(np.int32)
