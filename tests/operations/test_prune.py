"""`mlflow gc` and `artifacts prune` leave no bytes that nothing needs."""

from __future__ import annotations

import io
import json
import logging
import os
from pathlib import Path

import mlflow
import psycopg
import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.cli import gc
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_timescale import because
from mlflow_timescale.artifacts.in_database import InDatabaseRepository
from mlflow_timescale.cli import cli
from mlflow_timescale.db.uri import DatabaseURI

LARGE = 8 << 20


@pytest.fixture(params=["timescaledb-artifacts:/store", "sha256+file", "mlflow-artifacts:/"])
def root(request: pytest.FixtureRequest, database: DatabaseURI, tmp_path: Path) -> str:
    """An artifact root of each kind; the files of the last one are where a server puts them."""
    mlflow.set_tracking_uri(database.url)
    if request.param == "sha256+file":
        return f"sha256+file://{tmp_path}/root"
    return str(request.param)


@pytest.fixture
def experiment(root: str) -> str:
    return str(MlflowClient().create_experiment("gc", root))


def log(run_id: str, text: str, path: str, database: DatabaseURI) -> None:
    """Log a file; behind a proxy, as the server does."""
    uri = mlflow.get_run(run_id).info.artifact_uri
    if uri.startswith("mlflow-artifacts:"):
        uri = uri.replace("mlflow-artifacts:", "timescaledb-artifacts:")
    directory, _, name = path.rpartition("/")
    repository = get_artifact_repository(uri, database.url)
    repository.log_artifact_from_stream(_stream(text), name, directory or None)


def _stream(text: str) -> io.BytesIO:
    return io.BytesIO(text.encode())


