"""Frames and series of pandas, decoded from pickles without running pandas or code of the file.

The layouts are those of pandas 1.0 to 3: blocks of columns with their positions, axes, and indexes
by levels and codes; texts as objects or as Arrow buffers. Every size is checked against the bytes
of the file, every code against its level.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlflow_timescale.common.errors import InvalidFrame
from mlflow_timescale.common.frames.pickles import Node, read_pickle
from mlflow_timescale.common.text import one_line

__all__ = ["Labels", "PickledFrame", "read_pickled_frame"]

Array = npt.NDArray[Any]
_UNITS = {"s", "ms", "us", "ns"}
_RESOLUTIONS = {7: "s", 8: "ms", 9: "us", 10: "ns"}  # of pandas' Timestamp
_KINDS = {"b1", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"}
_MOST_COLUMNS, _MOST_NUMBERS = 100_000, 1_000_000  # of a range: no bytes limit its length
_MASKED = {"BooleanArray", "FloatingArray", "IntegerArray"}
_OF_ARROW = {"ArrowExtensionArray", "ArrowStringArray"}
_MISSING = {"NA", "NAType", "C_NA", "NaT", "NaTType", "__nat_unpickle", "_nat_unpickle"}


class _Unread(InvalidFrame):
    """Values of a type that this reader does not decode."""


@dataclass(frozen=True)
class Labels:
    """A column, or a level of an index: its values, or codes into its distinct values.

    Attributes
    ----------
    name
        "" for a column or level without a name.
    values
        Shape (n,): numbers, datetime64, or objects (texts, dates, None).
    codes
        Shape (rows,), the position of each row's value in `values`, -1 for a missing value; None
        if `values` has a value for each row.
    zone
        The time zone of datetime64 values in UTC; None for local times.
    unread
        The reason why the values are not read and `values` is empty; "" if they are read.
    """

    name: str
    values: Array
    codes: npt.NDArray[np.int64] | None = None
    zone: str | None = None
    unread: str = ""

    def __len__(self) -> int:
        return len(self.values if self.codes is None else self.codes)


@dataclass(frozen=True)
class PickledFrame:
    """A frame or series: the levels of its index, and its columns.

    Attributes
    ----------
    name
        The name of the file.
    index
        The levels of the index; empty for a range of numbers.
    columns
        By position. Names may repeat; the name of a series may be "".
    """

    name: str
    index: tuple[Labels, ...]
    names: tuple[str, ...]
    _blocks: tuple[tuple[Any, Any], ...]

    @cached_property
    def columns(self) -> tuple[Labels, ...]:
        """The columns, decoded when they are first read."""
        placed = dict(self._columns())
        missing = [self.names[i] for i in range(len(self.names)) if i not in placed]
        if missing:
            raise InvalidFrame(f"{self.name} is damaged: it has no values of {missing[:5]}")
        return tuple(placed[i] for i in range(len(self.names)))

    def _columns(self) -> Iterator[tuple[int, Labels]]:
        for values, places in self._blocks:
            positions = _positions(places, len(self.names))
            try:
                column = _values(values)
            except _Unread as exc:
                for position in positions:
                    yield position, Labels(self.names[position], np.empty(0), unread=str(exc))
                continue
            rows = [column] if column.values.ndim == 1 else list(_rows(column))
            if len(rows) != len(positions):
                raise InvalidFrame(f"{self.name} is damaged: a block has another number of columns")
            for position, row in zip(positions, rows, strict=True):
                yield position, Labels(self.names[position], row.values, row.codes, row.zone)


def read_pickled_frame(data: bytes, name: str) -> PickledFrame:
    """A pickled frame or series of pandas.

    Parameters
    ----------
    data
        The content of the file.
    name
        The name of the file, for errors.

    Raises
    ------
    RefusedPickle
        The pickle names a class or function that no frame needs.
    InvalidFrame
        The data is not a pickled frame, or is damaged.

    Examples
    --------
    >>> import pickle, pandas
    >>> index = pandas.MultiIndex.from_product([pandas.to_datetime(["2024-01-02"]), ["A", "B"]])
    >>> frame = read_pickled_frame(pickle.dumps(pandas.Series([1.5, 2.5], index, name="score")), "")
    >>> frame.names, frame.columns[0].values.tolist(), [len(level) for level in frame.index]
    (('score',), [1.5, 2.5], [2, 2])
    """
    content = read_pickle(data, name)
    try:
        return _frame(content, name)
    except InvalidFrame as exc:
        raise InvalidFrame(f"cannot read {name}: {exc}") from exc
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, pa.ArrowException) as exc:
        reason = one_line(exc, 200)
        raise InvalidFrame(f"cannot read {name}: its frame is damaged ({reason})") from exc


def _frame(content: Any, name: str) -> PickledFrame:
    kind = content.called.name if isinstance(content, Node) else type(content).__name__
    if kind not in ("DataFrame", "Series"):
        what = "a numpy array" if kind in ("_reconstruct", "_frombuffer") else f"a {kind}"
        raise InvalidFrame(f"it holds {what}, not a frame or series of pandas")
    state = content.state
    manager = state["_mgr"] if "_mgr" in state else state["_data"]
    blocks, axes = _blocks_and_axes(manager)
    index = tuple(_levels(axes[-1]))
    if kind == "Series":
        title = state.get("_name", state.get("name"))
        names: tuple[str, ...] = ("" if title is None else str(title),)
        blocks = tuple((values, slice(0, 1)) for values, _ in blocks)
    else:
        names = tuple(_texts(axes[0]))
    frame = PickledFrame(name, index, names, blocks)
    lengths = {len(labels) for labels in (*index, *frame.columns) if not labels.unread}
    if len(lengths) > 1:
        raise InvalidFrame(f"its columns have different lengths: {sorted(lengths)[:5]}")
    return frame


def _blocks_and_axes(manager: Node) -> tuple[tuple[tuple[Any, Any], ...], Sequence[Any]]:
    """The values of blocks with the positions of their columns, and the axes.

    They are arguments of frames of pandas >= 1.3, and the state of series and of older frames.
    """
    if manager.arguments:
        blocks, axes = manager.arguments[:2]
        return tuple((block.arguments[0], block.arguments[1]) for block in blocks), axes
    layout = manager.state[3]["0.14.1"]
    blocks = tuple((block["values"], block["mgr_locs"]) for block in layout["blocks"])
    return blocks, layout["axes"]


def _positions(places: Any, columns: int) -> list[int]:
    if isinstance(places, slice):
        return [0]
    if isinstance(places, Node) and places.called.name == "slice":
        start, stop, step = places.arguments
        positions = list(range(columns))[start:stop:step]
    else:
        positions = [int(position) for position in _array(places)]
    if not all(0 <= position < columns for position in positions):
        raise InvalidFrame("a block is outside of its frame")
    return positions


def _rows(column: Labels) -> Iterator[Labels]:
    for row in column.values:
        yield Labels("", row, None, column.zone)


def _levels(index: Node) -> Iterator[Labels]:
    """The levels of an index; none for a range of numbers."""
    cls, fields = index.arguments[0].name, index.arguments[1]
    if cls == "RangeIndex":
        return
    if cls != "MultiIndex":
        yield _level(index)
        return
    codes = fields["codes"] if "codes" in fields else fields["labels"]
    names = _listed(fields.get("names")) or [None] * len(codes)
    for level, code, name in zip(_listed(fields["levels"]), _listed(codes), names, strict=True):
        labels, positions = _level(level), _array(code).astype(np.int64)
        if len(positions) and not -1 <= positions.min() <= positions.max() < len(labels):
            raise InvalidFrame("a code of the index is outside of its level")
        if labels.codes is not None:
            positions = np.where(positions < 0, -1, labels.codes[positions])
        yield Labels(_name(name), labels.values, positions, labels.zone)


def _level(index: Node) -> Labels:
    cls, fields = index.arguments[0].name, index.arguments[1]
    if cls == "RangeIndex":
        numbers = range(fields["start"], fields["stop"], fields["step"])[:_MOST_NUMBERS]
        return Labels(_name(fields.get("name")), np.array(numbers, dtype=np.int64))
    if "data" not in fields:
        raise InvalidFrame(f"it has a {cls}, and no times and names")
    labels = _values(fields["data"])
    zone = labels.zone or _zone(fields.get("tz"))
    return Labels(_name(fields.get("name")), labels.values, labels.codes, zone)


def _name(name: Any) -> str:
    return "" if name is None else str(name)


def _listed(value: Any) -> list[Any]:
    """A list, or the items of a FrozenList of pandas 1."""
    if isinstance(value, Node) and value.called.name == "FrozenList":
        value = value.arguments[0] if value.arguments else []
    return list(value or ())


def _texts(index: Node) -> list[str]:
    """The names of columns; the labels of a MultiIndex are joined with spaces."""
    if index.arguments[0].name == "RangeIndex":
        fields = index.arguments[1]
        numbers = range(fields["start"], fields["stop"], fields["step"])
        return [str(number) for number in numbers[:_MOST_COLUMNS]]
    levels = list(_levels(index))
    columns = []
    for level in levels:
        values = [_name(value) for value in level.values.tolist()]
        rows = range(len(values)) if level.codes is None else level.codes.tolist()
        columns.append(["" if row < 0 else values[row] for row in rows])
    return [" ".join(filter(None, parts)) for parts in zip(*columns, strict=True)]


def _values(node: Any) -> Labels:
    """The values of a block, of a column or of a level."""
    if not isinstance(node, Node):
        raise InvalidFrame(f"it has a {type(node).__name__} in place of values")
    kind = node.called.name
    if kind in ("_reconstruct", "_frombuffer"):
        return Labels("", _array(node))
    if kind == "__pyx_unpickle_NDArrayBacked":
        return _backed(node.arguments[0].name, node.state)
    if kind in _MASKED:
        mask = _array(node.state["_mask"]).astype(bool)
        return Labels("", np.where(mask, np.nan, _array(node.state["_data"]).astype(np.float64)))
    if kind in _OF_ARROW:
        array = node.state["_pa_array"] if "_pa_array" in node.state else node.state["_data"]
        return Labels("", _of_arrow(array))
    if isinstance(node.state, dict) and {"_ndarray", "_data", "_codes"} & node.state.keys():
        fields = node.state
        name = next(name for name in ("_ndarray", "_data", "_codes") if name in fields)
        return _backed(kind, (fields.get("_dtype"), fields[name]))
    raise _Unread(f"it has a {kind}, whose values are not read")


def _backed(kind: str, state: Any) -> Labels:
    """An array of pandas on an array of numpy, whose type and values are in either order."""
    dtype, array = state[:2]
    if isinstance(dtype, Node) and dtype.called.name in ("_reconstruct", "_frombuffer"):
        dtype, array = array, dtype
    values = _array(array)
    if kind == "Categorical":
        categories = _level(dtype.state["categories"])
        if len(values) and values.max() >= len(categories):
            raise InvalidFrame("a code is outside of its categories")
        return Labels("", categories.values, values.astype(np.int64), categories.zone)
    if kind in ("PeriodArray", "TimedeltaArray"):
        raise _Unread(f"it has a {kind}, whose values are not read")
    is_zoned = isinstance(dtype, Node) and dtype.called.name == "DatetimeTZDtype"
    return Labels("", values, None, _zone(dtype.state["tz"]) if is_zoned else None)


def _zone(zone: Any) -> str | None:
    """The name of a time zone, or its offset in the form of ISO 8601."""
    if zone is None or isinstance(zone, str):
        return zone
    name, arguments = zone.called.name, zone.arguments
    if name in ("_UTC", "timezone"):
        return _offset(arguments)
    return str(arguments[0])


def _offset(arguments: tuple[Any, ...]) -> str:
    if not arguments:
        return "UTC"
    days, seconds = (int(part) for part in arguments[0].arguments[:2])
    minutes = (days * 86_400 + seconds) // 60
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}" if minutes else "UTC"


def _array(node: Any) -> Array:
    """An array of numpy, of one or two dimensions."""
    if node.called.name == "_frombuffer":
        data, dtype, shape, order = node.arguments[:4]
        axes = node.arguments[4] if len(node.arguments) > 4 else None
    else:
        _, shape, dtype, fortran, data = node.state
        order, axes = "F" if fortran else "C", None
    if not 1 <= len(shape) <= 2 or any(not isinstance(n, int) or n < 0 for n in shape):
        raise InvalidFrame(f"it has an array of shape {shape!r}, not of rows or columns")
    flat = _flat(_dtype(dtype), data, math.prod(shape))
    if order == "K" and axes is not None:
        return flat.reshape(shape).transpose(axes)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _flat(dtype: np.dtype[Any], data: Any, size: int) -> Array:
    if dtype.kind == "O":
        if not isinstance(data, list) or len(data) != size:
            raise InvalidFrame("an array has another number of objects than its shape")
        flat = np.empty(size, dtype=object)
        flat[:] = [_scalar(value) for value in data]
        return flat
    content = _bytes(data)
    if len(content) != size * dtype.itemsize:
        raise InvalidFrame("an array has another number of bytes than its shape")
    return np.frombuffer(content, dtype)


def _dtype(node: Node) -> np.dtype[Any]:
    """The type of numbers, times or objects. Raises for other types."""
    name = str(node.arguments[0])
    state: tuple[Any, ...] = node.state or ()
    if name in ("O8", "O", "O4"):
        return np.dtype(object)
    order = state[1] if len(state) > 1 and state[1] in ("<", ">") else "="
    if name in _KINDS:
        return np.dtype(f"{order}{name}")
    if name == "M8":
        unit, count = _bytes(state[-1][1][0]).decode("ascii"), state[-1][1][1]
        if unit in _UNITS and count == 1:
            return np.dtype(f"{order}M8[{unit}]")
    raise _Unread(f"it has an array of type {name!r}, whose values are not read")


def _bytes(data: Any) -> bytes:
    """Bytes in the forms of protocols 2 to 5."""
    if isinstance(data, Node):
        name, first = data.called.name, data.arguments[0] if data.arguments else b""
        if name == "encode":
            return str(first).encode("latin-1")
        if name in ("bytearray", "bytes", "py_buffer"):
            return _bytes(first)
    if isinstance(data, (bytes, bytearray)):
        return bytes(data)
    raise InvalidFrame(f"it has a {type(data).__name__} in place of bytes")


def _of_arrow(node: Node) -> Array:
    """A column of Arrow: texts as objects, numbers as doubles."""
    if node.called.name == "chunked_array":
        parts = [_of_arrow(part) for part in node.arguments[0]]
        return np.concatenate(parts) if parts else np.empty(0, dtype=object)
    alias, length, nulls, offset, buffers, children, dictionary = node.arguments[0]
    if children or dictionary is not None or alias.called.name != "type_for_alias":
        raise _Unread("it has a nested column of Arrow, whose values are not read")
    content = [None if part is None else pa.py_buffer(_bytes(part)) for part in buffers]
    kind = pa.type_for_alias(alias.arguments[0])
    bits = 8 * sum(part.size for part in content if part is not None)
    if pa.types.is_null(kind) or offset < 0 or not 0 <= length <= bits:
        raise InvalidFrame("a column of Arrow has more rows than its bytes hold")
    column = pa.Array.from_buffers(kind, length, content, nulls, offset)
    column.validate(full=True)  # offsets beyond the buffers would read foreign memory
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.asarray(column.to_pylist(), dtype=object)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return np.asarray(column.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False))
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False))


def _scalar(value: Any) -> Any:
    """An object of an array: a text, number, date, or None."""
    if not isinstance(value, Node):
        return None if isinstance(value, tuple) and value[-1:] in (("NA",), ("NaT",)) else value
    name, arguments = value.called.name, value.arguments
    if name in _MISSING:
        return None
    if name == "date":
        content = _bytes(arguments[0])
        return date(content[0] * 256 + content[1], content[2], content[3])
    if name == "datetime" and len(arguments) == 1:
        content = _bytes(arguments[0])
        day = date(content[0] * 256 + content[1], content[2], content[3])
        micros = int.from_bytes(content[7:10], "big")
        return datetime.combine(day, time(content[4], content[5], content[6], micros))
    if name == "_unpickle_timestamp" and arguments[2] is None:
        unit = _RESOLUTIONS[arguments[3] if len(arguments) > 3 else 10]
        return np.array([arguments[0]], dtype=f"M8[{unit}]").astype("M8[us]")[0].item()
    if name == "scalar":
        return _flat(_dtype(arguments[0]), arguments[1], 1)[0].item()
    raise _Unread(f"it has objects of {value.called.module}.{name}, which are not read")
