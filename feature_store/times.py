"""Times of any kind as whole microseconds since 1970 in UTC, which is what PostgreSQL stores.

A time that would have to be guessed (naive), rounded (nanoseconds) or clipped (infinite) is
refused: a point in time that is wrong by one microsecond may show a value that was not known yet.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .errors import InvalidTime

Micros = npt.NDArray[np.int64]
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MISSING = np.iinfo(np.int64).min  # NaT, as pandas and numpy write it
MICROSECOND = timedelta(microseconds=1)
_FIRST = (datetime.min.replace(tzinfo=timezone.utc) - EPOCH) // MICROSECOND
_LAST = (datetime.max.replace(tzinfo=timezone.utc) - EPOCH) // MICROSECOND
_FIXED_OFFSET = re.compile(r"[+-]\d\d:?\d\d\Z")


def to_micros(moment: datetime, what: str = "time") -> int:
    """Microseconds since 1970 of an aware datetime.

    Raises InvalidTime if it is naive, finer than a microsecond, or skipped by daylight saving.

    >>> to_micros(datetime(2024, 1, 15, 16, tzinfo=ZoneInfo("America/New_York")))
    1705352400000000
    >>> to_micros(datetime(2024, 1, 15, 16))
    Traceback (most recent call last):
    feature_store.errors.InvalidTime: time 2024-01-15T16:00:00 has no time zone; ...
    """
    if not isinstance(moment, datetime):
        raise InvalidTime(f"{what} {moment!r} is not a datetime; give one with a time zone")
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise InvalidTime(
            f"{what} {_shown(moment)} has no time zone; say which one is meant, for example "
            f"datetime(..., tzinfo=ZoneInfo('America/New_York'))"
        )
    if getattr(moment, "nanosecond", 0):
        raise InvalidTime(f"{what} {_shown(moment)} is finer than a microsecond; round it yourself")
    utc = moment.astimezone(timezone.utc)
    if utc.astimezone(moment.tzinfo).replace(tzinfo=None) != moment.replace(tzinfo=None):
        raise InvalidTime(
            f"{what} {_shown(moment)} does not exist: daylight saving skips it in {moment.tzinfo}"
        )
    return int((utc - EPOCH) // MICROSECOND)


def from_micros(micros: int) -> datetime:
    """The aware datetime of microseconds since 1970.

    >>> from_micros(1705352400000000).isoformat()
    '2024-01-15T21:00:00+00:00'
    """
    return EPOCH + timedelta(microseconds=int(micros))


def duration_micros(duration: timedelta, what: str = "duration") -> int:
    """Microseconds of a duration; a negative one, or a calendar one (a month), is refused."""
    if not isinstance(duration, timedelta) or duration < timedelta(0):
        raise InvalidTime(f"{what} {duration!r} is not a timedelta of zero or more")
    return int(duration // MICROSECOND)


def column_micros(column: Any, what: str, *, missing: bool = False) -> Micros:
    """Microseconds since 1970 of an Arrow column, or of an array of aware datetimes.

    `missing` lets nulls through as MISSING. Raises InvalidTime for naive, null, sub-microsecond or
    out-of-range times.
    """
    if isinstance(column, np.ndarray):
        return object_micros(column, what, missing=missing)
    if len(column) == 0:
        return np.empty(0, dtype=np.int64)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not missing and column.null_count:
        row = pc.index(pc.is_null(column), value=True).as_py()
        raise InvalidTime(f"{what} is missing in row {row}")
    if pa.types.is_null(column.type):
        return np.full(len(column), MISSING, dtype=np.int64)
    if not pa.types.is_timestamp(column.type):
        raise InvalidTime(
            f"{what} holds {column.type}, not times; for text use "
            f"pandas.to_datetime(..., utc=True), for dates say which moment of the day is meant"
        )
    check_zone(column.type.tz, what)
    micros = _as_micros(column, what).cast(pa.int64())
    values = np.asarray(micros.fill_null(MISSING).to_numpy(zero_copy_only=False), dtype=np.int64)
    check_range(values[values != MISSING] if missing else values, what)
    return values


def check_zone(zone: str | None, what: str) -> None:
    """Raise InvalidTime unless the zone is given and known."""
    if zone is None:
        raise InvalidTime(
            f"{what} has no time zone; say which one is meant: .dt.tz_localize('America/New_York') "
            f"in pandas, .dt.replace_time_zone(...) in polars"
        )
    if not _FIXED_OFFSET.match(zone) and not _is_known(zone):
        raise InvalidTime(f"{what} is in time zone {zone!r}, which nobody knows")


def check_range(micros: Micros, what: str) -> None:
    """Raise InvalidTime unless all lie in the years 1 to 9999."""
    if micros.size and (micros.min() < _FIRST or micros.max() > _LAST):
        raise InvalidTime(f"{what} is infinite or outside the years 1 to 9999")


def object_micros(values: Any, what: str, *, missing: bool = False) -> Micros:
    """Microseconds since 1970 of a sequence of aware datetimes."""
    found = np.empty(len(values), dtype=np.int64)
    for row, value in enumerate(values):
        if value is None or value != value:  # NaT and NaN differ from themselves
            if not missing:
                raise InvalidTime(f"{what} is missing in row {row}")
            found[row] = MISSING
        else:
            found[row] = to_micros(value, f"{what} in row {row},")
    return found


def _as_micros(column: pa.Array, what: str) -> pa.Array:
    try:
        return column.cast(pa.timestamp("us", column.type.tz))
    except pa.ArrowInvalid as exc:
        raise InvalidTime(
            f"{what} is finer than a microsecond, or out of range ({exc}); round it yourself: "
            f".dt.floor('us') in pandas"
        ) from exc


@cache
def _is_known(zone: str) -> bool:
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        return False
    return True


def _shown(moment: datetime) -> str:
    return moment.isoformat()
