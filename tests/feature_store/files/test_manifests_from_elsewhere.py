"""Manifests from elsewhere: they name files of their own folder, or are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# First: MLflow imports our dataset source itself, and cannot while that module is half imported.
import mlflow.data  # noqa: F401
import pytest

from feature_store.errors import FeatureError
from feature_store.files.lake import LakeManifest
from feature_store.files.manifest import Manifest, SnapshotError
from feature_store.files.snapshots import load_snapshot
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
