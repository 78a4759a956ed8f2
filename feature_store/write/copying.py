"""Binary COPY into PostgreSQL from numpy arrays: no Python object a row."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import Cursor
from psycopg.sql import SQL

from mlflow_timescale.common.micros import Micros
from mlflow_timescale.db.arrays import PG_EPOCH

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_ROWS = 65_536
_JSONB_VERSION = b"\x01"
Field = npt.NDArray[Any]


def timestamps(micros: Micros) -> Field:
    """Microseconds since 1970 as the field that PostgreSQL reads as timestamptz."""
    return micros - PG_EPOCH


def copy_numbers(cursor: Cursor[Any], statement: SQL, fields: Sequence[Field]) -> None:
    """COPY rows whose fields are numeric arrays; int32, int64 and float64 are their own types."""
    with cursor.copy(statement) as copy:
        copy.write(_SIGNATURE)
        for block in _blocks(fields):
            copy.write(block)
        copy.write(_TRAILER)


def copy_json(
    cursor: Cursor[Any], statement: SQL, fields: Sequence[Field], texts: Sequence[str]
) -> None:
    """The same with a last field of JSON texts."""
    with cursor.copy(statement) as copy:
        copy.write(_SIGNATURE)
        for first in range(0, len(texts), _ROWS):
            part = slice(first, first + _ROWS)
            copy.write(_json_block([field[part] for field in fields], texts[part]))
        copy.write(_TRAILER)


def _json_block(fields: Sequence[Field], texts: Sequence[str]) -> bytes:
    """Rows that end with a JSON text. Equal texts, such as categories, are encoded once."""
    records = _records(fields, extra=1)
    numbers, width = records.tobytes(), records.dtype.itemsize
    encoded = {text: _json_field(text) for text in set(texts)}
    starts = range(0, len(numbers), width)
    return b"".join(
        part
        for start, text in zip(starts, texts, strict=True)
        for part in (numbers[start : start + width], encoded[text])
    )


def _json_field(text: str) -> bytes:
    body = _JSONB_VERSION + text.encode()
    return struct.pack(">i", len(body)) + body


def _blocks(fields: Sequence[Field]) -> Iterator[bytes]:
    for first in range(0, len(fields[0]), _ROWS):
        yield _records([field[first : first + _ROWS] for field in fields]).tobytes()


def _records(fields: Sequence[Field], extra: int = 0) -> npt.NDArray[Any]:
    layout: list[tuple[str, str]] = [("count", ">i2")]
    for i, field in enumerate(fields):
        layout += [(f"size{i}", ">i4"), (f"field{i}", field.dtype.newbyteorder(">").str)]
    records = np.empty(len(fields[0]), dtype=layout)
    records["count"] = len(fields) + extra
    for i, field in enumerate(fields):
        records[f"size{i}"] = field.dtype.itemsize
        records[f"field{i}"] = field
    return records
