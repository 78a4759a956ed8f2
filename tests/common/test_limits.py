"""Small files that decode to much: refused where they are read whole, bounded where they stream."""

from __future__ import annotations

import gzip
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_timescale.common.errors import InvalidFrame
from mlflow_timescale.common.frames import DecodesToTooMuch, Frame, check_parquet, limits
from mlflow_timescale.common.frames.files import readable

MIB = 1 << 20
ROWS = 200_000
LONG = "x" * 1000  # ROWS of them have 200 MB


def repeated(value: Any, rows: int = ROWS) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, "i4")), pa.array([value]))


def texts(path: Path) -> None:
    table = pa.table({"entity_key": repeated(LONG).cast(pa.string()), "f": np.zeros(ROWS)})
    pq.write_table(table, path, compression="zstd", store_schema=False)


def numbers(path: Path) -> None:
    pq.write_table(pa.table({"entity_key": repeated("a", 4 * ROWS)}
                            | {f"f{i}": np.zeros(4 * ROWS) for i in range(8)}), path)  # fmt: skip


def lists(path: Path) -> None:
    offsets = pa.array(np.arange(1001, dtype="i4") * 10_000)
    vectors = pa.ListArray.from_arrays(offsets, pa.array(np.zeros(10_000_000)))
    pq.write_table(pa.table({"entity_key": repeated("a", 1000), "f": vectors}), path)


def lists_of_texts(path: Path) -> None:
    offsets = pa.array(np.arange(ROWS + 1, dtype="i4"))
    vectors = pa.ListArray.from_arrays(offsets, repeated(LONG).cast(pa.string()))
    pq.write_table(pa.table({"f": vectors}), path)


def compressed(path: Path) -> None:
    table = pa.table({"entity_key": repeated("a", 8 * ROWS), "f": np.zeros(8 * ROWS)})
    with pa.ipc.new_file(
        path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
    ) as w:
        w.write_table(table)


def dictionary(path: Path) -> None:
    codes = pa.array(np.arange(1000, dtype="i4"))
    words = pa.array(["x" * 50_000] * 1000)
    table = pa.table({"f": pa.DictionaryArray.from_arrays(codes, words)})
    with pa.ipc.new_file(
        path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
    ) as w:
        w.write_table(table)


def lines(path: Path) -> None:
    with gzip.open(path, "wb") as file:
        file.write(b"entity_key,f\n" + b"A,1.0\n" * 4_000_000)


BOMBS = {
    "texts.parquet": texts,
    "numbers.parquet": numbers,
    "lists.parquet": lists,
    "compressed.feather": compressed,
    "dictionary.feather": dictionary,
    "lines.csv.gz": lines,
}


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TIMESCALE_DECODED_LIMIT", "10")


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_of_much_content_is_not_read_whole(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    BOMBS[name](path)
    assert path.stat().st_size < MIB / 2
    before = pa.total_allocated_bytes()
    with pytest.raises(DecodesToTooMuch, match=rf"{name} has .* decodes to more than 10 MiB"):
        len(Frame(path))
    assert pa.total_allocated_bytes() - before < 100 * MIB


@pytest.mark.parametrize("write", [texts, numbers, lists, lists_of_texts])
def test_a_parquet_file_is_judged_without_decoding_it(write: Any, tmp_path: Path) -> None:
    write(tmp_path / "f")
    data = (tmp_path / "f").read_bytes()
    with pytest.raises(DecodesToTooMuch):
        check_parquet(pa.BufferReader(data), "f", len(data))


def test_a_file_of_ordinary_content_is_within_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TIMESCALE_DECODED_LIMIT")
    texts(tmp_path / "texts.parquet")
    assert len(Frame(tmp_path / "texts.parquet")) == ROWS
    assert limits.decoded_limit(100 * MIB) > limits.decoded_limit(MIB) == 512 * MIB
    assert limits.decoded_limit(10**18) == limits.decoded_limit(10**17)  # half of the memory


@pytest.mark.slow
def test_long_texts_are_streamed_in_small_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_PIECE", 8 * MIB)
    texts(tmp_path / "texts.parquet")
    sizes = [len(batch["f"]) for batch in Frame(tmp_path / "texts.parquet").batches(10_000_000)]
    assert sum(sizes) == ROWS
    pieces = list(limits.pieces(pa.record_batch({"a": repeated(LONG)})))
    assert max(piece.num_rows for piece in pieces) <= 9000
    assert sum(piece.num_rows for piece in pieces) == ROWS


def test_an_arrow_file_that_claims_a_huge_buffer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "claims.feather"
    compressed(path)
    data = bytearray(path.read_bytes())
    claim = (8 * 8 * ROWS).to_bytes(8, "little")
    at = data.index(claim)
    data[at : at + 8] = (1 << 50).to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(DecodesToTooMuch):
        next(iter(Frame(path).batches(10)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"entity_key,f\n" + b"A" * (3 * MIB) + b",1.0\n", "at most a megabyte"),
        (b",".join(b"c%d" % i for i in range(300_000)) + b"\n", "longer than a megabyte"),
        (bytes(range(256)) * 10, "cannot read"),
        (b"", "Empty CSV file"),
    ],
)
def test_a_csv_file_that_cannot_be_read_is_one_clear_line(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "f.csv").write_bytes(content)
    with pytest.raises(InvalidFrame, match=reason) as refused:
        Frame(tmp_path / "f.csv").table()
    assert len(str(refused.value)) < 1000


def test_a_schema_that_is_nested_without_end_is_one_error(tmp_path: Path) -> None:
    kind: pa.DataType = pa.int32()
    for _ in range(300):
        kind = pa.list_(kind)
    pq.write_table(pa.table({"f": pa.nulls(1, kind)}), tmp_path / "deep.parquet")
    with pytest.raises(InvalidFrame, match="cannot read"):
        Frame(tmp_path / "deep.parquet").table()


def test_files_of_a_folder_may_lack_columns_and_have_other_types(tmp_path: Path) -> None:
    for number, table in enumerate(
        (
            pa.table({"a": [1.0], "b": ["x"], "c": ["y"]}),
            pa.table({"b": ["z"], "a": pa.array([2], pa.int32())}),
        )
    ):
        folder = tmp_path / f"day={number}"
        folder.mkdir()
        pq.write_table(table, folder / "f.parquet")
    assert Frame(tmp_path).table().to_pylist() == [
        {"a": 1.0, "b": "x", "c": "y", "day": 0},
        {"a": 2.0, "b": "z", "c": None, "day": 1},
    ]


@pytest.mark.slow
def test_a_damaged_arrow_file_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "damaged.feather"
    compressed(path)
    data = path.read_bytes()
    for position in range(8, min(len(data), 1500), 3):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        with suppress(InvalidFrame), readable(path):
            limits.check_arrow(str(path), len(data))


def test_names_of_columns_may_have_dots(tmp_path: Path) -> None:
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(ROWS, "i4")), pa.array([LONG]))
    table = pa.table({"a.b": words.cast(pa.string()), "": np.zeros(ROWS)})
    pq.write_table(table, tmp_path / "f.parquet", compression="zstd")
    data = (tmp_path / "f.parquet").read_bytes()
    with pytest.raises(DecodesToTooMuch):
        check_parquet(pa.BufferReader(data), "f", len(data))
    pq.write_table(table.slice(0, 3), tmp_path / "f.parquet")
    assert Frame(tmp_path / "f.parquet").table().equals(table.slice(0, 3))
