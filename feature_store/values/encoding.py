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

from mlflow_timescale.common.frames import is_structure
from mlflow_timescale.common.text import refusal

from ..errors import InvalidValue
from . import categories

Floats = npt.NDArray[np.float64]
_EXACT = 2**53  # beyond it float8 skips integers
_STRUCTURES = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
    pa.types.is_struct,
    pa.types.is_map,
)
_NUMBERS = (int, float, Decimal, np.integer, np.floating, np.bool_)


class Values(NamedTuple):
    """A column of n values: numbers (NaN where JSON), what is there at all, JSON text or None."""

    number: Floats
    present: npt.NDArray[np.bool_]
    json: npt.NDArray[np.object_] | None = None


def is_there(objects: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
    """Which objects are not None."""
    return np.array([item is not None for item in objects], dtype=bool)


def column_values(column: pa.Array | npt.NDArray[np.object_], what: str) -> Values:
    """Read a column of numbers, short texts or structures.

    Raises InvalidValue for anything else (long texts, times, durations, complex numbers), and for
    infinities and integers or decimals beyond 2**53.
    """
    if isinstance(column, np.ndarray):
        return object_values(column, what)
    column = _unwrapped(column)
    if any(is_kind(column.type) for is_kind in _STRUCTURES):
        return object_values(_as_objects(column, what), what)
    if categories.is_text(column.type):
        texts = categories.labels(column, what)
        return Values(np.full(len(column), np.nan), is_there(texts), texts)
    present = pc.is_valid(column).to_numpy(zero_copy_only=False)
    if pa.types.is_null(column.type):
        return Values(np.full(len(column), np.nan), present)
    return Values(check_finite(_numbers(column, what), what), present)


def object_values(column: npt.NDArray[np.object_], what: str) -> Values:
    """Read Python objects: numbers, None, short texts, and anything else that JSON has.

    In a column of texts NaN is a missing text, as in pandas.
    """
    number = np.full(len(column), np.nan)
    present = np.ones(len(column), dtype=bool)
    texts: npt.NDArray[np.object_] = np.full(len(column), None, dtype=object)
    has_text = False
    for row, given in enumerate(column):
        value = unwrapped(given)
        if value is None or type(value).__name__ in ("NAType", "NaTType"):
            present[row] = False
        elif is_structure(value):
            texts[row] = to_json(value, f"{what} in row {row}")
        elif isinstance(value, str):
            has_text = True
            texts[row] = categories.to_label(value, f"{what} in row {row}")
            present[row] = texts[row] is not None
        else:
            number[row] = to_number(value, f"{what} in row {row}")
    is_json = is_there(texts)
    if has_text:
        present &= is_json | ~np.isnan(number)
    return Values(number, present, texts if is_json.any() else None)


def unwrapped(value: Any) -> Any:
    """A value; the number in an array without dimensions."""
    return value.tolist() if isinstance(value, np.ndarray) and value.ndim == 0 else value


def to_number(value: Any, what: str) -> float:
    """One number as a float; raises InvalidValue."""
    if isinstance(value, np.timedelta64) or not isinstance(value, _NUMBERS):
        raise InvalidValue(
            f"{what} is {value!r}, neither a number, a text, nor a vector or mapping"
        )
    if isinstance(value, Decimal) and value.is_nan():
        return math.nan
    if _is_inexact(value):
        raise InvalidValue(f"{what} is {value!r}: beyond 2**53 a double is not exact")
    number = float(value)
    if math.isinf(number):
        raise InvalidValue(f"{what} is infinite; write NaN if it is undefined")
    return number


def to_json(value: Any, what: str) -> str:
    """JSON text of a structure; raises InvalidValue for what JSON does not have."""
    try:
        return json.dumps(_plain(value, what), allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as exc:
        raise exc if isinstance(exc, InvalidValue) else _not_json(what, exc) from exc
    except RecursionError as exc:
        raise _not_json(what, "it is nested too deeply, or contains itself") from exc


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
    elif pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        _check_exact(column, what)
    elif not pa.types.is_floating(kind):
        shown = next((v for v in column.to_pylist() if v is not None), None)
        raise InvalidValue(f"{what} holds {kind} (such as {shown!r}), not numbers")
    numbers = column.cast(pa.float64(), safe=False).fill_null(math.nan)
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)


def _check_exact(column: pa.Array, what: str) -> None:
    ends = pc.min_max(column).as_py()
    if ends["min"] is not None and max(-ends["min"], ends["max"]) > _EXACT:
        raise InvalidValue(
            f"{what} has {column.type} numbers beyond 2**53, which a double cannot hold exactly"
        )


def _is_inexact(value: Any) -> bool:
    """Whether a number lies beyond 2**53 in a type that has more digits than a double there."""
    if isinstance(value, Decimal):
        return value.is_finite() and value.copy_abs() > _EXACT
    if isinstance(value, (int, np.integer)):
        return abs(int(value)) > _EXACT
    if isinstance(value, np.longdouble):
        return bool(np.isfinite(value) and np.abs(value) > _EXACT and float(value) != value)
    return False


def _unwrapped(column: pa.Array) -> pa.Array:
    """A column without a dictionary, runs, or an extension type that changes no value."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return column.dictionary_decode()
    if pa.types.is_run_end_encoded(kind):
        return pc.run_end_decode(column)
    if getattr(kind, "extension_name", None) == "arrow.bool8":
        return column.storage
    return column


def _as_objects(column: pa.Array, what: str) -> npt.NDArray[np.object_]:
    """The rows as Python objects. A null field of a struct is absent: Arrow gives every row all."""
    objects: npt.NDArray[np.object_] = np.empty(len(column), dtype=object)
    try:
        objects[:] = column.to_pylist(maps_as_pydicts="strict")
    except KeyError as exc:
        raise InvalidValue(f"{what} has a mapping with a repeated key: {exc}") from exc
    if _has_struct(column.type):
        objects[:] = [_without_nulls(row, column.type) for row in objects]
    return objects


def _has_struct(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind)) or any(
        _has_struct(kind.field(i).type) for i in range(kind.num_fields)
    )


def _without_nulls(value: Any, kind: pa.DataType) -> Any:
    """A value without the null fields of its structs; the nulls of lists and maps stay."""
    if value is None or not kind.num_fields:
        return value
    if pa.types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return {
            field.name: _without_nulls(value[field.name], field.type)
            for field in fields
            if value[field.name] is not None
        }
    if pa.types.is_map(kind):
        return {key: _without_nulls(item, kind.item_type) for key, item in value.items()}
    return [_without_nulls(item, kind.value_type) for item in value]


def _plain(value: Any, what: str) -> Any:
    """A structure of what JSON has. Times and big integers, which numpy would convert, raise."""
    if type(value) is float:  # most values, and json refuses those that are not finite
        return value
    if isinstance(value, np.ndarray):
        if value.dtype == np.float64:
            return value.tolist()
        if value.dtype.kind in "mM":
            raise TypeError(f"{value.dtype} is neither a number nor a text")
        return _plain(value.tolist(), what)
    if isinstance(value, (np.timedelta64, np.datetime64)):
        raise TypeError(f"{value!r} is neither a number nor a text")
    if isinstance(value, Mapping):
        return _with_text_keys(value, what)
    if isinstance(value, (list, tuple)):
        return [_plain(item, what) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer, np.floating, Decimal)):
        number = to_number(value, what)
        return int(value) if isinstance(value, (int, np.integer)) else number
    if isinstance(value, str):
        return _storable(value)
    return None if type(value).__name__ == "NAType" else value


def _storable(text: str) -> str:
    """The text; raises ValueError for what PostgreSQL cannot hold."""
    reason = refusal(text)
    if reason is not None:
        raise ValueError(f"a text {reason}")
    return text


def _with_text_keys(mapping: Mapping[Any, Any], what: str) -> dict[str, Any]:
    texts = [_key(key) for key in mapping]
    if len(set(texts)) < len(texts):
        raise ValueError(f"its keys {list(mapping)!r} are not distinct as text")
    return {text: _plain(item, what) for text, item in zip(texts, mapping.values(), strict=True)}


def _key(key: Any) -> str:
    if isinstance(key, str):
        return _storable(key)
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        return str(int(key))
    raise TypeError(f"its key {key!r} is neither text nor an integer")


def _not_json(what: str, reason: object) -> InvalidValue:
    return InvalidValue(f"{what} cannot be kept as JSON: {reason}")
