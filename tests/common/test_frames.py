"""Frames: every kind gives the same columns, in bounded batches, and gets its results back."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.feather
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.frames import KINDS, ROWS, START, TICKERS, csv, parquet, table

from mlflow_timescale.common.frames import (
    Frame,
    InvalidFrame,
    as_arrow,
    as_column,
    labels,
    make_frame,
    text,
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_frame_has_the_same_columns(tmp_path: Path, kind: str) -> None:
    columns = Frame(KINDS[kind](table(), tmp_path), text=["entity_key"]).columns()
    assert list(columns) == table().column_names
    names, codes = labels(columns["entity_key"], "entity_key")
    assert [names[code] for code in codes] == TICKERS
    assert values(columns, "event_time") == [START + timedelta(days=i) for i in range(ROWS)]
    assert values(columns, "a") == table()["a"].to_pylist()
    assert values(columns, "b") == list(range(ROWS))
    assert values(columns, "c") == [True, False] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_batches_of_every_kind_are_bounded_and_complete(tmp_path: Path, kind: str) -> None:
    frame = Frame(KINDS[kind](table(), tmp_path), text=["entity_key"])
    batches = list(frame.batches(values=10))  # two rows of five columns
    assert all(len(batch["a"]) <= 2 for batch in batches)
    assert [b for batch in batches for b in values(batch, "b")] == list(range(ROWS))


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_frame_keeps_its_columns(tmp_path: Path, kind: str) -> None:
    if kind in ("pandas with an index", "Arrow batch"):
        pytest.skip("has no form without rows")
    columns = Frame(KINDS[kind](table()[:0], tmp_path), text=["entity_key"]).columns()
    assert {name: len(column) for name, column in columns.items()} == dict.fromkeys(
        table().column_names, 0
    )
    assert labels(columns["entity_key"], "entity_key")[0] == []


LIBRARY = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "narwhals": pl.DataFrame}
HOMES = {"mapping": pd.DataFrame, "CSV": pd.DataFrame, "Parquet": pd.DataFrame,
         "Feather": pd.DataFrame, "text": pd.DataFrame, "directory": pd.DataFrame}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_joined_columns_come_back_in_the_callers_library(tmp_path: Path, kind: str) -> None:
    frame = Frame(KINDS[kind](table(), tmp_path), text=["entity_key"])
    joined = frame.join({"x": np.arange(6.0)})
    home = (LIBRARY | HOMES).get(kind.split()[0], pa.Table)
    if kind.startswith(("iterator", "list")):
        home = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "mappings": pd.DataFrame}.get(
            kind.split()[-1], pa.Table
        )
    assert isinstance(joined, home)
    assert list(joined["x"].to_numpy()) == list(range(6))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("output", ["pandas", "arrow", "polars"])
def test_joined_columns_come_in_any_library(tmp_path: Path, kind: str, output: str) -> None:
    frame = Frame(KINDS[kind](table(), tmp_path), text=["entity_key"])
    moments = np.array([START.replace(tzinfo=None)] * 6, dtype="M8[us]")
    joined = frame.join({"t": moments, "v": as_column([[1.0]] * 5 + [None])}, output)
    back = Frame(joined).table()
    assert back.column_names == [*table().column_names, "t", "v"]
    assert back["a"].to_pylist() == table()["a"].to_pylist()
    assert back["t"].to_pylist() == [START] * 6
    assert [None if v is None else list(v) for v in back["v"].to_pylist()] == [[1.0]] * 5 + [None]


def values(columns: Any, name: str) -> list[Any]:
    return as_arrow(columns[name], name).to_pylist()


def test_a_pandas_frame_gets_its_results_with_index_and_columns_untouched() -> None:
    frame = pd.DataFrame(
        {
            "sparse": pd.arrays.SparseArray([0.0, 1.0, 0.0]),
            "interval": pd.interval_range(0, 3),
            "period": pd.period_range("2024-01", periods=3, freq="M"),
            "objects": [1, "x", None],
            7: pd.Categorical(["a", "b", "a"]),
        },
        index=pd.MultiIndex.from_product([["x"], [3, 1, 1]], names=["side", None]),
    )
    joined = Frame(frame).join({"f": np.array([1.0, 2.0, math.nan])})
    pd.testing.assert_frame_equal(joined[frame.columns], frame)
    assert joined["f"].tolist()[:2] == [1.0, 2.0]


def test_a_mapping_may_hold_an_index_of_pandas() -> None:
    times = pd.date_range("2024-01-02", periods=2, tz="America/New_York", unit="us")
    frame = Frame({"as_of": times, "entity_key": pd.Index(["A", "B"])})
    assert frame.column("as_of").to_pylist() == list(times)
    assert frame.column("entity_key").to_pylist() == ["A", "B"]


def test_a_mapping_keeps_columns_that_arrow_has_no_type_for() -> None:
    waves, mixed = np.array([1 + 2j, 0]), [1, "x"]
    joined = Frame({"waves": waves, "mixed": mixed}).join({"f": np.array([1.0, 2.0])})
    assert joined["waves"].dtype == waves.dtype
    assert joined["mixed"].tolist() == mixed


def test_a_polars_frame_keeps_its_types() -> None:
    frame = pl.DataFrame(
        {
            "side": pl.Series(["buy", "sell"], dtype=pl.Enum(["buy", "sell"])),
            "sector": pl.Series(["tech", "tech"], dtype=pl.Categorical),
            "duration": [timedelta(1), None],
        }
    )
    joined = Frame(frame.lazy()).join({"f": np.array([1.0, 2.0])})
    assert joined.drop("f").equals(frame)
    assert joined.drop("f").schema == frame.schema


def test_an_arrow_table_keeps_its_metadata_and_its_chunks() -> None:
    schema = table().schema.with_metadata({"origin": "desk"})
    frame = pa.concat_tables([table(), table()]).cast(schema)
    joined = Frame(frame).join({"f": np.arange(12.0)})
    assert joined.schema.metadata == {b"origin": b"desk"}
    assert joined["a"].num_chunks == 2
    assert joined.drop_columns("f").equals(frame)


def test_a_taken_name_or_an_unknown_output_is_refused() -> None:
    with pytest.raises(InvalidFrame, match="has columns named a already"):
        Frame(table()).join({"a": np.zeros(6)})
    with pytest.raises(InvalidFrame, match="output 'spark' is none of pandas, arrow, polars"):
        Frame(table()).join({"x": np.zeros(6)}, "spark")
    with pytest.raises(InvalidFrame, match="output 'spark'"):
        make_frame({"x": [1]}, "spark")


def test_numbers_are_not_copied() -> None:
    numbers = np.arange(1e6)
    address = numbers.__array_interface__["data"][0]
    for frame in (
        pd.DataFrame({"x": numbers}, copy=False),
        {"x": numbers},
        pa.table({"x": numbers}),
    ):
        column = Frame(frame).column("x")
        assert column.to_numpy().__array_interface__["data"][0] == address
        (batch,) = Frame(frame).batches(values=10**6)
        assert batch["x"].to_numpy().__array_interface__["data"][0] == address


def test_a_stream_is_read_batch_by_batch() -> None:
    taken = []

    def stream() -> Iterator[pa.Table]:
        for i in range(3):
            taken.append(i)
            yield table()

    batches = Frame(stream()).batches(values=30)
    next(batches)
    assert taken == [0]
    reader = pa.RecordBatchReader.from_batches(
        table().schema, (batch for part in stream() for batch in part.to_batches())
    )
    assert len(next(Frame(reader).batches(values=30))["a"]) == 6
    assert len(taken) < 4


def test_small_batches_of_a_stream_are_gathered() -> None:
    reader = table(100).to_reader(max_chunksize=1)
    assert [len(batch["a"]) for batch in Frame(reader).batches(values=200)] == [40, 40, 20]


def test_a_stream_is_read_once_for_all_questions() -> None:
    frame = Frame(table().to_reader())
    assert frame.names == table().column_names
    assert len(frame) == len(frame.column("a")) == len(frame.columns()["b"]) == 6


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=1, max_size=20
    )
)
def test_identifiers_of_a_csv_file_are_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "frame.csv"
    pa.csv.write_csv(pa.table({"run_id": names, "x": np.arange(len(names))}), path)
    columns = Frame(path, text=["run_id"]).columns()
    assert columns["run_id"].to_pylist() == names
    assert columns["x"].to_pylist() == list(range(len(names)))


@pytest.mark.parametrize(
    "name", ["000001", "0101", "1.10", "TRUE", "NA", "null", "nan", "1E5", "-"]
)
def test_an_identifier_that_looks_like_something_else_stays(tmp_path: Path, name: str) -> None:
    path = tmp_path / "frame.csv"
    path.write_text(f"entity_key,x\n{name},NA\n{name},1\n")
    columns = Frame(path, text=["entity_key", "no such column"]).columns()
    assert columns["entity_key"].to_pylist() == [name] * 2
    assert columns["x"].to_pylist() == [None, 1]


@pytest.mark.parametrize("write", [parquet, csv("frame.csv", lambda path: path.open("wb"))])
def test_directories_of_partitions_are_columns_and_identifiers_among_them_texts(
    tmp_path: Path, write: Callable[[pa.Table, Path], Any]
) -> None:
    for ticker in ("000001", "600519"):
        folder = tmp_path / "lake" / "year=2024" / f"entity_key={ticker}"
        folder.mkdir(parents=True)
        write(pa.table({"x": [1.5]}), folder)
    columns = Frame(tmp_path / "lake", text=["entity_key"]).columns()
    assert columns["entity_key"].to_pylist() == ["000001", "600519"]
    assert columns["year"].to_pylist() == [2024, 2024]


@pytest.mark.parametrize("column", [pd.Series([7, 8]), pa.array([7, 8], pa.uint8()), [7, 8],
                                    pd.Series([7, 8], dtype="category"),
                                    pl.Series([7, 8])])  # fmt: skip
def test_whole_numbers_are_identifiers(column: Any) -> None:
    assert labels(as_column(column), "entity_key")[0] == ["7", "8"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1.1]), r"key holds double \(such as 1.1\), not text"),
        ([1.0, None], "key in row 0 is 1.0, not text"),
        ([True], "key in row 0 is True, not text"),
        (pd.Series([True]), "key holds bool"),
        (pd.Series([START]), "key holds timestamp"),
        (pd.Series([1.5], dtype="category"), "key holds double"),
        ([b"AAPL"], "key in row 0 is b'AAPL', not text"),
        (["AAPL", None], r"key is missing in 1 row\(s\)"),
        (pd.Series(["AAPL", pd.NA], dtype="string"), r"key is missing in 1 row\(s\)"),
        (["AAPL", ""], "key is empty in some row"),
        (["A\x00"], "key has a NUL character"),
    ],
)
def test_what_is_no_identifier_is_refused(column: Any, message: str) -> None:
    with pytest.raises(InvalidFrame, match=message):
        labels(as_column(column), "key")


def test_text_keeps_what_is_missing() -> None:
    assert text(as_column(["a", None, 7]), "group").to_pylist() == ["a", None, "7"]
    assert text(pa.nulls(2), "group").to_pylist() == [None, None]
    assert text(pa.array([], pa.float64()), "group").to_pylist() == []


def test_pandas_tells_undefined_from_missing() -> None:
    frame = pd.DataFrame(
        {
            "nan": [math.nan, 1.0],
            "na": pd.array([None, 1.0], dtype="Float64"),
            "o": pd.Series([None, 1.0], dtype=object),
        }
    )
    columns = Frame(frame).columns()
    assert columns["nan"].null_count == 0
    assert columns["na"].null_count == 1
    assert columns["o"].tolist() == [None, 1.0]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (42, "cannot read a int; give a pandas, polars or Arrow frame"),
        (b"x", "cannot read a bytes"),
        ([1, 2], "cannot read a int"),
        (pd.Series([1.0]), "cannot read the Series"),
        ({"a": "text"}, "column 'a' is 'text', not a list of values"),
        ({"a": [1], "b": [1, 2]}, "columns have different lengths: {'a': 1, 'b': 2}"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "columns 'a' of the frame occur more than"),
        (pa.table([[1], [2]], names=["a", "a"]), "columns 'a' of the frame occur more than"),
        ([{"a": [1]}, {"a": ["x"]}], "do not fit together"),
        ("/no/such/file.csv", "no file or directory /no/such/file.csv"),
    ],
)
def test_what_is_no_frame_is_refused(source: Any, message: str) -> None:
    with pytest.raises(InvalidFrame, match=message):
        Frame(source).columns()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", b"x", r"a.xlsx holds .xlsx; give a file .csv"),
        ("a.parquet", b"x", "cannot read .*a.parquet"),
        ("a.csv", b"", "cannot read .*a.csv: Empty CSV file"),
        ("a.csv", b"a,b\n1\n", "cannot read .*a.csv"),
        ("a.csv.gz", b"a,b\n1,2\n", "cannot read .*a.csv.gz"),
        ("a.csv", b"a,a\n1,2\n", "columns 'a' of the frame occur more than once"),
        ("a.csv", b"a\n" + b"1\n" * 600_000 + b"x\n", "cannot read .*megabyte"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidFrame, match=message):
        Frame(tmp_path / name).columns()


def test_a_directory_of_two_kinds_or_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFrame, match="holds no files"):
        Frame(tmp_path).columns()
    (tmp_path / "a.csv").write_text("a\n1\n")
    parquet(table(), tmp_path)
    with pytest.raises(InvalidFrame, match=r"holds .csv, .parquet; give"):
        Frame(tmp_path).columns()


def test_a_missing_column_names_those_that_exist() -> None:
    frame = table().to_pandas().set_index(["entity_key", "event_time"])
    with pytest.raises(InvalidFrame, match=r"no column 'x'; it has a, b, c$"):
        Frame(frame).column("x")
    for read in (lambda f: f.column("entity_key"), lambda f: f.columns()["entity_key"]):
        with pytest.raises(InvalidFrame, match=r"a level of the index: call reset_index\(\)"):
            read(Frame(frame))


def test_frame_libraries_are_imported_only_for_their_frames() -> None:
    code = (
        "import sys; from mlflow_timescale.common.frames import Frame;"
        "import polars; Frame(polars.DataFrame({'a': [1.0]})).columns();"
        "print([m for m in ('pandas', 'duckdb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@given(
    st.lists(st.one_of(st.none(), st.floats(allow_nan=False), st.integers(-(2**53), 2**53))),
    st.integers(1, 50),
)
def test_slices_together_are_the_whole(items: list[Any], size: int) -> None:
    column = pa.array([None if item is None else float(item) for item in items], pa.float64())
    frames = (pa.table({"x": column}), pl.DataFrame({"x": pl.Series(column)}), {"x": column})
    for frame in frames:
        parts = [batch["x"] for batch in Frame(frame).batches(size)]
        assert [item for part in parts for item in part.to_pylist()] == column.to_pylist()
        assert all(len(part) <= size for part in parts)
