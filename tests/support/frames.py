"""One table as every kind of frame and file that the project reads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import narwhals as nw
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.feather
import pyarrow.parquet as pq

START = datetime(2024, 1, 2, 21, tzinfo=timezone.utc)
ROWS = 6
TICKERS = ["000001", "NA", "TRUE", "1E5", "nan", 'ü,"']


def table(rows: int = ROWS) -> pa.Table:
    """Identifiers that look like other things, times, and numbers of three types."""
    times = [START + timedelta(days=i) for i in range(rows)]
    return pa.table(
        {
            "entity_key": [TICKERS[i % len(TICKERS)] for i in range(rows)],
            "event_time": pa.array(times, pa.timestamp("us", "UTC")),
            "a": [i + 0.5 for i in range(rows)],
            "b": list(range(rows)),
            "c": [i % 2 == 0 for i in range(rows)],
        }
    )


def csv(name: str, opened: Callable[[Path], Any]) -> Callable[[pa.Table, Path], Path]:
    def write(frame: pa.Table, directory: Path) -> Path:
        with opened(directory / name) as file:
            pa.csv.write_csv(frame, file)
        return directory / name

    return write


def compressed(name: str, codec: str) -> Callable[[pa.Table, Path], Path]:
    return csv(name, lambda path: pa.output_stream(path, compression=codec))


def parquet(frame: pa.Table, directory: Path) -> Path:
    pq.write_table(frame, directory / "frame.parquet")
    return directory / "frame.parquet"


def feather(frame: pa.Table, directory: Path) -> Path:
    pa.feather.write_feather(frame, directory / "frame.feather")
    return directory / "frame.feather"


def directory_of(write: Callable[[pa.Table, Path], Any]) -> Callable[[pa.Table, Path], Path]:
    """A directory of two files, beside one that counts for nothing."""

    def both(frame: pa.Table, directory: Path) -> Path:
        for name, part in (("1", frame[:2]), ("2", frame[2:])):
            (directory / "parts" / name).mkdir(parents=True)
            write(part, directory / "parts" / name)
        (directory / "parts" / "_SUCCESS").touch()
        (directory / "parts" / "README.md").touch()
        return directory / "parts"

    return both


def relation(frame: pa.Table) -> duckdb.DuckDBPyRelation:
    connection = duckdb.connect()
    connection.execute("SET timezone = 'UTC'")
    connection.register("frame", frame)
    return connection.sql("SELECT * FROM frame")


class Stream:
    """Any object that speaks the Arrow C interface, and nothing else."""

    def __init__(self, frame: pa.Table) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._frame.__arrow_c_stream__(requested_schema)


class Convertible:
    """An object with `to_arrow`, as a snapshot of features is."""

    def __init__(self, frame: pa.Table) -> None:
        self._frame = frame

    def to_arrow(self) -> pa.Table:
        return self._frame


KINDS: dict[str, Callable[[pa.Table, Path], Any]] = {
    "pandas": lambda f, _: f.to_pandas(),
    "pandas on Arrow": lambda f, _: f.to_pandas(types_mapper=pd.ArrowDtype),
    "pandas nullable": lambda f, _: f.to_pandas().convert_dtypes(),
    "pandas categorical": lambda f, _: f.to_pandas().astype({"entity_key": "category"}),
    "pandas with an index": lambda f, _: f.to_pandas().set_axis(list("abcabc"), axis="index"),
    "polars": lambda f, _: pl.from_arrow(f),
    "polars lazy": lambda f, _: pl.from_arrow(f).lazy(),
    "Arrow": lambda f, _: f,
    "Arrow in chunks": lambda f, _: pa.concat_tables([f[:1], f[1:4], f[4:]]),
    "Arrow batch": lambda f, _: f.to_batches()[0],
    "Arrow reader": lambda f, _: f.to_reader(max_chunksize=2),
    "Arrow dataset": lambda f, d: pa.dataset.dataset(parquet(f, d)),
    "Arrow stream": lambda f, _: Stream(f),
    "Arrow on demand": lambda f, _: Convertible(f),
    "narwhals": lambda f, _: nw.from_native(pl.from_arrow(f)),
    "DuckDB": lambda f, _: relation(f),
    "mapping": lambda f, _: f.to_pydict(),
    "mapping of arrays": lambda f, _: {name: f[name] for name in f.column_names},
    "CSV": csv("frame.csv", lambda path: path.open("wb")),
    "CSV in capitals": csv("FRAME.CSV", lambda path: path.open("wb")),
    "CSV gz": compressed("frame.csv.gz", "gzip"),
    "CSV bz2": compressed("frame.csv.bz2", "bz2"),
    "CSV zst": compressed("frame.csv.zst", "zstd"),
    "CSV lz4": compressed("frame.csv.lz4", "lz4"),
    "Parquet": parquet,
    "Feather": feather,
    "text of a path": lambda f, d: str(parquet(f, d)),
    "directory of CSV": directory_of(csv("frame.csv", lambda path: path.open("wb"))),
    "directory of CSV gz": directory_of(compressed("frame.csv.gz", "gzip")),
    "directory of Parquet": directory_of(parquet),
    "iterator of pandas": lambda f, _: iter([f[:2].to_pandas(), f[2:].to_pandas()]),
    "iterator of polars": lambda f, _: iter([pl.from_arrow(f[:2]), pl.from_arrow(f[2:]).lazy()]),
    "list of mappings": lambda f, _: [f[:2].to_pydict(), f[2:].to_pydict()],
    "iterator of files": lambda f, d: (path for path in [parquet(f, d)]),
}  # fmt: skip
