"""Frames of any kind as batches of columns: pandas, Arrow, polars, Parquet files, iterators."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_store.errors import InvalidFrame
from mlflow_timescale.common.micros import Micros, column_micros, object_micros

Column: TypeAlias = Any  # a pyarrow.Array, or a numpy array of Python objects
Columns = dict[str, Column]


def is_pandas(frame: object) -> bool:
    """Whether it is a pandas frame, without importing pandas for the question."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(frame, pandas.DataFrame)


def is_polars(frame: object) -> bool:
    """Whether it is a polars frame, lazy or not, without importing polars for the question."""
    polars = sys.modules.get("polars")
    return polars is not None and isinstance(frame, (polars.DataFrame, polars.LazyFrame))


def columns(frame: Any) -> Columns:
    """The columns of one frame that is in memory."""
    if is_pandas(frame):
        return _pandas_columns(frame)
    if isinstance(frame, Mapping):
        return {name: as_column(values) for name, values in frame.items()}
    if is_polars(frame):
        frame = frame.lazy().collect().to_arrow()
    elif not isinstance(frame, (pa.Table, pa.RecordBatch)) and hasattr(frame, "__arrow_c_stream__"):
        frame = pa.table(frame)
    if not isinstance(frame, (pa.Table, pa.RecordBatch)):
        raise InvalidFrame(
            f"cannot read a {type(frame).__name__}; give a pandas, polars or Arrow frame, "
            f"a Parquet file, or an iterator of those"
        )
    _refuse_duplicates(frame.schema.names)
    return {name: _flat(frame.column(i)) for i, name in enumerate(frame.schema.names)}


def batches(frame: Any, values: int) -> Iterator[Columns]:
    """The columns of a frame in slices of about `values` values; files are never all in memory."""
    for part in _parts(frame, values):
        if isinstance(part, Mapping):
            yield columns(part)
            continue
        rows = max(1, values // max(1, _width(part)))
        if len(part) == 0:
            yield columns(part)
        for first in range(0, len(part), rows):
            yield columns(part[first : first + rows])


def is_stream(frame: Any) -> bool:
    """Whether a frame comes in batches that can be read only once, or is on disk."""
    in_memory = (pa.Table, pa.RecordBatch, Mapping)
    return not (is_pandas(frame) or is_polars(frame) or isinstance(frame, in_memory))


def times(column: Column, what: str, *, missing: bool = False) -> Micros:
    """A column of times as microseconds; see `common.micros`."""
    if isinstance(column, np.ndarray):
        return object_micros(column, what, missing=missing)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column_micros(column, what, missing=missing)


def labels(column: Column, what: str) -> tuple[list[str], npt.NDArray[np.int32]]:
    """A column of texts as its distinct values and a code for each row.

    Raises InvalidFrame for anything that is not text, and for missing or empty text.
    """
    if isinstance(column, np.ndarray):
        column = _text(column, what)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    if pa.types.is_null(column.type.value_type) and len(column) == 0:
        return [], np.empty(0, dtype=np.int32)
    if not _is_text(column.type.value_type):
        raise InvalidFrame(f"{what} holds {column.type.value_type}, not text; use .astype(str)")
    codes = column.indices
    if codes.null_count:
        raise InvalidFrame(f"{what} is missing in {codes.null_count} row(s)")
    return _distinct(column.dictionary.to_pylist(), codes.to_numpy(zero_copy_only=False), what)


def as_column(values: Any) -> Column:
    """A column from a list, an array, or what a frame's column may be."""
    if isinstance(values, pa.ChunkedArray):
        return _flat(values)
    if isinstance(values, pa.Array):
        return values
    if type(values).__module__.startswith(("pandas", "polars")):
        return _series(values)
    array = np.asarray(values, dtype=object) if not isinstance(values, np.ndarray) else values
    if array.dtype == object:
        return _texts_or_objects(array)
    return pa.array(array)


def _parts(frame: Any, values: int) -> Iterator[Any]:
    if isinstance(frame, (str, Path)):
        yield from _dataset_batches(_open(Path(frame)), values)
    elif hasattr(frame, "scanner") and hasattr(frame, "schema"):  # a pyarrow dataset
        yield from _dataset_batches(frame, values)
    elif is_polars(frame):
        yield frame.lazy().collect()
    elif not is_stream(frame):
        yield frame
    elif hasattr(frame, "__arrow_c_stream__"):
        yield from pa.RecordBatchReader.from_stream(frame)
    elif isinstance(frame, Iterable):
        for part in frame:
            yield from _parts(part, values)
    else:
        columns(frame)  # raises


def _open(path: Path) -> Any:
    import pyarrow.dataset

    if not path.exists():
        raise InvalidFrame(f"no file or directory {path}")
    kind = "csv" if path.suffix == ".csv" else "parquet"
    return pyarrow.dataset.dataset(path, format=kind, partitioning="hive")


def _dataset_batches(dataset: Any, values: int) -> Iterator[Any]:
    rows = max(1, values // max(1, len(dataset.schema.names)))
    yield from dataset.to_batches(batch_size=rows, batch_readahead=1, fragment_readahead=1)


def _width(part: Any) -> int:
    return len(part.schema.names) if isinstance(part, (pa.Table, pa.RecordBatch)) else part.shape[1]


def _pandas_columns(frame: Any) -> Columns:
    names = [str(name) for name in frame.columns]
    _refuse_duplicates(names)
    return {name: _series(frame.iloc[:, i]) for i, name in enumerate(names)}


def _series(series: Any) -> Column:
    """A pandas or polars series; a float NaN of pandas stays NaN, its NA and NaT become null."""
    if type(series).__module__.startswith("polars"):
        return series.to_arrow()
    if series.dtype == object:
        return _texts_or_objects(series.to_numpy())
    if isinstance(series.dtype, np.dtype) and series.dtype.kind == "f":
        return pa.array(series.to_numpy())
    if getattr(series.dtype, "tz", None) is not None:
        moments = pa.array(series.dt.tz_convert(None).to_numpy())
        return moments.cast(pa.timestamp(moments.type.unit, "UTC"))
    array = pa.array(series.array)
    return _flat(array) if isinstance(array, pa.ChunkedArray) else array


def _texts_or_objects(values: npt.NDArray[np.object_]) -> Column:
    if len(values) and all(isinstance(value, str) for value in values):
        return pa.array(values, type=pa.string())
    return values


def _text(values: npt.NDArray[np.object_], what: str) -> pa.Array:
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise InvalidFrame(f"{what} in row {row} is {value!r}, not text")
    return pa.array(values, type=pa.string())


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _distinct(
    names: list[str | None], codes: npt.NDArray[Any], what: str
) -> tuple[list[str], npt.NDArray[np.int32]]:
    """Drop the names that no row uses: a slice of a categorical carries them all."""
    used = np.bincount(codes, minlength=len(names)) > 0
    kept = [names[code] for code in np.flatnonzero(used)]
    if None in kept or "" in kept:
        raise InvalidFrame(f"{what} is empty in some row")
    if any("\x00" in name for name in kept if name):
        raise InvalidFrame(f"{what} has a NUL character in some row, which PostgreSQL cannot hold")
    return [str(name) for name in kept], (np.cumsum(used) - 1)[codes].astype(np.int32)


def _flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    flat = column.combine_chunks()
    return flat.chunk(0) if isinstance(flat, pa.ChunkedArray) and flat.num_chunks else flat


def _refuse_duplicates(names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1}) if len(names) < 200 else []
    if twice or len(set(names)) != len(names):
        raise InvalidFrame(f"columns {twice or 'of the frame'} occur more than once")
