"""The columns of recorded frames, checked and typed, before a transaction begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlflow_timescale.common.errors import InvalidText
from mlflow_timescale.common.frames import Columns, Frame, InvalidFrame, as_arrow, text
from mlflow_timescale.common.micros import column_micros
from mlflow_timescale.common.text import check_text
from mlflow_timescale.common.time import InvalidTime

COLUMNS = (
    "entity_key",
    "session",
    "event_time",
    "signal_time",
    "signal",
    "value",
    "horizon",
    "known_at",
    "signal_name",
    "model_name",
    "model_version",
    "group",
)
MOMENTS_OF_SIGNALS = ("signal_time", "event_time")
LONGEST_ENTITY = 1_000  # bytes in UTF-8, as in the feature store
LONGEST_NAME = 500  # bytes; an index entry of 2,704 bytes holds four of them
MOST_SESSIONS = 10_000
IDENTIFIERS = ("entity_key", "group", "signal_name", "model_name", "model_version")


def read(frame: Any, names: Mapping[str, str] | None = None) -> Columns:
    """The columns of any frame or file; a CSV file gives identifiers as they are written.

    `names` maps columns of ours to those of the frame that have another name; the levels of a
    pandas index count as columns. Raises InvalidFrame for a column that the frame has not.

    >>> read({"instrument": ["SH600519"], "score": [0.5]}, {"signal": "score"})["signal"].tolist()
    [0.5]
    """
    names = names or {}
    unknown = sorted(set(names) - set(COLUMNS))
    if unknown:
        raise InvalidFrame(
            f"columns has no {', '.join(map(repr, unknown))}; it maps any of {', '.join(COLUMNS)} "
            f"to a column of the frame"
        )
    text = {names.get(name, name) for name in IDENTIFIERS}
    try:
        given = Frame(frame, text=text, keys={*COLUMNS, *names.values()}).columns()
    except UnicodeEncodeError as exc:  # a lone surrogate, which Arrow refuses without a name
        for name in text:
            if name in frame:
                check_text(list(frame[name]), f"column {name!r}")
        raise InvalidText(f"a column holds text that UTF-8 cannot encode: {exc}") from exc
    for name, other in names.items():
        given[name] = given[other]
    return given


def rows(columns: Columns) -> int:
    """The number of rows.

    >>> rows(read({"entity_key": ["AAPL", "MSFT"]}))
    2
    """
    return len(next(iter(columns.values()), ()))


def take(columns: Columns, mask: NDArray[np.bool_]) -> Columns:
    """The rows where a mask, shape (rows,), is true."""
    rows = np.flatnonzero(mask)
    return Columns(
        (name, column[rows] if isinstance(column, np.ndarray) else column.take(pa.array(rows)))
        for name, column in columns.items()
    )


def texts(columns: Columns, name: str, default: str | None = None) -> list[str]:
    """A column of identifiers; missing and empty ones take the default.

    Raises InvalidFrame without a default, for values that are neither text nor integers, and for
    those that are too long; InvalidText for NUL, which no column of a database holds.

    >>> texts(read({"model_version": ["1.10", None]}), "model_version", "")
    ['1.10', '']
    """
    if name not in columns and default is not None:
        return [default] * rows(columns)
    values = text(columns[name], f"column {name!r}")
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    values = values.cast(pa.string())
    if pc.any(pc.match_substring(values, "\0")).as_py():
        check_text(values.to_pylist(), f"column {name!r}")
    _check_lengths(values, name)
    is_missing = pc.fill_null(pc.equal(values, ""), True)
    missing = pc.sum(is_missing).as_py() or 0
    if missing and default is None:
        raise InvalidFrame(f"column {name!r} has {missing} empty values")
    return list(pc.if_else(is_missing, default or "", values).to_pylist())


def _check_lengths(values: pa.Array, name: str) -> None:
    longest = LONGEST_ENTITY if name == "entity_key" else LONGEST_NAME
    length = pc.max(pc.binary_length(values)).as_py() or 0
    if length > longest:
        raise InvalidFrame(
            f"column {name!r} has a text of {length:,} bytes; the monitor takes up to {longest:,}"
        )


def numbers(columns: Columns, name: str) -> NDArray[np.float64]:
    """A numeric column as float64, shape (rows,); NaN where it is empty.

    >>> numbers(read({"signal": [1, None]}), "signal").tolist()
    [1.0, nan]
    """
    column = _arrow(columns, name)
    if _is_text(column.type):
        raise InvalidFrame(
            f"column {name!r} holds text where numbers belong, such as {_sample(column)}"
        )
    values = _cast(column, name, pa.float64())
    filled = pc.fill_null(values, float("nan")).to_numpy(zero_copy_only=False)
    return np.asarray(filled, dtype=np.float64)


def counts(columns: Columns, name: str, default: int) -> NDArray[np.int64]:
    """A column of whole numbers of sessions, 1 or more, shape (rows,)."""
    if name not in columns:
        return np.full(rows(columns), default, dtype=np.int64)
    filled = pc.fill_null(_cast(_arrow(columns, name), name, pa.int64()), default)
    values = np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.int64)
    if len(values) and values.min() < 1:
        raise InvalidFrame(f"column {name!r} holds {values.min()}; it counts sessions, 1 or more")
    if len(values) and values.max() > MOST_SESSIONS:
        raise InvalidFrame(
            f"column {name!r} holds {values.max()}; it counts sessions, at most {MOST_SESSIONS}"
        )
    return values


def instants(columns: Columns, name: str) -> NDArray[np.datetime64]:
    """A column of points in time as UTC datetime64[us], shape (rows,); NaT where it is empty.

    Raises InvalidFrame for times without a time zone, and for what is no time.
    """
    try:
        micros = column_micros(_arrow(columns, name), f"column {name!r}", missing=True)
    except InvalidTime as exc:
        hint = " (at the close, not at midnight; dates are passed as column 'session')"
        raise InvalidFrame(f"{exc}{hint * (name in MOMENTS_OF_SIGNALS)}") from exc
    return micros.view("datetime64[us]")  # MISSING is NaT


def days(columns: Columns, name: str) -> NDArray[np.datetime64]:
    """A column of dates, ISO texts or midnights without a zone, as datetime64[D], shape (rows,)."""
    column = _arrow(columns, name)
    kind = column.type
    if pa.types.is_timestamp(kind):
        if kind.tz is not None:
            raise InvalidFrame(f"column {name!r} holds points in time ({kind}); pass dates")
        moments = column.to_numpy(zero_copy_only=False)
        if (moments != moments.astype("datetime64[D]")).any():
            raise InvalidFrame(f"column {name!r} holds times of day; pass dates")
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        raise InvalidFrame(
            f"column {name!r} ({kind}) holds no dates, such as {_sample(column)}; pass dates, or "
            f"text such as '2025-11-03'"
        )
    dates = _cast(column, name, pa.date32())
    if dates.null_count:
        raise InvalidFrame(f"column {name!r} has {dates.null_count} empty values")
    return np.asarray(dates.to_numpy(zero_copy_only=False), dtype="datetime64[D]")


def values(columns: Columns, name: str) -> pa.Array:
    """A column as it is; categories are decoded.

    >>> values(read({"regime": ["calm", None]}), "regime").to_pylist()
    ['calm', None]
    """
    return _arrow(columns, name)


def _arrow(columns: Columns, name: str) -> pa.Array:
    column = as_arrow(columns[name], f"column {name!r}")
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _cast(column: pa.Array, name: str, kind: pa.DataType) -> pa.Array:
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        raise InvalidFrame(
            f"column {name!r} ({column.type}) cannot be read as {kind}: {exc}"
        ) from exc


def _sample(column: pa.Array) -> str:
    return repr(next((value for value in column.to_pylist() if value is not None), ""))