def collect(database: DatabaseURI) -> None:
    result = CliRunner().invoke(gc, ["--backend-store-uri", database.url], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def prune(database: DatabaseURI, *arguments: str) -> Result:
    command = ["artifacts", "prune", "--uri", database.url, *arguments]
    return CliRunner().invoke(cli, command, catch_exceptions=False)


def left(conn: psycopg.Connection, tmp_path: Path) -> set[str]:
    """The names of files that are stored, anywhere."""
    stored = {row[0] for row in conn.execute("SELECT path FROM mlops.artifact_files")}
    on_disk = {str(file) for file in (tmp_path / "root").rglob("*") if file.is_file()}
    return {path.partition("/artifacts/")[2] for path in stored | on_disk}


@pytest.mark.slow
def test_gc_of_a_run_leaves_nothing(
    experiment: str, database: DatabaseURI, conn: psycopg.Connection, tmp_path: Path
) -> None:
    client = MlflowClient()
    run_id, other = (client.create_run(experiment).info.run_id for _ in range(2))
    for run in (run_id, other):
        log(run, "x" * 100, "a/b.txt", database)
    client.delete_run(run_id)
    collect(database)
    assert left(conn, tmp_path) == {"a/b.txt"}
    client.delete_run(other)
    collect(database)
    assert left(conn, tmp_path) == set()
    current = "SELECT count(*) FROM mlops.model_artifacts WHERE ended_at IS NULL"
    assert conn.execute(current).fetchone() == (0,)


@pytest.mark.slow
def test_gc_keeps_what_a_registered_version_needs_and_says_so(
    experiment: str,
    database: DatabaseURI,
    conn: psycopg.Connection,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = MlflowClient()
    run = client.create_run(experiment).info
    for path in ("model/w.txt", "model.txt", "notes.txt"):
        log(run.run_id, path, path, database)
    client.create_registered_model("m")
    client.create_model_version("m", f"{run.artifact_uri}/model", run.run_id)
    client.delete_run(run.run_id)
    with caplog.at_level(logging.WARNING):
        collect(database)
    assert left(conn, tmp_path) == {"model/w.txt"}
    assert "version m/1 needs them" in caplog.text
    downloaded = mlflow.artifacts.download_artifacts("models:/m/1")
    assert Path(downloaded, "w.txt").read_text() == "model/w.txt"
    assert "0 unreferenced files" in prune(database, "--dry-run").output
    client.delete_model_version("m", "1")
    assert "1 unreferenced files" in prune(database, "--dry-run").output
    assert left(conn, tmp_path) == {"model/w.txt"}
    assert prune(database, "--yes").exit_code == 0
    assert left(conn, tmp_path) == set()


@pytest.mark.slow
def test_gc_of_an_experiment_takes_its_models_and_traces_along(
    database: DatabaseURI, conn: psycopg.Connection, tmp_path: Path
) -> None:
    mlflow.set_tracking_uri(database.url)
    experiment = mlflow.set_experiment("x").experiment_id
    with mlflow.start_run():
        mlflow.log_text("f", "f.txt")
        model = mlflow.create_external_model(name="m")
    source = tmp_path / "w.txt"
    source.write_text("w")
    get_artifact_repository(f"models:/{model.model_id}").log_artifact(str(source))
    with mlflow.start_span("s"):
        pass
    mlflow.flush_trace_async_logging()
    MlflowClient().delete_experiment(experiment)
    collect(database)
    assert left(conn, tmp_path) == set()


@pytest.mark.slow
def test_deleted_traces_take_their_files_along(
    database: DatabaseURI, conn: psycopg.Connection, tmp_path: Path
) -> None:
    mlflow.set_tracking_uri(database.url)
    experiment = mlflow.set_experiment("x")
    for _ in range(2):
        with mlflow.start_span("s"):
            pass
    mlflow.flush_trace_async_logging()
    ids = [row[0] for row in conn.execute("SELECT request_id FROM trace_info").fetchall()]
    for trace_id in ids:
        place = f"{experiment.artifact_location}/traces/{trace_id}/artifacts"
        InDatabaseRepository(place, database).log_artifact_from_stream(_stream("{}"), "traces.json")
    client = MlflowClient()
    client.delete_traces(experiment.experiment_id, trace_ids=ids[:1])
    paths = [row[0] for row in conn.execute("SELECT path FROM mlops.artifact_files").fetchall()]
    assert paths
    assert not any(ids[0] in path for path in paths)
    assert any(ids[1] in path for path in paths)


@pytest.mark.slow
def test_one_file_that_a_version_needs_is_not_deleted_without_an_override(
    experiment: str, database: DatabaseURI, conn: psycopg.Connection, tmp_path: Path
) -> None:
    client = MlflowClient()
    run = client.create_run(experiment).info
    log(run.run_id, "w", "model/w.txt", database)
    client.create_registered_model("m")
    client.create_model_version("m", f"{run.artifact_uri}/model", run.run_id)
    repository = get_artifact_repository(run.artifact_uri, database.url)
    for path in ("model/w.txt", "model"):
        with pytest.raises(MlflowException, match="belongs to version m/1"):
            repository.delete_artifacts(path)
    with because("the bytes are wrong", override=True):
        repository.delete_artifacts("model")
    assert left(conn, tmp_path) == set()


def test_prune_gives_space_back(database: DatabaseURI, conn: psycopg.Connection) -> None:
    repository = InDatabaseRepository(f"timescaledb-artifacts:/1/{'a' * 32}/artifacts", database)
    repository.log_artifact_from_stream(_Random(LARGE), "large.bin")
    result = prune(database, "--yes", "--json")
    report = json.loads(result.stdout)
    assert list(report["deleted"].values()) == [LARGE]
    assert report["bytes"] > LARGE
    assert report["bytes_now"] < LARGE / 8


class _Random:
    """Bytes that nothing compresses."""

    def __init__(self, size: int) -> None:
        self.size = size

    def read(self, size: int) -> bytes:
        data = os.urandom(min(size, self.size))
        self.size -= len(data)
        return data


def test_a_place_that_no_ledger_knows_is_said_and_does_not_stop_gc(
    database: DatabaseURI, caplog: pytest.LogCaptureFixture
) -> None:
    mlflow.set_tracking_uri(database.url)
    client = MlflowClient()
    run = client.create_run(client.create_experiment("proxied", "mlflow-artifacts:/9")).info
    client.delete_run(run.run_id)
    with caplog.at_level(logging.WARNING):
        collect(database)
    assert "MLFLOW_ARTIFACTS_DESTINATION" in caplog.text
    with pytest.raises(MlflowException, match="not found"):
        client.get_run(run.run_id)
