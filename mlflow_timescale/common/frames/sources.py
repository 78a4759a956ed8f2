"""Frames that are not in memory: queries, streams, files, and iterables of frames."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import narwhals.stable.v2 as nw
import pyarrow as pa
from narwhals.stable.v2 import dependencies

from mlflow_timescale.common.errors import InvalidFrame
from mlflow_timescale.common.frames.files import ParquetFiles, open_files, readable, size_on_disk
from mlflow_timescale.common.frames.limits import Meter
from mlflow_timescale.common.frames.memory import (
    ArrowFrame,
    InMemory,
    MappingFrame,
    PolarsFrame,
    in_memory,
)

_AT_ONCE = 2_000_000  # values that are read at a time where all of them are collected
_BYTES = 256 << 20  # of texts and numbers, after which a batch is complete


def parts(
    source: Any, text: Collection[str], values: int, keys: Collection[str] = ()
) -> Iterator[InMemory]:
    """The frames in memory that a source consists of, read one after the other.

    Queries, files and streams give frames of about `values` values. Raises InvalidFrame for an
    object that is no frame.
    """
    memory = in_memory(source, keys)
    if memory is not None:
        yield memory
    elif dependencies.is_polars_lazyframe(source):
        yield from _query(source, values)
    elif isinstance(source, (str, PathLike)):
        yield from _arrow(open_files(Path(source), text), values, str(source))
    elif _is_arrow(source):
        yield from _arrow(source, values, f"the {type(source).__name__}")
    elif (frame := _of_narwhals(source)) is not None:
        yield ArrowFrame(frame.lazy().collect("pyarrow").to_native())
    elif hasattr(source, "to_arrow"):
        yield from parts(source.to_arrow(), text, values, keys)
    elif isinstance(source, Iterable) and not isinstance(source, bytes):
        for part in source:
            yield from parts(part, text, values, keys)
    else:
        raise InvalidFrame(
            f"cannot read a {type(source).__name__}; give a pandas, polars or Arrow frame, a "
            f"DuckDB relation, a mapping of columns, a CSV or Parquet file, or an iterable of those"
        )


def collect(source: Any, text: Collection[str], keys: Collection[str] = ()) -> tuple[InMemory, str]:
    """A source as one frame in memory, and the library that its results are returned in.

    Frames keep their library. Streams give Arrow, files pandas, and an iterable of frames gives
    the library of the first of them.
    """
    memory = in_memory(source, keys)
    if dependencies.is_polars_lazyframe(source):
        memory = PolarsFrame(source.collect())
    if memory is not None:
        return memory, memory.library
    frames = parts(source, text, _AT_ONCE, keys)
    is_path = isinstance(source, (str, PathLike))
    collected = list(_metered(frames, Path(source)) if is_path else frames)
    is_file = is_path or not collected
    return _joined(collected), "pandas" if is_file else collected[0].library


def _metered(frames: Iterator[InMemory], path: Path) -> Iterator[InMemory]:
    """The frames of a file that is collected; raises DecodesToTooMuch where they are too large."""
    meter = Meter(str(path), size_on_disk(path))
    for frame in frames:
        meter.add(frame.table().nbytes)
        yield frame


def _joined(frames: list[InMemory]) -> InMemory:
    if len(frames) < 2:
        return frames[0] if frames else MappingFrame({})
    tables = [frame.table() for frame in frames]
    try:
        return ArrowFrame(pa.concat_tables(tables, promote_options="permissive"))
    except pa.ArrowException as exc:
        raise InvalidFrame(f"the frames of an iterable do not fit together: {exc}") from exc


def _query(query: Any, values: int) -> Iterator[InMemory]:
    """The result of a polars query, in batches where this version of polars has them."""
    if not hasattr(query, "collect_batches"):
        yield PolarsFrame(query.collect())
        return
    names = query.collect_schema().names()
    batch = None
    for batch in query.collect_batches(chunk_size=max(1, values // max(1, len(names)))):
        yield PolarsFrame(batch)
    if batch is None:
        yield PolarsFrame(query.clear().collect())


def _arrow(source: Any, values: int, name: str) -> Iterator[InMemory]:
    """The batches of a dataset or stream; an empty one if there are none."""
    batch = None
    with readable(name):
        if isinstance(source, ParquetFiles):
            batches = source.to_batches(_rows(source, values))
        elif hasattr(source, "scanner"):
            rows = _rows(source, values)
            batches = source.to_batches(batch_size=rows, batch_readahead=1, fragment_readahead=1)
        else:
            source = batches = pa.RecordBatchReader.from_stream(source)
        for batch in _gathered(batches, values):
            yield ArrowFrame(batch)
        if batch is None:
            yield ArrowFrame(source.schema.empty_table())


def _rows(source: Any, values: int) -> int:
    return max(1, values // max(1, len(source.schema.names)))


def _gathered(
    batches: Iterable[pa.RecordBatch], values: int
) -> Iterator[pa.RecordBatch | pa.Table]:
    """Small batches together, up to `values` values, or 256 MiB.

    Each batch costs a writer a round of statements, and a CSV file comes in batches of a megabyte.
    """
    held: list[pa.RecordBatch] = []
    size = decoded = 0
    for batch in batches:
        added = batch.num_rows * batch.num_columns
        if held and (size + added > values or decoded > _BYTES):
            yield _together(held)
            held, size, decoded = [], 0, 0
        held.append(batch)
        size += added
        decoded += batch.nbytes
    if held:
        yield _together(held)


def _together(batches: list[pa.RecordBatch]) -> pa.RecordBatch | pa.Table:
    return batches[0] if len(batches) == 1 else pa.Table.from_batches(batches)


def _is_arrow(source: Any) -> bool:
    """Whether it is a pyarrow dataset, or a stream by the Arrow C interface."""
    is_dataset = hasattr(source, "scanner") and hasattr(source, "schema")
    return is_dataset or hasattr(source, "__arrow_c_stream__")


def _of_narwhals(source: Any) -> nw.DataFrame[Any] | nw.LazyFrame[Any] | None:
    """A frame of another library that narwhals knows, such as Modin, Dask, Ibis or PySpark."""
    frame = nw.from_native(source, pass_through=True)
    return frame if isinstance(frame, (nw.DataFrame, nw.LazyFrame)) else None
