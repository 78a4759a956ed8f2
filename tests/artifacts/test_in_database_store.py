"""`timescaledb-artifacts:`: what is logged comes back, checked, and nothing else does."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import psycopg
import pytest
from matplotlib.figure import Figure
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_timescale.artifacts.checks import ArtifactMismatch
from mlflow_timescale.artifacts.contents import CHUNK
from mlflow_timescale.artifacts.in_database import InDatabaseRepository
from mlflow_timescale.db.uri import DatabaseURI

FLIP_SECOND_CHUNK = (
    "UPDATE mlops.artifact_chunks SET data = set_byte(data, 0, get_byte(data, 0) # 1) "
    "WHERE number = 1"
)


@pytest.fixture
def repository(database: DatabaseURI) -> InDatabaseRepository:
    return InDatabaseRepository("timescaledb-artifacts:/1/run/artifacts", database)


def test_a_tree_comes_back_as_it_was(
    toolbox: Any, repository: InDatabaseRepository, files: Path, tmp_path: Path
) -> None:
    repository.log_artifacts(str(files))
    target = tmp_path / "back"
    target.mkdir()
    assert repository.download_artifacts("", str(target)) == str(target)
    assert toolbox.contents_of(target) == toolbox.contents_of(files)


def test_a_directory_and_a_file_can_be_downloaded_alone(
    toolbox: Any, repository: InDatabaseRepository, files: Path
) -> None:
    repository.log_artifacts(str(files), "here")
    directory = Path(repository.download_artifacts("here/model"))
    assert toolbox.contents_of(directory) == toolbox.contents_of(files / "model")
    assert (
        Path(repository.download_artifacts("here/model/weights.bin")).read_bytes() == toolbox.large
    )


def test_listing_shows_directories_and_sizes(repository: InDatabaseRepository, files: Path) -> None:
    repository.log_artifacts(str(files))
    listed = [(item.path, item.is_dir, item.file_size) for item in repository.list_artifacts()]
    assert listed == [("empty.txt", False, 0), ("model", True, None)]
    below = [item.path for item in repository.list_artifacts("model")]
    assert below == ["model/deep", "model/weights.bin"]
    assert repository.list_artifacts("model/weights.bin") == []


def test_the_same_bytes_are_kept_once(
    repository: InDatabaseRepository, files: Path, conn: psycopg.Connection
) -> None:
    repository.log_artifacts(str(files), "one")
    repository.log_artifacts(str(files), "two")
    counts = "SELECT (SELECT count(*) FROM mlops.{0}) FROM (VALUES (1)) AS one"
    stored = [
        conn.execute(counts.format(table)).fetchone()[0]
        for table in ("artifact_files", "artifact_contents", "artifact_chunks")
    ]
    assert stored == [8, 3, 4]


def test_the_ledger_has_checksum_size_type_and_owner(
    database: DatabaseURI, conn: psycopg.Connection
) -> None:
    mlflow.set_tracking_uri(database.url)
    with mlflow.start_run() as run:
        mlflow.log_text("alpha", "notes/a.txt")
        mlflow.log_dict({"a": 1}, "b.json")
        mlflow.log_figure(Figure(), "c.png")
        mlflow.log_image(np.zeros((2, 2, 3), np.uint8), "d.png")
        mlflow.log_table({"ic": [0.1]}, "e.json")
        mlflow.log_table({"ic": [0.2]}, "e.json")  # reads the table, adds to it, logs it again
    rows = conn.execute(
        "SELECT run_id, artifact_path, artifact_type, checksum, size_bytes, origin, ended_at "
        "FROM mlops.model_artifacts WHERE ended_at IS NULL ORDER BY artifact_path"
    ).fetchall()
    run_id = run.info.run_id
    assert rows[-1] == (
        run_id,
        "notes/a.txt",
        "config",
        hashlib.sha256(b"alpha").hexdigest(),
        5,
        "logged",
        None,
    )
    paths = ["b.json", "c.png", "d.png", "e.json", "notes/a.txt"]
    assert [row[1] for row in rows] == paths


def test_logging_a_path_again_keeps_the_old_row_as_history(
    repository: InDatabaseRepository, conn: psycopg.Connection
) -> None:
    for text in (b"first", b"second"):
        repository.log_artifact_from_stream(io.BytesIO(text), "a.txt")
    rows = conn.execute(
        "SELECT checksum, ended FROM mlops.model_artifacts ORDER BY artifact_id"
    ).fetchall()
    digests = [hashlib.sha256(text).hexdigest() for text in (b"first", b"second")]
    assert rows == [(digests[0], "replaced"), (digests[1], None)]
    assert Path(repository.download_artifacts("a.txt")).read_bytes() == b"second"
    assert conn.execute("SELECT count(*) FROM mlops.artifact_contents").fetchone() == (1,)


@pytest.mark.parametrize("path", ["model/weights.bin", "model", ""])
def test_one_flipped_byte_is_refused_and_leaves_nothing_behind(
    toolbox: Any,
    path: str,
    repository: InDatabaseRepository,
    files: Path,
    tmp_path: Path,
    conn: psycopg.Connection,
) -> None:
    repository.log_artifacts(str(files))
    conn.execute(FLIP_SECOND_CHUNK)
    target = tmp_path / "back"
    target.mkdir()
    with pytest.raises(ArtifactMismatch) as refused:
        repository.download_artifacts(path, str(target))
    assert "model/weights.bin" in refused.value.message
    assert hashlib.sha256(toolbox.large).hexdigest() in refused.value.message
    assert refused.value.error_code == "DATA_LOSS"
    assert list(target.iterdir()) == []
    recorded = conn.execute("SELECT purpose, outcome FROM mlops.artifact_checks").fetchall()
    assert recorded == [("download", "mismatch")]


def test_a_truncated_file_is_refused(
    repository: InDatabaseRepository, files: Path, conn: psycopg.Connection
) -> None:
    repository.log_artifacts(str(files))
    conn.execute("DELETE FROM mlops.artifact_chunks WHERE number = 2")
    with pytest.raises(ArtifactMismatch, match="not what was logged"):
        repository.download_artifacts("model/weights.bin")


def test_a_swapped_file_is_refused(
    repository: InDatabaseRepository, files: Path, conn: psycopg.Connection
) -> None:
    repository.log_artifacts(str(files))
    conn.execute(
        "UPDATE mlops.artifact_files SET content_id = "
        "(SELECT content_id FROM mlops.artifact_files WHERE path LIKE '%weights.bin') "
        "WHERE path LIKE '%a.json'"
    )
    with pytest.raises(ArtifactMismatch, match=r"a\.json"):
        repository.download_artifacts("model/deep/a.json")


def test_a_range_is_read_and_checked_chunk_by_chunk(
    toolbox: Any, repository: InDatabaseRepository, files: Path, conn: psycopg.Connection
) -> None:
    repository.log_artifacts(str(files))
    path = "model/weights.bin"
    for start, length in [(0, 5), (CHUNK - 3, 9), (2 * CHUNK, None), (len(toolbox.large) + 1, 4)]:
        end = None if length is None else start + length
        assert repository.read(path, start, length) == toolbox.large[start:end]
    conn.execute(FLIP_SECOND_CHUNK)
    assert repository.read(path, 0, 10) == toolbox.large[:10]
    with pytest.raises(ArtifactMismatch, match="chunk 1"):
        repository.read(path, CHUNK, 10)


def test_deleting_frees_bytes_with_their_last_reference(
    repository: InDatabaseRepository, files: Path, conn: psycopg.Connection
) -> None:
    repository.log_artifacts(str(files))
    repository.delete_artifacts("model/deep/a.json")
    assert Path(repository.download_artifacts("model/deep/b.json")).read_bytes() == b"{}"
    repository.delete_artifacts()
    left = conn.execute(
        "SELECT (SELECT count(*) FROM mlops.artifact_chunks), "
        "(SELECT count(*) FROM mlops.artifact_contents), "
        "(SELECT count(*) FROM mlops.model_artifacts WHERE ended = 'deleted')"
    ).fetchone()
    assert left == (0, 0, 4)
    with pytest.raises(MlflowException, match="No such artifact"):
        repository.download_artifacts("model/deep/b.json")


@pytest.mark.slow
def test_a_writer_killed_half_way_leaves_nothing_visible(
    database: DatabaseURI, conn: psycopg.Connection
) -> None:
    script = f"""
        import os
        from mlflow_timescale.artifacts.in_database import InDatabaseRepository
        from mlflow_timescale.db.uri import DatabaseURI

        class Half:
            left = 5
            def read(self, size):
                self.left -= 1
                if self.left == 0:
                    os.kill(os.getpid(), 9)
                return os.urandom(size)

        repository = InDatabaseRepository(
            "timescaledb-artifacts:/1/run/artifacts", DatabaseURI.parse({database.url!r}))
        repository.log_artifact_from_stream(Half(), "model.bin")
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert killed.returncode == -9
    counts = conn.execute(
        "SELECT (SELECT count(*) FROM mlops.artifact_files), "
        "(SELECT count(*) FROM mlops.artifact_contents), "
        "(SELECT count(*) FROM mlops.artifact_chunks), "
        "(SELECT count(*) FROM mlops.model_artifacts)"
    ).fetchone()
    assert counts == (0, 0, 0, 0)


