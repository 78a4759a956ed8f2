"""`sha256+<scheme>:` for gs, wasbs, hdfs, mlflow-artifacts and http: MLflow's own, on emulators."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import psycopg
import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from pyarrow.fs import LocalFileSystem
from support.servers import free_port, mlflow_server, running, wait_for_port

from mlflow_timescale.artifacts.checks import ArtifactMismatch
from mlflow_timescale.db.uri import DatabaseURI

# Azurite's own, the same everywhere.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
Put = Callable[[str, bytes], object]


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Put]]:
    """A bucket, and how to change an object in it without a record."""
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    storage = pytest.importorskip("google.cloud.storage")
    server = emulator.create_server("127.0.0.1", port := free_port(), in_memory=True)
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "tests")
    try:
        bucket = storage.Client.create_anonymous_client().create_bucket("models")
        yield (
            "gs://models/1/run/artifacts",
            lambda path, data: bucket.blob(f"1/run/artifacts/{path}").upload_from_string(data),
        )
    finally:
        server.stop()


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Put]]:
    """A container of Azurite (npm install azurite), where that is installed."""
    program = shutil.which("azurite-blob") or pytest.skip("azurite-blob is not on the PATH")
    blob = pytest.importorskip("azure.storage.blob")
    port = free_port()
    command = [program, "--silent", "--skipApiVersionCheck", "--blobPort", str(port)]
    command += ["--location", str(tmp_path / "azurite")]
    where = f"http://127.0.0.1:{port}/{ACCOUNT}"
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING",
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
        f"BlobEndpoint={where};",
    )
    with running(command, log_file=tmp_path / "azurite.log") as process:
        wait_for_port(port, process)
        service = blob.BlobServiceClient(where, credential=KEY)
        container = service.create_container("models")
        yield (
            f"wasbs://models@{ACCOUNT}.blob.core.windows.net/1/run/artifacts",
            lambda path, data: container.upload_blob(
                f"1/run/artifacts/{path}", data, overwrite=True
            ),
        )


@pytest.fixture
def hadoop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Put]:
    """A directory that pyarrow shows in place of a cluster, which would need Java."""
    monkeypatch.setattr(
        "mlflow.store.artifact.hdfs_artifact_repo.HadoopFileSystem",
        lambda **connection: LocalFileSystem(),
    )
    root = tmp_path / "hadoop"
    return f"hdfs://namenode{root}", lambda path, data: (root / path).write_bytes(data)


@pytest.fixture
def proxy(
    tracking: DatabaseURI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Put]]:
    """Another tracking server, plain MLflow's, whose proxy keeps files in a directory.

    MLflow wants to be pointed at a server then; which database keeps the ledger is a setting.
    """
    monkeypatch.setenv("MLFLOW_TIMESCALE_URI", tracking.url)
    kept = tmp_path / "served"
    backend = ("--backend-store-uri", f"sqlite:///{tmp_path}/other.db", "--workers", "1")
    where = (*backend, "--artifacts-destination", str(kept))
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with mlflow_server(*where, log_file=tmp_path / "log", environment=quiet) as server:
        mlflow.set_tracking_uri(server.url)
        yield (
            f"{server.url.replace('http', 'mlflow-artifacts')}/1/run/artifacts",
            lambda path, data: (kept / "1/run/artifacts" / path).write_bytes(data),
        )


@pytest.fixture
def http(proxy: tuple[str, Put]) -> tuple[str, Put]:
    """The same by the address of its REST interface."""
    uri, put = proxy
    host, _, path = uri.removeprefix("mlflow-artifacts://").partition("/")
    return f"http://{host}/api/2.0/mlflow-artifacts/artifacts/{path}", put


@pytest.fixture(
    params=[
        pytest.param("google", marks=pytest.mark.slow),
        pytest.param("azure", marks=pytest.mark.slow),
        pytest.param("proxy", marks=[pytest.mark.slow, pytest.mark.server]),
        pytest.param("http", marks=[pytest.mark.slow, pytest.mark.server]),
        "hadoop",
    ]
)
def cloud(request: pytest.FixtureRequest) -> tuple[str, Put]:
    return request.getfixturevalue(request.param)


def test_a_tree_goes_to_another_cloud_and_back_and_a_changed_object_is_refused(
    tracking: DatabaseURI,
    cloud: tuple[str, Put],
    files: Path,
    tmp_path: Path,
    toolbox: Any,
    conn: psycopg.Connection,
) -> None:
    uri, put = cloud
    repository = get_artifact_repository(f"sha256+{uri}", tracking_uri=mlflow.get_tracking_uri())
    repository.log_artifacts(str(files))
    (target := tmp_path / "back").mkdir()
    repository.download_artifacts("", str(target))
    assert toolbox.contents_of(target) == toolbox.contents_of(files)
    rows = conn.execute("SELECT location, checksum FROM mlops.model_artifacts").fetchall()
    assert dict(rows) == {
        f"{uri}/{path}": hashlib.sha256(data).hexdigest()
        for path, data in toolbox.contents_of(files).items()
    }
    put("model/deep/a.json", b"[]")
    with pytest.raises(ArtifactMismatch, match=r"a\.json"):
        repository.download_artifacts("model/deep/a.json")
    repository.delete_artifacts("model")
    left = [item.path for item in repository.list_artifacts() if not item.is_dir]
    assert left == ["empty.txt"]
    current = "SELECT artifact_path FROM mlops.model_artifacts WHERE ended_at IS NULL"
    assert len(conn.execute(current).fetchall()) == 1
