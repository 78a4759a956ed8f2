"""Columns of times as int64 microseconds since 1970 in UTC.

The rules are those of `common.time`: a time without a time zone, or finer than a microsecond, is
refused.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_timescale.common.errors import in_rows
from mlflow_timescale.common.time import (
    EPOCH,
    MICROSECOND,
    InvalidTime,
    missing_zone,
    to_micros,
)

__all__ = [
    "FIRST",
    "LAST",
    "MISSING",
    "Micros",
    "check_range",
    "check_zone",
    "column_micros",
    "midnights",
    "object_micros",
]

Micros = npt.NDArray[np.int64]
MISSING = np.iinfo(np.int64).min  # NaT, as pandas and numpy store it
FIRST = (datetime.min.replace(tzinfo=timezone.utc) - EPOCH) // MICROSECOND
LAST = (datetime.max.replace(tzinfo=timezone.utc) - EPOCH) // MICROSECOND
_FIXED_OFFSET = re.compile(r"[+-]\d\d:?\d\d\Z")
_LOCALIZE = ".dt.tz_localize('America/New_York') in pandas, .dt.replace_time_zone(...) in polars"
_CLOSE = (
    "these are dates, and a daily bar is known at the close: "
    "(dates + pd.Timedelta(hours=16)).dt.tz_localize('America/New_York')"
)


def column_micros(column: Any, what: str, *, missing: bool = False) -> Micros:
    """Microseconds of a column.

    Parameters
    ----------
    column
        An Arrow array of timestamps with a time zone, of any unit, or a numpy array of aware
        datetimes; shape (rows,). Raises InvalidTime for naive, null, sub-microsecond or
        out-of-range times.
    what
        What the error calls it.
    missing
        Let nulls through as MISSING.

    Examples
    --------
    >>> column = pa.array([1705352400, None], pa.timestamp("s", "America/New_York"))
    >>> column_micros(column, "event_time", missing=True)[:1]
    array([1705352400000000])
    >>> column_micros(column, "event_time")
    Traceback (most recent call last):
    mlflow_timescale.common.errors.InvalidTime: event_time is missing in row 1
    """
    if isinstance(column, np.ndarray):
        return object_micros(column, what, missing=missing)
    if len(column) == 0:
        return np.empty(0, dtype=np.int64)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not missing and column.null_count:
        raise _missing(column.is_null().to_numpy(zero_copy_only=False), what)
    if pa.types.is_null(column.type):
        return np.full(len(column), MISSING, dtype=np.int64)
    if not pa.types.is_timestamp(column.type):
        raise InvalidTime(
            f"{what} holds {column.type}, not times; for text use "
            f"pandas.to_datetime(..., utc=True), for dates say which moment of the day is meant: a "
            f"daily bar is known at the close"
        )
    check_zone(column.type.tz, what, _CLOSE if _are_dates(column) else _LOCALIZE)
    micros = _as_micros(column, what).cast(pa.int64())
    values = np.asarray(micros.fill_null(MISSING).to_numpy(zero_copy_only=False), dtype=np.int64)
    check_range(values[values != MISSING] if missing else values, what)
    return values


def object_micros(values: Any, what: str, *, missing: bool = False) -> Micros:
    """Microseconds of a sequence of datetimes.

    Parameters
    ----------
    values
        Aware datetimes; shape (rows,). Raises InvalidTime like `to_micros`, and for missing values.
    what
        What the error calls it.
    missing
        Let None, NaN and NaT through as MISSING.

    Examples
    --------
    >>> object_micros([EPOCH], "event_time")
    array([0])
    """
    micros = np.empty(len(values), dtype=np.int64)
    for row, value in enumerate(values):
        is_missing = value is None or value != value  # NaT and NaN differ from themselves
        micros[row] = MISSING if is_missing else to_micros(value, f"{what} in row {row},")
    if not missing and (micros == MISSING).any():
        raise _missing(micros == MISSING, what)
    return micros


def check_zone(zone: str | None, what: str, advice: str = _LOCALIZE) -> None:
    """Raise InvalidTime unless a column's time zone is given and exists.

    Parameters
    ----------
    zone
        A name such as "America/New_York", or an offset such as "+05:30".
    what
        What the error calls the column.
    advice
        How to name a time zone.

    Examples
    --------
    >>> check_zone("+05:30", "event_time")
    >>> check_zone(None, "event_time")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    mlflow_timescale.common.errors.InvalidTime: event_time has no time zone; say which one is ...
    """
    if zone is None:
        raise missing_zone(what, advice)
    if not _FIXED_OFFSET.match(zone) and not _exists(zone):
        raise InvalidTime(f"{what} is in time zone {zone!r}, which does not exist")


def check_range(micros: Micros, what: str) -> None:
    """Raise InvalidTime unless all times lie in the years 1 to 9999.

    Parameters
    ----------
    micros
        Any shape.
    what
        What the error calls them.

    Examples
    --------
    >>> check_range(np.array([2**62]), "known_at")
    Traceback (most recent call last):
    mlflow_timescale.common.errors.InvalidTime: known_at is infinite or outside the years 1 to 9999
    """
    if micros.size and (micros.min() < FIRST or micros.max() > LAST):
        raise InvalidTime(f"{what} is infinite or outside the years 1 to 9999")


def midnights(micros: Micros, zone: str) -> npt.NDArray[np.bool_]:
    """Whether each instant is midnight in a time zone: then it may be a date.

    Parameters
    ----------
    micros
        Shape (rows,).
    zone
        An IANA name. pyarrow raises ArrowInvalid for others.

    Examples
    --------
    >>> midnights(np.array([0, 5 * 3_600_000_000]), "America/New_York")
    array([False,  True])
    """
    aware = pa.array(micros).cast(pa.timestamp("us", zone))
    local = pc.local_timestamp(aware).to_numpy(zero_copy_only=False)
    return np.asarray(local == local.astype("datetime64[D]"))


def _missing(is_missing: npt.NDArray[np.bool_], what: str) -> InvalidTime:
    rows = np.flatnonzero(is_missing).tolist()
    where = f"in {len(rows)} rows: {in_rows(rows)}" if len(rows) > 1 else f"in row {rows[0]}"
    return InvalidTime(f"{what} is missing {where}")


def _are_dates(column: pa.Array) -> bool:
    """Whether every time without a zone is a midnight; a column of nulls is no dates."""
    if column.type.tz is not None or column.null_count == len(column):
        return False
    midnights = pc.equal(pc.floor_temporal(column, unit="day"), column)
    return bool(pc.all(midnights, skip_nulls=True).as_py())


def _as_micros(column: pa.Array, what: str) -> pa.Array:
    try:
        return column.cast(pa.timestamp("us", column.type.tz))
    except pa.ArrowInvalid as exc:
        raise InvalidTime(
            f"{what} is finer than a microsecond, or out of range ({exc}); round it yourself: "
            f".dt.floor('us') in pandas"
        ) from exc


@cache
def _exists(zone: str) -> bool:
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        return False
    return True
