"""Vectors and mappings as JSON text, and as columns of Arrow.

Arrow has a type for vectors whose elements are of one kind. A mapping has no such type: a struct
would give every row the keys of all rows. Mappings, and columns that mix kinds, are therefore JSON
text; their field carries `JSON` as metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["JSON", "dump_json", "is_structure", "load_json", "structure_column"]

JSON = {b"feature_store": b"json"}  # marks a column of JSON text in an Arrow schema
EXACT = 2**53  # beyond it a double skips integers
_SHORT = 15  # digits that a double always holds
_LISTS = (list, tuple, np.ndarray)
_FLAGS = (pa.list_(pa.bool_()),)
_TEXTS = (pa.list_(pa.string()),)
_VECTORS = (
    pa.list_(pa.float64()),
    pa.list_(pa.list_(pa.float64())),
    pa.list_(pa.list_(pa.list_(pa.float64()))),
)


def is_structure(value: object) -> bool:
    """Whether a value is a vector or a mapping.

    >>> is_structure([1.0]), is_structure("text"), is_structure(np.array(1.0))
    (True, False, False)
    """
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, (Mapping, list, tuple))


def dump_json(value: Any) -> str:
    """JSON text of a structure, with sorted keys; floats stay floats.

    Raises TypeError or ValueError for what JSON does not have.

    >>> dump_json({"b": 1.0, "a": [2, None]})
    '{"a":[2,null],"b":1.0}'
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def load_json(text: str | bytes) -> Any:
    """The structure of a JSON text.

    PostgreSQL writes the float 1e+20 as the integer 100000000000000000000. An integer beyond 2**53
    with the digits of a float is read as that float. Raises ValueError for what is no JSON, and for
    a structure that is nested too deeply.

    >>> load_json("[100000000000000000000, 0.5, 7]")
    [1e+20, 0.5, 7]
    """
    try:
        return json.loads(text, parse_int=_number)
    except RecursionError as exc:
        raise ValueError("a structure is nested too deeply") from exc


def structure_column(values: npt.NDArray[np.object_]) -> tuple[pa.Array, bool] | None:
    """Objects as an Arrow column, and whether it is JSON text; NaN and NA become null.

    None where no value is a structure, or JSON cannot hold them. Vectors of numbers are lists of
    doubles.

    >>> structure_column(np.array([{"a": 1}, {"b": 2}, 3.5], dtype=object))[0].to_pylist()
    ['{"a":1}', '{"b":2}', '3.5']
    """
    if not any(is_structure(value) for value in values):
        return None
    items = [None if _is_missing(value) else value for value in values.tolist()]
    if all(item is None or isinstance(item, _LISTS) for item in items):
        for kind in _kinds(items):
            try:
                return pa.array(items, type=kind), False
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                continue
    try:
        texts = [None if item is None else dump_json(item) for item in items]
    except (TypeError, ValueError, RecursionError):
        return None
    return pa.array(texts, type=pa.string()), True


def _number(digits: str) -> int | float:
    whole = int(digits)
    if len(digits) <= _SHORT or abs(whole) <= EXACT:
        return whole
    number = float(digits)
    return number if Decimal(repr(number)) == whole else whole


def _kinds(items: list[Any]) -> tuple[pa.DataType, ...]:
    """The types that hold vectors as they are: Arrow takes a boolean for 1, and "" for []."""
    if any(_holds(item, (bool, np.bool_)) for item in items):
        return _FLAGS
    return _TEXTS if any(_holds(item, (str, bytes)) for item in items) else _VECTORS


def _holds(value: object, kinds: tuple[type, ...]) -> bool:
    """Whether a vector has an element of a kind, at any depth."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return issubclass(value.dtype.type, kinds)
    if isinstance(value, _LISTS):
        return any(_holds(item, kinds) for item in value)
    return isinstance(value, kinds)


def _is_missing(value: object) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and value != value


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
