"""Frames at the edge: pandas, polars, Arrow, mappings, CSV and Parquet files become typed columns.

Everything is turned into Arrow first; what cannot be understood is refused here, before a
transaction begins, with the column's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlflow_timescale.db import Error


class BadFrame(Error, ValueError):
    """A frame that lacks a column, or holds what the column cannot mean."""


def table(frame: Any) -> pa.Table:
    """Any frame, or the path of a `.csv` or `.parquet` file, as an Arrow table.

    >>> table({"entity_key": ["AAPL"], "signal": [0.5]}).column_names
    ['entity_key', 'signal']
    """
    if isinstance(frame, (str, Path)):
        return _read(Path(frame))
    if isinstance(frame, pa.Table):
        return frame
    if isinstance(frame, Mapping):
        return pa.table(dict(frame))
    if hasattr(frame, "to_arrow"):
        return frame.to_arrow()
    if type(frame).__module__.partition(".")[0] == "pandas":
        return pa.Table.from_pandas(frame, preserve_index=False)
    if hasattr(frame, "__arrow_c_stream__"):
        return pa.table(frame)
    raise BadFrame(
        f"cannot read a {type(frame).__name__}; pass a pandas, polars or Arrow frame, a mapping of "
        f"columns, or the path of a .csv or .parquet file"
    )


def _read(path: Path) -> pa.Table:
    import pyarrow.csv
    import pyarrow.parquet

    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path)
    if path.suffix in (".csv", ".gz"):
        return pyarrow.csv.read_csv(path)
    raise BadFrame(f"{path}: not a .csv or .parquet file")


def require(frame: pa.Table, *names: str) -> None:
    """Raise BadFrame if a column is missing."""
    missing = [name for name in names if name not in frame.column_names]
    if missing:
        raise BadFrame(
            f"no column {', '.join(map(repr, missing))}; the frame has "
            f"{', '.join(map(repr, frame.column_names)) or 'no columns'}"
        )


def texts(frame: pa.Table, name: str, default: str | None = None) -> list[str]:
    """A text column; numbers are written out, nulls take the default. Raises BadFrame."""
    if name not in frame.column_names and default is not None:
        return [default] * len(frame)
    require(frame, name)
    column = _cast(frame, name, pa.string())
    if column.null_count and default is None:
        raise BadFrame(f"column {name!r} has {column.null_count} empty values")
    return list(pc.fill_null(column, default or "").to_pylist())


def numbers(frame: pa.Table, name: str) -> NDArray[np.float64]:
    """A numeric column as float64, NaN where empty."""
    require(frame, name)
    column = frame.column(name)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        raise BadFrame(
            f"column {name!r} holds text where numbers belong, such as {_sample(column)}"
        )
    values = _cast(frame, name, pa.float64())
    return np.asarray(pc.fill_null(values, float("nan")).to_numpy(), dtype=np.float64)


def counts(frame: pa.Table, name: str, default: int) -> NDArray[np.int64]:
    """A column of whole numbers >= 1."""
    if name not in frame.column_names:
        return np.full(len(frame), default, dtype=np.int64)
    column = pc.fill_null(_cast(frame, name, pa.int64()), default).to_numpy()
    if len(column) and column.min() < 1:
        raise BadFrame(f"column {name!r} holds {column.min()}; it counts sessions, 1 or more")
    return np.asarray(column, dtype=np.int64)


def instants(frame: pa.Table, name: str) -> NDArray[np.datetime64]:
    """A column of points in time as UTC datetime64[us], NaT where empty; naive ones are refused."""
    require(frame, name)
    kind = frame.column(name).type
    if pa.types.is_date(kind) or (pa.types.is_timestamp(kind) and kind.tz is None):
        raise BadFrame(
            f"column {name!r} has no time zone (it is {kind}): the same text means different "
            f"instants in New York and Tokyo; localize it first"
        )
    if not pa.types.is_timestamp(kind):
        raise BadFrame(f"column {name!r} is {kind}, not points in time with a time zone")
    column = _cast(frame, name, pa.timestamp("us", "UTC"))
    return np.asarray(column.to_numpy(), dtype="datetime64[us]")


def days(frame: pa.Table, name: str) -> NDArray[np.datetime64]:
    """A column of dates (dates, ISO text, or midnights without a zone) as datetime64[D]."""
    require(frame, name)
    kind = frame.column(name).type
    if pa.types.is_timestamp(kind):
        if kind.tz is not None:
            raise BadFrame(f"column {name!r} holds points in time ({kind}); pass dates")
        column = frame.column(name).to_numpy()
        if (column != column.astype("datetime64[D]")).any():
            raise BadFrame(f"column {name!r} holds times of day; pass dates")
    dates = _cast(frame, name, pa.date32())
    if dates.null_count:
        raise BadFrame(f"column {name!r} has {dates.null_count} empty values")
    return np.asarray(dates.to_numpy(), dtype="datetime64[D]")


def aware(instant: datetime, name: str) -> datetime:
    """Return the datetime, or raise if it has no time zone."""
    if instant.tzinfo is None:
        raise BadFrame(f"{name} {instant.isoformat()} has no time zone; pass an aware datetime")
    return instant


def day(value: date | str, name: str = "date") -> date:
    """A date, or its ISO text; a datetime is refused, since its date depends on the zone."""
    if isinstance(value, datetime) or not isinstance(value, (date, str)):
        raise BadFrame(f"{name} must be a date such as 2024-01-12, not {value!r}")
    try:
        return value if isinstance(value, date) else date.fromisoformat(value)
    except ValueError as exc:
        raise BadFrame(f"{name} {value!r} is not a date such as 2024-01-12") from exc


def _cast(frame: pa.Table, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    column = frame.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        raise BadFrame(f"column {name!r} ({column.type}) cannot be read as {kind}: {exc}") from exc


def _sample(column: pa.ChunkedArray) -> str:
    return repr(next((item for item in column.to_pylist() if item is not None), ""))
