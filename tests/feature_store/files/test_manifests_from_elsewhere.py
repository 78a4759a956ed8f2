"""Manifests from elsewhere: they name files of their own folder, or are refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

# First: MLflow imports our dataset source itself, and cannot while that module is half imported.
import mlflow.data  # noqa: F401
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.catalogue.view_files import read_views
from feature_store.errors import DefinitionError, FeatureError
from feature_store.files.lake import Lake
from feature_store.files.lake_manifest import LakeManifest
from feature_store.files.manifest import Manifest, SnapshotError
from feature_store.files.snapshots import load_snapshot
from feature_store.files.storage import CorruptFile, Folder
from mlflow_timescale.common.frames import DecodesToTooMuch, load_json
from mlflow_timescale.dataset_source import SnapshotSource, is_allowed

FILE = {"path": "data/x.parquet", "rows": 1, "bytes": 1, "sha256": "0" * 64}
SNAPSHOT: dict[str, Any] = {
    "name": "n",
    "fingerprint": "0" * 64,
    "spine_hash": "",
    "written_by": "2024-01-01T00:00:00+00:00",
    "created_at": "2024-01-01T00:00:00+00:00",
    "rows": 1,
    "entity": "entity_key",
    "as_of": "as_of",
    "spine_columns": ["entity_key", "as_of"],
    "features": [],
    "max_age": None,
    "partition": None,
    "schema": [],
    "files": [FILE],
    "database": "",
    "libraries": {},
    "format": 1,
}


def with_path(path: Any) -> str:
    return json.dumps({**SNAPSHOT, "files": [{**FILE, "path": path}]})


def test_the_manifest_of_these_tests_is_one() -> None:
    assert Manifest.from_json(json.dumps(SNAPSHOT), "here").files[0].path == FILE["path"]


@pytest.mark.parametrize(
    "path",
    ["../private/x", "/etc/passwd", "data/../../x", "", ".", "s3://b/x", "a//b", "a\x00b", 7, None],
)
def test_a_file_outside_of_the_folder_is_refused(path: Any, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(with_path(path))
    with pytest.raises(SnapshotError, match="damaged"):
        load_snapshot(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        json.dumps({**SNAPSHOT, "max_age": 1e300}),
        "NaN",
        "[]",
        "0",
    ],
)
def test_a_manifest_that_cannot_be_read_is_one_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(SnapshotError, match="damaged"):
        load_snapshot(tmp_path)
    with pytest.raises(FeatureError, match="damaged"):
        LakeManifest.from_json(text.encode(), "here")


@pytest.mark.parametrize(
    ("url", "stores", "allowed"),
    [
        ("/srv/s", "", True),
        ("relative/s", "", True),
        ("file:///srv/s", "", True),
        ("http://169.254.169.254/latest", "", False),
        ("s3://other/s", "s3://bucket", False),
        ("s3://bucket/s", "s3://bucket/", True),
        ("s3://bucket-2/s", "s3://bucket", False),
        ("s3://bucket/a/../../other", "s3://bucket/a", False),
        ("simplecache::http://host/s", "", False),
        ("zip://x::/srv/s.zip", "", False),
        ("file://host/share", "", False),
    ],
)
def test_a_run_names_only_local_folders_and_listed_stores(
    url: str, stores: str, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TIMESCALE_SNAPSHOT_STORES", stores)
    assert is_allowed(url) is allowed
    if not allowed:
        with pytest.raises(FeatureError, match="MLFLOW_TIMESCALE_SNAPSHOT_STORES"):
            SnapshotSource(url, "0").load()


LAKE: dict[str, Any] = {
    "buckets": 1,
    "features": None,
    "origin": None,
    "written_by": "2024-01-01T00:00:00+00:00",
    "generation": 1,
    "heads": None,
    "files": [{"bucket": 0, "year": 2024, "file": FILE}],
    "versions": {"f": [1]},
    "format": 1,
}


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": "many"},
        {"files": {}},
        {"files": [{**FILE, "rows": "1"}]},
        {"files": [{**FILE, "bytes": -1}]},
        {"files": [{**FILE, "sha256": None}]},
        {"files": ["data/x"]},
        {"files": None},
        {"features": [{"name": 7, "version": 1, "versions": [], "nulls": 0, "undefined": 0}]},
        {"features": [{"name": "f", "version": "x", "versions": [], "nulls": 0, "undefined": 0}]},
        {"spine_columns": [1]},
        {"schema": [[]]},
        {"entity": 3},
        {"age_limits": []},
        {"written_by": 7},
        {"max_age": [1]},
    ],
)
def test_a_manifest_with_a_field_of_another_type_is_damaged(changes: dict[str, Any]) -> None:
    with pytest.raises(SnapshotError, match="damaged"):
        Manifest.from_json(json.dumps({**SNAPSHOT, **changes}), "here")


@pytest.mark.parametrize(
    "changes",
    [
        {"buckets": 0},
        {"buckets": "8"},
        {"versions": []},
        {"versions": {"f": "1"}},
        {"versions": {"f": [[1]]}},
        {"written_by": "soon"},
        {"written_by": 1},
        {"files": [{"bucket": None, "year": 2024, "file": FILE}]},
        {"files": [{"bucket": 0, "year": 2024, "file": {**FILE, "path": "../x"}}]},
        {"files": [{"bucket": 0, "year": 2024, "file": {**FILE, "path": "/etc/passwd"}}]},
        {"files": [{"bucket": 0, "year": 2024, "file": {**FILE, "path": "http://h/x"}}]},
        {"heads": {**FILE, "path": "../heads"}},
        {"files": [FILE]},
        {"files": 1},
        {"unknown": 1},
    ],
)
def test_a_lake_with_a_field_of_another_type_is_damaged(changes: dict[str, Any]) -> None:
    LakeManifest.from_json(json.dumps(LAKE).encode(), "here")
    with pytest.raises(FeatureError, match="damaged"):
        LakeManifest.from_json(json.dumps({**LAKE, **changes}).encode(), "here")


def bomb() -> bytes:
    """A Parquet file of a few kilobytes that holds a gigabyte of text."""
    codes = pa.array(np.zeros(100_000, "i4"))
    table = pa.table({"f": pa.DictionaryArray.from_arrays(codes, pa.array(["x" * 10_000]))})
    sink = io.BytesIO()
    pq.write_table(table.cast(pa.schema([("f", pa.string())])), sink, compression="zstd")
    return sink.getvalue()


def described(data: bytes, **changes: Any) -> dict[str, Any]:
    return {**FILE, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **changes}


def write(folder: Path, data: bytes, file: dict[str, Any]) -> None:
    """The same file as a snapshot and as a lake."""
    (folder / "data").mkdir()
    (folder / "data" / "x.parquet").write_bytes(data)
    (folder / "manifest.json").write_text(json.dumps({**SNAPSHOT, "files": [file]}))
    (folder / "lake.json").write_text(
        json.dumps({**LAKE, "files": [{"bucket": 0, "year": 2024, "file": file}]})
    )


@pytest.mark.slow
def test_a_file_that_decodes_to_too_much_is_refused(tmp_path: Path) -> None:
    data = bomb()
    write(tmp_path, data, described(data))
    before = pa.total_allocated_bytes()
    with pytest.raises(DecodesToTooMuch, match="parquet has"):
        load_snapshot(tmp_path)
    with pytest.raises(DecodesToTooMuch):
        Lake(tmp_path).table()
    assert pa.total_allocated_bytes() - before < 10 << 20


def test_a_file_that_is_no_parquet_file_is_one_error(tmp_path: Path) -> None:
    write(tmp_path, b"PAR1 and nothing", described(b"PAR1 and nothing"))
    with pytest.raises(CorruptFile, match="cannot be read"):
        load_snapshot(tmp_path)
    with pytest.raises(CorruptFile, match="cannot be read"):
        Lake(tmp_path).table()


@pytest.mark.parametrize("kind", ["link", "pipe", "device", "folder", "loop", "sparse", "claimed"])
def test_what_is_no_file_of_the_folder_is_not_opened(kind: str, tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    folder.mkdir()
    outside.write_bytes(b"private")
    write(folder, b"", described(b"private", bytes=1 << 40 if kind == "claimed" else 7))
    place = folder / "data" / "x.parquet"
    place.unlink()
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind in ("sparse", "claimed"):
        with place.open("wb") as file:
            file.truncate(1 << 40)
    else:
        place.symlink_to({"link": outside, "device": "/dev/zero", "loop": place}[kind])
    for read in (lambda: load_snapshot(folder), Lake(folder).table, Lake(folder).verify):
        with pytest.raises(FeatureError, match=r"x\.parquet"):
            read()


def test_a_manifest_that_is_a_pipe_or_too_long_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(FeatureError):
        load_snapshot(tmp_path)
    with (tmp_path / "lake.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FeatureError, match="are expected"):
        Lake(tmp_path)


def test_a_folder_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x").write_bytes(b"1")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert Folder(tmp_path / "link").read("x") == b"1"


def test_views_and_structures_that_are_nested_without_end_are_one_error(tmp_path: Path) -> None:
    (tmp_path / "views.json").write_text("[" * 100_000)
    with pytest.raises(DefinitionError, match="not JSON"):
        read_views(tmp_path / "views.json")
    with pytest.raises(ValueError, match="too deeply"):
        load_json("[" * 100_000)
