"""The bytes of chosen artifacts after they were replaced or deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import mlflow
import psycopg
import pytest
from click.testing import CliRunner, Result
from mlflow.exceptions import MlflowException

from mlflow_timescale import artifact_at, artifact_versions, db
from mlflow_timescale.artifacts import removal, versions
from mlflow_timescale.artifacts.refusals import ArtifactMismatch
from mlflow_timescale.cli import cli
from mlflow_timescale.db.uri import DatabaseURI


@pytest.fixture
def client(shared_database: DatabaseURI) -> mlflow.MlflowClient:
    mlflow.set_tracking_uri(shared_database.url)
    return mlflow.MlflowClient(shared_database.url)


@pytest.fixture
def run(client: mlflow.MlflowClient) -> str:
    return str(client.create_run("0").info.run_id)


@pytest.fixture
def conn(shared_database: DatabaseURI) -> Iterator[psycopg.Connection]:
    with db.connect(shared_database, autocommit=True) as opened:
        yield opened


@pytest.fixture
def command(shared_database: DatabaseURI) -> Callable[..., Result]:
    def call(*words: str) -> Result:
        return CliRunner().invoke(cli, [*words, "--uri", shared_database.url])

    return call


def stored(conn: psycopg.Connection, text: str) -> bool:
    query = "SELECT EXISTS (SELECT FROM mlops.artifact_contents WHERE sha256 = sha256(%s))"
    [exists] = conn.execute(query, (text.encode(),)).fetchone() or [False]
    return bool(exists)


def test_replaced_and_deleted_bytes_of_chosen_paths_stay(
    client: mlflow.MlflowClient, run: str, shared_database: DatabaseURI, conn: psycopg.Connection
) -> None:
    client.log_text(run, "monday", "pred.pkl")
    client.log_text(run, "monday's note", "note.txt")
    monday = datetime.now(timezone.utc)
    client.log_text(run, "tuesday", "pred.pkl")
    client.log_text(run, "tuesday's note", "note.txt")
    tuesday = datetime.now(timezone.utc)
    removal.remove(shared_database, [client.get_run(run).info.artifact_uri])
    uri = shared_database.url
    assert artifact_at(uri, run, "pred.pkl", monday) == b"monday"
    assert artifact_at(uri, run, "pred.pkl", tuesday) == b"tuesday"
    first, second = artifact_versions(uri, run, "pred.pkl")
    assert (first.ended, second.ended) == ("replaced", "deleted")
    assert first.is_stored
    with pytest.raises(MlflowException, match=f"the ledger has no file pred.pkl of {run}"):
        artifact_at(uri, run, "pred.pkl", datetime.now(timezone.utc))
    with pytest.raises(MlflowException, match="are not in the database"):
        artifact_at(uri, run, "note.txt", monday)
    assert not stored(conn, "monday's note")


def test_the_deletion_of_a_run_says_what_it_keeps(
    client: mlflow.MlflowClient,
    run: str,
    shared_database: DatabaseURI,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client.log_text(run, "kept of a deleted run", "pred.pkl")
    removal.remove(shared_database, [client.get_run(run).info.artifact_uri])
    assert "1 former versions of deleted files are kept (21 bytes: pred.pkl)" in caplog.text


def test_equal_bytes_are_stored_once(
    client: mlflow.MlflowClient, run: str, conn: psycopg.Connection
) -> None:
    before = versions.former(conn)
    for text in ("same", "same", "other", "same"):
        client.log_text(run, text, "pred.pkl")
    after = versions.former(conn)
    assert after.versions - before.versions == 3
    assert after.size - before.size == len("other")


def test_a_version_is_fetched_and_listed(
    client: mlflow.MlflowClient, run: str, command: Callable[..., Result], tmp_path: Path
) -> None:
    client.log_text(run, "monday", "pred.pkl")
    monday = datetime.now(timezone.utc).isoformat()
    client.log_text(run, "tuesday", "pred.pkl")
    old, new = tmp_path / "old.pkl", tmp_path / "new.pkl"
    fetched = command("artifacts", "fetch", run, "pred.pkl", "--at", monday, "-o", str(old))
    assert "until" in fetched.output
    command("artifacts", "fetch", run, "pred.pkl", "-o", str(new))
    assert (old.read_text(), new.read_text()) == ("monday", "tuesday")
    listed = json.loads(command("artifacts", "history", run, "pred.pkl", "--json").output)
    assert [(each["ended"], each["is_stored"]) for each in listed] == [
        ("replaced", True),
        (None, True),
    ]


def test_damaged_bytes_are_refused(
    client: mlflow.MlflowClient, run: str, conn: psycopg.Connection, shared_database: DatabaseURI
) -> None:
    client.log_text(run, "before the damage", "pred.pkl")
    moment = datetime.now(timezone.utc)
    client.log_text(run, "after", "pred.pkl")
    [version, _] = artifact_versions(shared_database.url, run, "pred.pkl")
    conn.execute(
        "UPDATE mlops.artifact_chunks SET data = 'x' WHERE content_id = %s", (version.content_id,)
    )
    with pytest.raises(ArtifactMismatch):
        artifact_at(shared_database.url, run, "pred.pkl", moment)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("pred.pkl", "pred.pkl", True),
        ("pred.pkl", "old/pred.pkl", False),
        ("*pred.pkl", "old/pred.pkl", True),
        ("sig_a?.csv", "sig_a1.csv", True),
        ("sig_a?.csv", "sigxa1.csv", False),
        ("100%.txt", "100x.txt", False),
        ("100%.txt", "100%.txt", True),
        (r"a\b*", r"a\bc", True),
    ],
)
def test_a_pattern_has_stars_and_question_marks(
    conn: psycopg.Connection, pattern: str, path: str, matches: bool
) -> None:
    query = r"SELECT %s LIKE mlops.like_pattern(%s) ESCAPE '\'"
    assert conn.execute(query, (path, pattern)).fetchone() == (matches,)


def test_other_paths_are_chosen_and_former_versions_freed(
    client: mlflow.MlflowClient, run: str, command: Callable[..., Result], conn: psycopg.Connection
) -> None:
    assert "is kept" in command("history", "keep-path", "signals/*").output
    client.log_text(run, "first signals", "signals/a.csv")
    client.log_text(run, "second signals", "signals/a.csv")
    assert stored(conn, "first signals")
    command("history", "keep-path", "signals/*", "--remove")
    client.log_text(run, "third signals", "signals/a.csv")
    assert stored(conn, "first signals")
    assert not stored(conn, "second signals")
    shown = command("artifacts", "prune", "--dry-run", "--former", "1h")
    assert "former versions are kept" in shown.output
    assert stored(conn, "first signals")
    command("artifacts", "prune", "--yes")
    assert stored(conn, "first signals")
    assert (
        "former versions to free" in command("artifacts", "prune", "--yes", "--former", "0s").output
    )
    assert not stored(conn, "first signals")
    assert stored(conn, "third signals")
    assert versions.former(conn) == (0, 0)
