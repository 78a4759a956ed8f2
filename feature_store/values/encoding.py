"""Values of any kind as float8, or as JSON for vectors and structures.

NaN is a value ("computed, undefined"); null is the absence of one and is not written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InvalidValue

Floats = npt.NDArray[np.float64]
_EXACT = 2**53  # beyond it float8 skips integers
_STRUCTURES = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_struct,
    pa.types.is_map,
)


class Values(NamedTuple):
    """A column of n values: numbers (NaN where JSON), what is there at all, JSON text or None."""

    number: Floats
    present: npt.NDArray[np.bool_]
    json: npt.NDArray[np.object_] | None = None


def is_there(objects: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
    """Which objects are not None."""
    return np.array([item is not None for item in objects], dtype=bool)


def column_values(column: pa.Array | npt.NDArray[np.object_], what: str) -> Values:
    """Read a column; raise InvalidValue for text, times, infinities and integers beyond 2**53."""
    if isinstance(column, np.ndarray):
        return object_values(column, what)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if any(is_kind(column.type) for is_kind in _STRUCTURES):
        return object_values(_as_objects(column), what)
    present = pc.is_valid(column).to_numpy(zero_copy_only=False)
    if pa.types.is_null(column.type):
        return Values(np.full(len(column), np.nan), present)
    return Values(check_finite(_numbers(column, what), what), present)


def object_values(column: npt.NDArray[np.object_], what: str) -> Values:
    """Read Python objects: numbers, None, and anything else that JSON has."""
    number = np.full(len(column), np.nan)
    present = np.ones(len(column), dtype=bool)
    texts: npt.NDArray[np.object_] = np.full(len(column), None, dtype=object)
    for row, value in enumerate(column):
        if value is None or type(value).__name__ == "NAType":
            present[row] = False
        elif is_structure(value):
            texts[row] = to_json(value, f"{what} in row {row}")
        else:
            number[row] = to_number(value, f"{what} in row {row}")
    return Values(number, present, texts if any(text is not None for text in texts) else None)


def is_structure(value: object) -> bool:
    """Whether a value is kept as JSON."""
    return isinstance(value, (Mapping, list, tuple, np.ndarray))


def to_number(value: Any, what: str) -> float:
    """One number as a float; raises InvalidValue."""
    if not isinstance(value, (int, float, Decimal, np.number, np.bool_)):
        raise InvalidValue(
            f"{what} is {value!r}, neither a number nor a vector or mapping to keep as JSON"
        )
    if isinstance(value, (int, np.integer)) and abs(int(value)) > _EXACT:
        raise InvalidValue(f"{what} is {value!r}: beyond 2**53 a double is not exact")
    number = float(value)
    if math.isinf(number):
        raise InvalidValue(f"{what} is infinite; write NaN if it is undefined")
    return number


def to_json(value: Any, what: str) -> str:
    """JSON text of a structure; raises InvalidValue for what JSON does not have."""
    try:
        return json.dumps(_plain(value), allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as exc:
        raise InvalidValue(f"{what} cannot be kept as JSON: {exc}") from exc


def check_finite(numbers: Floats, what: str) -> Floats:
    """Return the numbers; raise InvalidValue where one is infinite."""
    infinite = np.isinf(numbers)
    if infinite.any():
        raise InvalidValue(
            f"{what} is infinite in row {int(infinite.argmax())} "
            f"({int(infinite.sum())} in all); write NaN where it is undefined"
        )
    return numbers


def _numbers(column: pa.Array, what: str) -> Floats:
    kind = column.type
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif pa.types.is_integer(kind):
        _check_exact(column, what)
    elif not pa.types.is_floating(kind) and not pa.types.is_decimal(kind):
        shown = next((v for v in column.to_pylist() if v is not None), None)
        raise InvalidValue(f"{what} holds {kind} (such as {shown!r}), not numbers")
    numbers = column.cast(pa.float64(), safe=False).fill_null(math.nan)
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)


def _check_exact(column: pa.Array, what: str) -> None:
    ends = pc.min_max(column).as_py()
    if ends["min"] is not None and max(-ends["min"], ends["max"]) > _EXACT:
        raise InvalidValue(f"{what} has integers beyond 2**53, which a double cannot hold exactly")


def _as_objects(column: pa.Array) -> npt.NDArray[np.object_]:
    objects: npt.NDArray[np.object_] = np.empty(len(column), dtype=object)
    objects[:] = column.to_pylist()
    return objects


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
