"""Files of snapshots and lakes: what is read of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa

from feature_store.files.storage import Folder, reader_of


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    table = pa.table({"entity_key": ["AAPL", "MSFT"], "momentum": [0.5, -0.25]})
    file = folder.write_parquet("part.parquet", table)
    assert folder.read_parquet(file) == table
    assert folder.read_parquet(file, ["momentum"]) == table.select(["momentum"])


def test_arrows_threads_hold_no_bytes_of_python_while_the_interpreter_ends() -> None:
    data = bytes(range(256)) * 4
    references = sys.getrefcount(data)
    reader = reader_of(data)
    assert sys.getrefcount(data) == references
    assert reader.read_buffer().equals(pa.py_buffer(data))
