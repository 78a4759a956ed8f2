"""Every way an artifact can take ends in the ledger: server proxy, UI, gc."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import psycopg
import pytest
import requests
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from support.servers import mlflow_server

from mlflow_timescale import because
from mlflow_timescale.cli import cli
from mlflow_timescale.db.uri import DatabaseURI

pytestmark = pytest.mark.server


@contextmanager
def tracking_server(database: DatabaseURI, directory: Path, *arguments: str) -> Iterator[str]:
    """The URL of an `mlflow server` on the database."""
    options = ("--workers", "1", "--backend-store-uri", database.url, *arguments)
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log_file = directory / "server.log"
    with mlflow_server(*options, log_file=log_file, environment=environment) as server:
        yield server.url


def locations(conn: psycopg.Connection) -> set[str]:
    rows = conn.execute("SELECT location FROM mlops.model_artifacts WHERE ended_at IS NULL")
    return {row[0] for row in rows}


@pytest.fixture
def proxied(database: DatabaseURI, tmp_path: Path) -> Iterator[str]:
    """A server whose clients' artifacts go to the database."""
    destination = ("--artifacts-destination", "timescaledb-artifacts:/")
    with tracking_server(database, tmp_path, *destination) as url:
        mlflow.set_tracking_uri(url)
        mlflow.set_registry_uri(None)
        yield url


@pytest.mark.slow
def test_a_client_of_the_server_reaches_the_ledger_and_is_checked(
    proxied: str,
    database: DatabaseURI,
    conn: psycopg.Connection,
    toolbox: Any,
    tmp_path: Path,
    files: Path,
) -> None:
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(files), "tree")
        mlflow.log_text("alpha", "note.txt")
        logged = toolbox.log_model(registered_model_name="momentum")
    root = f"timescaledb-artifacts:/0/{run.info.run_id}/artifacts"
    assert {f"{root}/note.txt", f"{root}/tree/model/weights.bin"} <= locations(conn)
    owners = conn.execute("SELECT DISTINCT model_id FROM mlops.model_artifacts").fetchall()
    assert (logged.model_id,) in owners
    assert mlflow.pyfunc.load_model(logged.model_uri).predict([1.0]) == [2.0]

    # The requests of the UI.
    listing = requests.get(
        f"{proxied}/ajax-api/2.0/mlflow/artifacts/list", {"run_id": run.info.run_id}, timeout=30
    ).json()
    assert {"note.txt", "tree"} <= {item["path"] for item in listing["files"]}
    preview = {"run_uuid": run.info.run_id, "path": "note.txt"}
    assert requests.get(f"{proxied}/get-artifact", preview, timeout=30).text == "alpha"

    # Damage is refused by every one of them.
    toolbox.flip_stored_byte(conn, "note.txt")
    toolbox.flip_stored_byte(conn, f"{logged.model_id}/artifacts/python_model.pkl")
    refused = requests.get(f"{proxied}/get-artifact", preview, timeout=30)
    assert refused.status_code == 409
    assert "not what was logged" in refused.json()["message"]
    with pytest.raises(MlflowException, match="not what was logged"):
        mlflow.pyfunc.load_model(logged.model_uri)
    with pytest.raises(MlflowException, match="not what was logged"):
        mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="note.txt")
    mlflow.set_tracking_uri(database.url)
    with pytest.raises(MlflowException, match="cannot become"):
        MlflowClient(proxied, proxied).set_registered_model_alias("momentum", "champion", "1")
    with because("\u7d27\u6025 \u2014 only the README differs", override=True):
        MlflowClient(proxied, proxied).set_registered_model_alias("momentum", "champion", "1")
    command = ["registry", "history", "--uri", database.url, "momentum", "champion", "--json"]
    (moved,) = json.loads(CliRunner().invoke(cli, command).stdout)
    assert moved["reason"] == "\u7d27\u6025 \u2014 only the README differs"
    assert moved["mlflow_user"] == getpass.getuser()
    assert moved["detail"] == {"override": True}
    who = conn.execute("SELECT DISTINCT mlflow_user FROM mlops.model_artifacts").fetchall()
    assert who == [(getpass.getuser(),)]


@pytest.mark.slow
def test_a_direct_experiment_is_reached_through_the_server_too(
    database: DatabaseURI, proxied: str, conn: psycopg.Connection
) -> None:
    direct = MlflowClient(database.url, database.url)
    experiment = direct.create_experiment("direct")
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_text("alpha", "note.txt")
    assert run.info.artifact_uri.startswith("timescaledb-artifacts:/")
    assert f"{run.info.artifact_uri}/note.txt" in locations(conn)
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/note.txt") == "alpha"


