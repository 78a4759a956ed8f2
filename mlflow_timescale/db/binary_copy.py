"""Binary COPY into PostgreSQL from numpy arrays: no Python object a row.

A row is the number of its fields, and each field after its length, big-endian: a numpy record,
where all values of a field have one length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import Cursor
from psycopg.sql import SQL

Field = npt.NDArray[Any]
_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"


def copy(cursor: Cursor[Any], statement: SQL, blocks: Iterable[bytes]) -> None:
    """COPY blocks of rows in the binary format."""
    with cursor.copy(statement) as copying:
        copying.write(_SIGNATURE)
        for block in blocks:
            copying.write(block)
        copying.write(_TRAILER)


def records(fields: Sequence[Field], extra: int = 0) -> npt.NDArray[Any]:
    """Rows as numpy records, without their last `extra` fields.

    int32, int64, float64 and bool are the types of the same names; arrays of bytes (`S`) are texts
    of exactly that length.

    >>> records([np.array([7], np.int32), np.array([b"ic"])]).tobytes().hex(" ", 2)
    '0002 0000 0004 0000 0007 0000 0002 6963'
    """
    layout: list[tuple[str, str]] = [("count", ">i2")]
    for i, field in enumerate(fields):
        layout += [(f"size{i}", ">i4"), (f"field{i}", field.dtype.newbyteorder(">").str)]
    rows = np.empty(len(fields[0]), dtype=layout)
    rows["count"] = len(fields) + extra
    for i, field in enumerate(fields):
        rows[f"size{i}"] = field.dtype.itemsize
        rows[f"field{i}"] = field
    return rows
