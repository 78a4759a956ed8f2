"""`sha256+<scheme>:`: MLflow's repositories with the ledger round them."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import mlflow
import psycopg
import pytest
import requests
from mlflow.entities.multipart_upload import MultipartUploadPart
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import (
    MultipartDownloadMixin,
    MultipartUploadMixin,
    PresignedUploadMixin,
    StreamUploadMixin,
)
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_timescale.artifacts import checks
from mlflow_timescale.artifacts.checks import ArtifactMismatch, UnknownArtifact
from mlflow_timescale.db.uri import DatabaseURI

BUCKET = "models"


@pytest.fixture
def on_disk(tracking: DatabaseURI, tmp_path: Path) -> Any:
    uri = f"sha256+file://{tmp_path}/root/1/run/artifacts"
    return get_artifact_repository(uri, tracking_uri=tracking.url)


@pytest.fixture
def on_s3(tracking: DatabaseURI, s3: Any) -> Any:
    uri = f"sha256+s3://{BUCKET}/1/run/artifacts"
    return get_artifact_repository(uri, tracking_uri=tracking.url)


@pytest.fixture(params=["on_disk", "on_s3"])
def repository(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def current(conn: psycopg.Connection) -> dict[str, str]:
    rows = conn.execute(
        "SELECT location, checksum FROM mlops.model_artifacts WHERE ended_at IS NULL"
    )
    return dict(rows.fetchall())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_tree_comes_back_and_is_in_the_ledger(
    repository: Any, files: Path, tmp_path: Path, conn: psycopg.Connection, toolbox: Any
) -> None:
    repository.log_artifacts(str(files), "here")
    target = tmp_path / "back"
    target.mkdir()
    repository.download_artifacts("here", str(target))
    assert toolbox.contents_of(target / "here") == toolbox.contents_of(files)
    root = repository.artifact_uri.removeprefix("sha256+")
    assert current(conn) == {
        f"{root}/here/{path}": sha256(data) for path, data in toolbox.contents_of(files).items()
    }


def test_a_single_file_is_logged_listed_and_downloaded(
    repository: Any, files: Path, toolbox: Any
) -> None:
    repository.log_artifact(str(files / "model" / "weights.bin"), "sub")
    assert [item.path for item in repository.list_artifacts("sub")] == ["sub/weights.bin"]
    arrived = Path(repository.download_artifacts("sub/weights.bin"))
    assert arrived.read_bytes() == toolbox.large


def test_a_file_changed_on_disk_is_refused(
    on_disk: Any, files: Path, tmp_path: Path, conn: psycopg.Connection, toolbox: Any
) -> None:
    on_disk.log_artifacts(str(files))
    toolbox.flip_byte_on_disk(tmp_path / "root/1/run/artifacts/model/weights.bin")
    target = tmp_path / "back"
    target.mkdir()
    with pytest.raises(ArtifactMismatch) as refused:
        on_disk.download_artifacts("", str(target))
    assert "weights.bin" in refused.value.message
    assert sha256(toolbox.large) in refused.value.message
    assert list(target.iterdir()) == []
    assert conn.execute("SELECT outcome FROM mlops.artifact_checks").fetchall() == [("mismatch",)]


def test_an_object_changed_on_s3_is_refused(on_s3: Any, s3: Any, files: Path, toolbox: Any) -> None:
    on_s3.log_artifacts(str(files))
    s3.put_object(Bucket=BUCKET, Key="1/run/artifacts/model/deep/a.json", Body=b"[]")
    with pytest.raises(ArtifactMismatch, match=r"a\.json"):
        on_s3.download_artifacts("model")
    assert Path(on_s3.download_artifacts("model/weights.bin")).read_bytes() == toolbox.large


def test_the_server_reads_through_the_check_and_not_from_the_disk(on_disk: Any) -> None:
    on_disk.log_artifact_from_stream(io.BytesIO(b"x"), "a.txt")
    assert on_disk.get_local_path("a.txt") is None


def test_deleting_ends_the_ledger_rows(
    repository: Any, conn: psycopg.Connection, files: Path
) -> None:
    repository.log_artifacts(str(files))
    repository.delete_artifacts("model/deep")
    assert not any("deep" in location for location in current(conn))
    repository.delete_artifacts()
    assert current(conn) == {}


@pytest.mark.parametrize("policy", ["warn", "refuse", "adopt"])
def test_a_file_without_a_ledger_row_follows_the_policy(
    policy: str,
    on_disk: Any,
    conn: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    on_disk.log_artifact_from_stream(io.BytesIO(b"x"), "a.txt")
    conn.execute("UPDATE mlops.model_artifacts SET ended_at = now(), ended = 'deleted'")
    monkeypatch.setenv(checks.UNKNOWN_ARTIFACTS.name, policy)
    if policy == "refuse":
        with pytest.raises(MlflowException, match="not in the ledger") as refused:
            on_disk.download_artifacts("a.txt")
        assert "artifacts adopt" in refused.value.message
        return
    assert Path(on_disk.download_artifacts("a.txt")).read_bytes() == b"x"
    assert ("not in the ledger" in caplog.text) == (policy == "warn")
    assert list(current(conn).values()) == ([sha256(b"x")] if policy == "adopt" else [])


def test_an_unknown_policy_is_an_error(on_disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(checks.UNKNOWN_ARTIFACTS.name, "hope")
    with pytest.raises(MlflowException, match="warn, refuse, adopt"):
        checks.policy()
    assert issubclass(UnknownArtifact, MlflowException)


def test_the_wrapper_can_do_what_the_wrapped_repository_can(on_disk: Any, on_s3: Any) -> None:
    abilities = (MultipartUploadMixin, MultipartDownloadMixin, PresignedUploadMixin)
    for repository in (on_disk, on_s3):
        for ability in abilities:
            assert isinstance(repository, ability) == isinstance(repository.inner, ability)
        assert isinstance(repository, StreamUploadMixin)  # hashed as it arrives, whatever is inside
    assert isinstance(on_s3, MultipartUploadMixin)


def test_a_stream_is_hashed_as_it_arrives(repository: Any, conn: psycopg.Connection) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"al", b"pha"):
            yield piece

    repository.log_artifact_from_stream(io.BytesIO(b"omega"), "b.txt", "deep")
    asyncio.run(repository.log_artifact_from_async_stream(pieces(), "a.txt"))
    root = repository.artifact_uri.removeprefix("sha256+")
    assert current(conn) == {
        f"{root}/a.txt": sha256(b"alpha"),
        f"{root}/deep/b.txt": sha256(b"omega"),
    }
    assert Path(repository.download_artifacts("a.txt")).read_bytes() == b"alpha"


def test_a_multipart_upload_is_read_back_into_the_ledger(
    on_s3: Any, conn: psycopg.Connection
) -> None:
    created = on_s3.create_multipart_upload("big.bin", 1, "model")
    put = requests.put(created.credentials[0].url, data=b"part one", timeout=10)
    part = MultipartUploadPart(1, put.headers["ETag"], created.credentials[0].url)
    on_s3.complete_multipart_upload("big.bin", created.upload_id, [part], "model")
    assert current(conn) == {f"s3://{BUCKET}/1/run/artifacts/model/big.bin": sha256(b"part one")}
    assert conn.execute("SELECT origin FROM mlops.model_artifacts").fetchone() == ("read back",)


def test_a_presigned_download_is_checked_before_the_url_is_given_out(
    on_s3: Any, s3: Any, tmp_path: Path
) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"alpha")
    on_s3.log_artifact(str(file))
    assert on_s3.get_download_presigned_url("a.txt").url.startswith("http")
    s3.put_object(Bucket=BUCKET, Key="1/run/artifacts/a.txt", Body=b"omega")
    with pytest.raises(ArtifactMismatch):
        on_s3.get_download_presigned_url("a.txt")


def test_a_file_that_changes_while_it_is_logged_is_not_recorded(
    on_s3: Any, files: Path, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = on_s3.inner.log_artifact

    def change(local_file: str, artifact_path: str | None) -> None:
        upload(local_file, artifact_path)
        with Path(local_file).open("ab") as file:
            file.write(b"more")

    monkeypatch.setattr(on_s3.inner, "log_artifact", change)
    with pytest.raises(OSError, match="changed while it was being logged"):
        on_s3.log_artifact(str(files / "model" / "weights.bin"))
    assert current(conn) == {}


def test_runs_and_models_use_the_wrapper_end_to_end(
    tracking: DatabaseURI, tmp_path: Path, toolbox: Any, conn: psycopg.Connection
) -> None:
    experiment = mlflow.create_experiment("wrapped", f"sha256+file://{tmp_path}/root")
    with mlflow.start_run(experiment_id=experiment):
        logged = toolbox.log_model()
        mlflow.log_text("alpha", "note.txt")
    assert mlflow.pyfunc.load_model(logged.model_uri).predict([1.0]) == [2.0]
    assert {"note.txt", "python_model.pkl"} <= {
        row[0] for row in conn.execute("SELECT artifact_path FROM mlops.model_artifacts")
    }
    (weights,) = tmp_path.rglob("python_model.pkl")
    toolbox.flip_byte_on_disk(weights)
    with pytest.raises(MlflowException, match="not what was logged"):
        mlflow.pyfunc.load_model(logged.model_uri)


def test_without_a_database_the_error_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow_timescale.schema.last_prepared", None)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(MlflowException, match="MLFLOW_TIMESCALE_URI"):
        get_artifact_repository(f"sha256+file://{tmp_path}/root")


@pytest.mark.parametrize(
    ("uri", "allowed"),
    [
        ("sha256+file:///srv/artifacts/1", True),
        ("sha256+file:///etc", False),
        ("sha256+file:///srv/artifacts/../../etc", False),
        ("sha256+http://elsewhere.example/x", False),
        ("sha256+hdfs://elsewhere.example/x", False),
    ],
)
def test_a_server_keeps_mlflows_rules_on_where_it_may_go(
    uri: str, allowed: bool, database: DatabaseURI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "mlflow-artifacts:/")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", "sha256+file:///srv/artifacts")
    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", database.url)
    if allowed:
        assert get_artifact_repository(uri).inner.artifact_dir == "/srv/artifacts/1"
    else:
        with pytest.raises(MlflowException, match=r"server does not (use|connect)"):
            get_artifact_repository(uri)


def test_a_wrapped_wrapper_is_refused(database: DatabaseURI) -> None:
    from mlflow_timescale.artifacts.opening import checked_repository

    with pytest.raises(MlflowException, match="cannot wrap"):
        checked_repository("sha256+timescaledb-artifacts:/1", database.url)
