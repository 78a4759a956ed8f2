"""Binary COPY of points: blocks of rows from numpy arrays and JSON texts."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

from psycopg import Cursor
from psycopg.sql import SQL

from mlflow_timescale.common.micros import Micros
from mlflow_timescale.db import binary_copy
from mlflow_timescale.db.arrays import PG_EPOCH
from mlflow_timescale.db.binary_copy import Field

_ROWS = 65_536
_JSONB_VERSION = b"\x01"


def timestamps(micros: Micros) -> Field:
    """Microseconds since 1970 as the field that PostgreSQL reads as timestamptz."""
    return micros - PG_EPOCH


def copy_numbers(cursor: Cursor[Any], statement: SQL, fields: Sequence[Field]) -> None:
    """COPY rows whose fields are numeric arrays; int32, int64 and float64 are their own types."""
    binary_copy.copy(cursor, statement, _blocks(fields))


def copy_json(
    cursor: Cursor[Any], statement: SQL, fields: Sequence[Field], texts: Sequence[str]
) -> None:
    """The same with a last field of JSON texts."""
    parts = (slice(first, first + _ROWS) for first in range(0, len(texts), _ROWS))
    blocks = (_json_block([field[part] for field in fields], texts[part]) for part in parts)
    binary_copy.copy(cursor, statement, blocks)


def _json_block(fields: Sequence[Field], texts: Sequence[str]) -> bytes:
    """Rows that end with a JSON text. Equal texts, such as categories, are encoded once."""
    records = binary_copy.records(fields, extra=1)
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
        part = [field[first : first + _ROWS] for field in fields]
        yield binary_copy.records(part).tobytes()
