"""PostgreSQL arrays as numpy arrays and back, in the binary format, without a Python object a
value.

The wire format of a one-dimensional array is six big-endian integers (dimensions, has-nulls,
element type, length, lower bound) and then, for every element, its size and its bytes; without
nulls that is a numpy record.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from psycopg.abc import AdaptContext
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.pq import Format

PG_EPOCH = 946_684_800_000_000  # 2000-01-01, in microseconds since 1970
_HEADER = struct.Struct(">iiIii")


class _ArrayKind(NamedTuple):
    array_oid: int
    element_oid: int
    element: str
    offset: int = 0


_INT4 = _ArrayKind(1007, 23, ">i4")
_INT8 = _ArrayKind(1016, 20, ">i8")
_FLOAT8 = _ArrayKind(1022, 701, ">f8")
_TIMESTAMPTZ = _ArrayKind(1185, 1184, ">i8", PG_EPOCH)


class PGArray:
    """A numpy array as a query parameter; the subclass sets the PostgreSQL type."""

    kind: _ArrayKind

    def __init__(self, values: npt.ArrayLike) -> None:
        self.values = np.asarray(values)


class Int4Array(PGArray):
    """A parameter of type integer[]."""

    kind = _INT4


class Int8Array(PGArray):
    """A parameter of type bigint[]."""

    kind = _INT8


class Float8Array(PGArray):
    """A parameter of type double precision[]."""

    kind = _FLOAT8


class TimestampArray(PGArray):
    """A parameter of type timestamptz[], given in microseconds since 1970."""

    kind = _TIMESTAMPTZ


def register(context: AdaptContext) -> None:
    """Let a connection, or a cursor, send these parameters, and load binary arrays as numpy's."""
    adapters = context.adapters
    for array, dumper in _DUMPERS.items():
        adapters.register_dumper(array, dumper)
    for loader in _LOADERS:
        adapters.register_loader(loader.kind.array_oid, loader)


def encode(values: npt.NDArray[Any], kind: _ArrayKind) -> bytes:
    """The wire format of a numpy array."""
    if not len(values):
        return _HEADER.pack(0, 0, kind.element_oid, 0, 0)[:12]
    record = np.empty(len(values), dtype=[("size", ">i4"), ("value", kind.element)])
    record["size"] = np.dtype(kind.element).itemsize
    record["value"] = values - kind.offset if kind.offset else values
    return _HEADER.pack(1, 0, kind.element_oid, len(values), 1) + record.tobytes()


def decode(data: Buffer, kind: _ArrayKind) -> npt.NDArray[Any]:
    """The numpy array of a wire format; raises ValueError if it holds a null."""
    if int.from_bytes(bytes(data[:4]), "big") == 0:
        return np.empty(0, dtype=np.dtype(kind.element).newbyteorder("="))
    if int.from_bytes(bytes(data[4:8]), "big"):
        raise ValueError("a PostgreSQL array with nulls does not fit into a numpy array")
    record = np.frombuffer(
        data, dtype=[("size", ">i4"), ("value", kind.element)], offset=_HEADER.size
    )
    values = record["value"].astype(np.dtype(kind.element).newbyteorder("="))
    if kind.offset:
        values += kind.offset
    return values


def _make_dumper(kind: _ArrayKind) -> type[Dumper]:
    class ArrayDumper(Dumper):
        format = Format.BINARY
        oid = kind.array_oid

        def dump(self, obj: PGArray) -> bytes:
            return encode(obj.values, kind)

    return ArrayDumper


class _ArrayLoader(Loader):
    format = Format.BINARY
    kind: _ArrayKind

    def load(self, data: Buffer) -> npt.NDArray[Any]:
        return decode(data, self.kind)


def _make_loader(kind: _ArrayKind) -> type[_ArrayLoader]:
    return type("ArrayLoader", (_ArrayLoader,), {"kind": kind})


_DUMPERS = {
    array: _make_dumper(array.kind) for array in (Int4Array, Int8Array, Float8Array, TimestampArray)
}
_LOADERS = [_make_loader(kind) for kind in (_INT4, _INT8, _FLOAT8, _TIMESTAMPTZ)]