@pytest.mark.slow
def test_writers_and_deleters_of_the_same_bytes_never_lose_a_file(
    toolbox: Any, database: DatabaseURI, conn: psycopg.Connection
) -> None:
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            mine = InDatabaseRepository(f"timescaledb-artifacts:/{number}/artifacts", database)
            for _ in range(15):
                mine.log_artifact_from_stream(io.BytesIO(b"shared"), "small.txt")
                mine.log_artifact_from_stream(io.BytesIO(toolbox.large), "large.bin")
                assert Path(mine.download_artifacts("small.txt")).read_bytes() == b"shared"
                mine.delete_artifacts()
            mine.log_artifact_from_stream(io.BytesIO(toolbox.large), "large.bin")
        except Exception as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for number in range(4):
        mine = InDatabaseRepository(f"timescaledb-artifacts:/{number}/artifacts", database)
        assert mine.read("large.bin") == toolbox.large
    assert conn.execute("SELECT count(*) FROM mlops.artifact_contents").fetchone() == (1,)


@pytest.mark.parametrize(
    "uri", ["timescaledb-artifacts://other.host/db", "timescaledb-artifacts:/x?database=other"]
)
def test_a_uri_cannot_name_a_database(uri: str, database: DatabaseURI) -> None:
    with pytest.raises(MlflowException, match="consist of a path only"):
        InDatabaseRepository(uri, database)