@pytest.mark.slow
def test_a_server_wraps_a_directory_and_gc_removes_what_was_deleted(
    database: DatabaseURI, tmp_path: Path, conn: psycopg.Connection, toolbox: Any
) -> None:
    store = f"sha256+file://{tmp_path}/store"
    with tracking_server(database, tmp_path, "--artifacts-destination", store) as url:
        mlflow.set_tracking_uri(url)
        with mlflow.start_run() as run:
            mlflow.log_text("alpha", "note.txt")
        (stored,) = (tmp_path / "store").rglob("note.txt")
        assert locations(conn) == {f"file://{stored}"}
        preview = {"run_uuid": run.info.run_id, "path": "note.txt"}
        assert requests.get(f"{url}/get-artifact", preview, timeout=30).text == "alpha"
        toolbox.flip_byte_on_disk(stored)
        refused = requests.get(f"{url}/get-artifact", preview, timeout=30)
        assert refused.status_code == 409
        MlflowClient(url).delete_run(run.info.run_id)
        collect_garbage(database, "--tracking-uri", url)
    assert not stored.exists()
    assert locations(conn) == set()


PART = 5 << 20  # S3 takes no smaller ones, except for the last


def multipart(url: str, step: str, path: str, **values: Any) -> dict[str, Any]:
    directory, _, name = path.rpartition("/")
    answer = requests.post(
        f"{url}/api/2.0/mlflow-artifacts/mpu/{step}/{directory}",
        json={"path": name, **values},
        timeout=60,
    )
    assert answer.ok, answer.text
    return answer.json()


@pytest.mark.slow
def test_multipart_uploads_through_a_server_are_in_the_ledger_when_they_are_complete(
    database: DatabaseURI,
    tmp_path: Path,
    conn: psycopg.Connection,
    s3: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = "sha256+s3://models/root"
    with tracking_server(database, tmp_path, "--artifacts-destination", store) as url:
        mlflow.set_tracking_uri(url)
        with mlflow.start_run() as run:
            path = f"{run.info.artifact_uri.removeprefix('mlflow-artifacts:/')}/big.bin"
            begun = multipart(url, "create", path, num_parts=2)
            parts = [os.urandom(PART), b"the rest"]
            for data, part in zip(parts, begun["credentials"], strict=True):
                part["etag"] = requests.put(part["url"], data=data, timeout=60).headers["ETag"]
            assert locations(conn) == set()
            assert MlflowClient().list_artifacts(run.info.run_id) == []
            done = [
                {"part_number": part["part_number"], "etag": part["etag"], "url": part["url"]}
                for part in begun["credentials"]
            ]
            multipart(url, "complete", path, upload_id=begun["upload_id"], parts=done)
            ledger = "SELECT location, checksum, origin FROM mlops.model_artifacts"
            expected = hashlib.sha256(b"".join(parts)).hexdigest()
            assert conn.execute(ledger).fetchall() == [
                (f"s3://models/root/{path}", expected, "read back")
            ]

            given_up = multipart(url, "create", f"{path}.2", num_parts=1)
            requests.put(given_up["credentials"][0]["url"], data=b"half", timeout=60)
            multipart(url, "abort", f"{path}.2", upload_id=given_up["upload_id"])
            assert [item.path for item in MlflowClient().list_artifacts(run.info.run_id)] == [
                "big.bin"
            ]
            assert len(locations(conn)) == 1

            # MLflow's own client, for which such a file is large.
            monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", str(PART))
            monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", str(PART))
            (tmp_path / "own.bin").write_bytes(parts[0] + b"more")
            mlflow.log_artifact(str(tmp_path / "own.bin"))
            who = "SELECT origin, mlflow_user FROM mlops.model_artifacts WHERE location LIKE %s"
            assert conn.execute(who, ["%own.bin"]).fetchone() == ("read back", getpass.getuser())
            s3.put_object(Bucket="models", Key=f"root/{path}", Body=b"swapped")
            with pytest.raises(MlflowException, match="not what was logged"):
                mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="big.bin")


@pytest.mark.slow
def test_a_client_that_insists_on_parts_falls_back_to_one_stream_into_the_database(
    proxied: str, conn: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", str(PART))
    data = os.urandom(PART + 1)
    (tmp_path / "big.bin").write_bytes(data)
    with mlflow.start_run():
        mlflow.log_artifact(str(tmp_path / "big.bin"))
    row = conn.execute("SELECT checksum, origin FROM mlops.model_artifacts").fetchone()
    assert row == (hashlib.sha256(data).hexdigest(), "logged")


def collect_garbage(database: DatabaseURI, *arguments: str) -> None:
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", database.url]
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    subprocess.run([*command, *arguments], check=True, env=environment, capture_output=True)


@pytest.mark.slow
def test_gc_frees_the_bytes_of_deleted_runs_and_keeps_shared_ones(
    tracking: DatabaseURI, conn: psycopg.Connection
) -> None:
    runs = []
    for text in ("shared", "shared", "own"):
        with mlflow.start_run() as run:
            mlflow.log_text(text, "note.txt")
        runs.append(run.info)
    client = MlflowClient()
    client.delete_run(runs[0].run_id)
    client.delete_run(runs[2].run_id)
    collect_garbage(tracking, "--tracking-uri", tracking.url)
    assert locations(conn) == {f"{runs[1].artifact_uri}/note.txt"}
    assert conn.execute("SELECT count(*) FROM mlops.artifact_contents").fetchone() == (1,)
    assert mlflow.artifacts.load_text(f"{runs[1].artifact_uri}/note.txt") == "shared"
