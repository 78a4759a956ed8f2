"""Files that decode to far more than their size are refused before they fill the memory.

Parquet and Arrow files hold runs, dictionaries and compressed buffers, so a megabyte can decode to
any number of gigabytes (a "bomb"). What a file decodes to is computed from its metadata and its
dictionaries, without decoding it, or counted while it is read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mlflow_timescale.common.errors import InvalidFrame
from mlflow_timescale.common.settings import DECODED_LIMIT

ROWS_AT_ONCE = 65_536  # of a file whose texts may be long
_PIECE = 128 << 20  # bytes of texts that are decoded at once
_FLOOR = 512 << 20  # bytes that any file may decode to
_RATIO = 100  # times its size; training sets have 2 to 10
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_MAGIC, _PADDED = b"ARROW1", 8  # at the start of an Arrow file; a stream of messages follows


class DecodesToTooMuch(InvalidFrame):
    """A file whose content is larger than a file of its size may hold."""


def decoded_limit(size: int) -> int:
    """How many bytes a file of `size` bytes may decode to.

    The setting MLFLOW_TIMESCALE_DECODED_LIMIT, else 512 MiB or a hundred times its size, and at
    most half of the machine's memory.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return DECODED_LIMIT.get() or min(max(_FLOOR, _RATIO * size), memory // 2)


class Meter:
    """Counts decoded bytes.

    Parameters
    ----------
    name
        What is read, for the error.
    size
        Its bytes on disk.

    >>> meter = Meter("small.parquet", 1000)
    >>> meter.add(500 << 20)
    >>> meter.add(500 << 20)
    Traceback (most recent call last):
        ...
    mlflow_timescale.common.frames.limits.DecodesToTooMuch: small.parquet has 1,000 bytes ...
    """

    def __init__(self, name: str, size: int) -> None:
        self._name, self._size = name, size
        self._limit, self._decoded = decoded_limit(size), 0

    def add(self, decoded: int) -> None:
        """Count bytes; raises DecodesToTooMuch beyond the limit."""
        self._decoded += decoded
        if self._decoded > self._limit:
            raise DecodesToTooMuch(
                f"{self._name} has {self._size:,} bytes and decodes to more than "
                f"{self._limit >> 20:,} MiB: it is not read. If you trust it, write it in several "
                f"files, or set {DECODED_LIMIT.name}"
            )


def check_parquet(source: Any, name: str, size: int) -> None:
    """Raise DecodesToTooMuch for a Parquet file that decodes to too much."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(source)
    meter = Meter(name, size)
    texts: set[str] = set()
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        for index in range(group.num_columns):
            chunk = group.column(index)
            meter.add(_WIDTHS.get(chunk.physical_type, 4) * chunk.num_values)
            if chunk.physical_type == "BYTE_ARRAY":
                texts.add(chunk.path_in_schema)
    if texts:
        for size_of_texts in _sizes_of_texts(source, sorted(texts)):
            meter.add(size_of_texts)


def _sizes_of_texts(source: Any, paths: list[str]) -> Iterator[int]:
    """The bytes of all texts of each batch, read as indices into dictionaries."""
    import pyarrow.parquet as pq

    source.seek(0)
    file = pq.ParquetFile(source, read_dictionary=paths)
    for batch in file.iter_batches(ROWS_AT_ONCE, columns=paths):
        for column in batch.columns:
            yield _text_bytes(column)


def _text_bytes(column: pa.Array) -> int:
    if _is_coded(column):
        lengths = pc.binary_length(column.dictionary)
        return pc.sum(lengths.take(column.indices)).as_py() or 0
    if isinstance(column, pa.StructArray):
        return sum(map(_text_bytes, column.flatten()))
    if isinstance(column, (pa.ListArray, pa.LargeListArray)):  # also the one of a map
        return _text_bytes(column.flatten())
    return int(column.nbytes)


def pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A batch in slices whose texts decode to about 128 MiB."""
    size = sum(_text_bytes(column) for column in batch.columns if _is_coded(column))
    rows = max(1, batch.num_rows // (1 + size // _PIECE))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _is_coded(column: pa.Array) -> bool:
    return isinstance(column, pa.DictionaryArray)


def check_arrow(path: str, size: int) -> None:
    """Raise DecodesToTooMuch for an Arrow file with a batch that decompresses to too much."""
    with pa.memory_map(path) as source:
        if source.read(len(_MAGIC)) != _MAGIC:
            return  # Feather of version 1, which has no runs
        source.seek(_PADDED)
        for message in pa.ipc.MessageReader.open_stream(source):
            meter = Meter(path, size)
            try:
                lengths = list(_buffer_lengths(message))
            except struct.error as exc:
                raise InvalidFrame(f"cannot read {path}: a message of it is damaged") from exc
            for length in lengths:
                meter.add(length)


def _buffer_lengths(message: pa.ipc.Message) -> Iterator[int]:
    """What the buffers of a message decompress to; nothing for a message without compression.

    Arrow's API does not show the buffers of a message, so this follows the two tables of its
    flatbuffer: Message.header is a RecordBatch, or the one of a DictionaryBatch.
    """
    if message.body is None or message.type not in ("record batch", "dictionary"):
        return
    data = message.metadata.to_pybytes()
    table = _Table(data, _unsigned(data, 0)).child(2)
    if message.type == "dictionary":
        table = table.child(1)
    if table.position(3):  # compression
        start = table.vector(2)
        for index in range(_unsigned(data, start)):
            (offset,) = struct.unpack_from("<q", data, start + 4 + 16 * index)
            if offset + 8 <= len(message.body):
                (length,) = struct.unpack_from("<q", message.body, offset)
                yield max(0, length)


class _Table:
    """A table of a flatbuffer."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data, self._start = data, start
        self._fields = start - struct.unpack_from("<i", data, start)[0]

    def position(self, field: int) -> int:
        """Where a field is; 0 if the table lacks it."""
        entry = 4 + 2 * field
        if entry >= struct.unpack_from("<H", self._data, self._fields)[0]:
            return 0
        offset = struct.unpack_from("<H", self._data, self._fields + entry)[0]
        return self._start + int(offset) if offset else 0

    def vector(self, field: int) -> int:
        """Where the vector of a field begins, with its length."""
        at = self.position(field)
        return at + _unsigned(self._data, at)

    def child(self, field: int) -> _Table:
        """The table of a field."""
        return _Table(self._data, self.vector(field))


def _unsigned(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])