@pytest.mark.parametrize("path", ["../other", "a/../../b"])
def test_a_path_cannot_leave_the_repository(path: str, repository: InDatabaseRepository) -> None:
    with pytest.raises(MlflowException, match="nvalid"):
        repository.log_artifact_from_stream(io.BytesIO(b"x"), "a.txt", path)
    with pytest.raises(MlflowException, match="invalid artifact path"):
        repository.download_artifacts(path)


def test_the_database_is_the_default_artifact_root(database: DatabaseURI) -> None:
    mlflow.set_tracking_uri(database.url)
    experiment = mlflow.get_experiment(mlflow.create_experiment("alpha"))
    assert experiment.artifact_location.startswith("timescaledb-artifacts:/")
    repository = get_artifact_repository(experiment.artifact_location, database.url)
    assert isinstance(repository, InDatabaseRepository)
    assert repository.database == database


def test_a_model_is_logged_and_loaded_through_the_database(
    tracking: DatabaseURI, conn: psycopg.Connection, toolbox: Any
) -> None:
    with mlflow.start_run():
        logged = toolbox.log_model()
    assert mlflow.pyfunc.load_model(logged.model_uri).predict([3.0]) == [6.0]
    known = conn.execute(
        "SELECT count(*) FROM mlops.model_artifacts WHERE model_id = %s", [logged.model_id]
    ).fetchone()
    assert known[0] >= 5
    toolbox.flip_stored_byte(conn, "python_model.pkl")
    with pytest.raises(MlflowException, match="not what was logged"):
        mlflow.pyfunc.load_model(logged.model_uri)


def test_downloads_through_a_run_name_the_refused_file(
    tracking: DatabaseURI, conn: psycopg.Connection, toolbox: Any, tmp_path: Path
) -> None:
    with mlflow.start_run() as run:
        mlflow.log_text("alpha", "note.txt")
        toolbox.log_model()
    run_id = run.info.run_id
    whole = mlflow.artifacts.download_artifacts(run_id=run_id, dst_path=str(tmp_path))
    assert "note.txt" in toolbox.contents_of(Path(whole))
    model = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/model")
    assert "MLmodel" in toolbox.contents_of(Path(model))
    with pytest.raises(MlflowException, match="please ensure that the path is correct"):
        mlflow.artifacts.download_artifacts(f"runs:/{run_id}/nothing")
    toolbox.flip_stored_byte(conn, "note.txt")
    toolbox.flip_stored_byte(conn, "MLmodel")
    for path in ("note.txt", "model", ""):
        with pytest.raises(ArtifactMismatch, match="not what was logged"):
            mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path)
