"""A registered version keeps its bytes; one rule decides whose a file is."""

from __future__ import annotations

import asyncio
import io
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import mlflow
import psycopg
import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_timescale import ModelRegistry, because, db
from mlflow_timescale.artifacts import ledger, verify
from mlflow_timescale.artifacts.databases import connection
from mlflow_timescale.artifacts.hashing import FileDigest
from mlflow_timescale.artifacts.ledger import Selection
from mlflow_timescale.artifacts.locations import owner
from mlflow_timescale.artifacts.refusals import ArtifactFrozen
from mlflow_timescale.artifacts.verify import selection_of
from mlflow_timescale.db.uri import DatabaseURI


@pytest.fixture(scope="module")
def shared(new_database: Any) -> Iterator[DatabaseURI]:
    """One database for all versions: a test has a model of its own."""
    with new_database() as uri:
        yield uri


@pytest.fixture
def plain_sql(shared: DatabaseURI) -> Iterator[psycopg.Connection]:
    with db.connect(shared, autocommit=True) as conn:
        yield conn


@pytest.fixture(params=["timescaledb-artifacts:/frozen", "sha256+file", "sha256+s3"])
def version(
    request: pytest.FixtureRequest, shared: DatabaseURI, tmp_path_factory: pytest.TempPathFactory
) -> ModelVersion:
    """A version of a new model with the files w.txt and deep/x.txt."""
    mlflow.set_tracking_uri(shared.url)
    root = request.param
    if root == "sha256+file":
        root = f"sha256+file://{tmp_path_factory.mktemp('root')}"
    elif root == "sha256+s3":
        request.getfixturevalue("s3")
        root = "sha256+s3://models/root"
    return register(root)


@pytest.fixture
def stored(shared: DatabaseURI) -> ModelVersion:
    """The same in the database."""
    mlflow.set_tracking_uri(shared.url)
    return register(None)


def register(root: str | None) -> ModelVersion:
    client, name = MlflowClient(), uuid.uuid4().hex
    run = client.create_run(client.create_experiment(name, root)).info
    client.log_text(run.run_id, "good", "model/w.txt")
    client.log_text(run.run_id, "deep", "model/deep/x.txt")
    client.create_registered_model(name)
    return client.create_model_version(name, f"{run.artifact_uri}/model", run.run_id)


def files_of(version: ModelVersion) -> dict[str, str]:
    directory = Path(mlflow.artifacts.download_artifacts(f"models:/{version.name}/1"))
    return {
        file.relative_to(directory).as_posix(): file.read_text()
        for file in directory.rglob("*")
        if file.is_file()
    }


GOOD = {"w.txt": "good", "deep/x.txt": "deep"}


def test_other_bytes_new_files_and_deletions_are_refused(version: ModelVersion) -> None:
    client, run_id = MlflowClient(), version.run_id
    repository = get_artifact_repository(mlflow.get_run(run_id).info.artifact_uri)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"evil"

    attempts = (
        lambda: client.log_text(run_id, "evil", "model/w.txt"),
        lambda: client.log_text(run_id, "new", "model/new.txt"),
        lambda: client.log_text(run_id, "new", "model/deep/er/new.txt"),
        lambda: repository.log_artifact_from_stream(io.BytesIO(b"evil"), "w.txt", "model"),
        lambda: asyncio.run(repository.log_artifact_from_async_stream(chunks(), "w.txt", "model")),
        lambda: repository.delete_artifacts("model/w.txt"),
        lambda: repository.delete_artifacts("model"),
    )
    for attempt in attempts:
        with pytest.raises(ArtifactFrozen, match=f"version {version.name}/1") as refused:
            attempt()
        assert refused.value.get_http_status_code() == 409
    repository.delete_artifacts()  # as gc does: what the version needs stays
    assert files_of(version) == GOOD


def test_the_same_bytes_and_files_elsewhere_are_accepted(
    version: ModelVersion, tmp_path: Path
) -> None:
    client = MlflowClient()
    client.log_text(version.run_id, "good", "model/w.txt")
    for path in ("notes.txt", "model.txt", "model2/w.txt"):
        client.log_text(version.run_id, path, path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "w.txt").write_text("good")
    (tmp_path / "deep" / "x.txt").write_text("deep")
    client.log_artifacts(version.run_id, str(tmp_path), "model")
    assert files_of(version) == GOOD


def test_an_override_changes_the_version_on_the_record(
    version: ModelVersion, shared: DatabaseURI
) -> None:
    with because("the scaler was wrong", override=True):
        MlflowClient().log_text(version.run_id, "better", "model/w.txt")
        MlflowClient().log_text(version.run_id, "new", "model/new.txt")
    assert files_of(version) == {**GOOD, "w.txt": "better", "new.txt": "new"}
    state = ModelRegistry(shared).history(version.name, kind="version")[-1]
    assert (state.reason, state.detail["override"]) == ("the scaler was wrong", True)
    assert state.detail["file"] == "new.txt"
    assert state.mlflow_user
    with pytest.raises(ArtifactFrozen):
        MlflowClient().log_text(version.run_id, "evil", "model/w.txt")


def test_a_version_without_files_is_frozen_by_its_first_alias(shared: DatabaseURI) -> None:
    registry, name = ModelRegistry(shared), uuid.uuid4().hex
    model_id = registry.register_model(name)
    registry.client.log_text(model_id.hex, "first", "w.txt")
    registry.client.log_text(model_id.hex, "second", "w.txt")
    registry.set_alias(name, "candidate", 1)
    with pytest.raises(ArtifactFrozen):
        registry.client.log_text(model_id.hex, "third", "w.txt")


def test_a_redirected_version_is_not_loaded_not_promoted_and_in_the_history(
    stored: ModelVersion, shared: DatabaseURI, plain_sql: psycopg.Connection
) -> None:
    client = MlflowClient()
    evil = client.create_run("0").info
    client.log_text(evil.run_id, "evil", "model/w.txt")
    plain_sql.execute(
        "UPDATE model_versions SET storage_location = %s WHERE name = %s",
        [f"{evil.artifact_uri}/model", stored.name],
    )
    with pytest.raises(MlflowException, match="not what was registered"):
        files_of(stored)
    with pytest.raises(MlflowException, match="not what was registered"):
        client.set_registered_model_alias(stored.name, "champion", "1")
    with pytest.raises(psycopg.errors.RaiseException, match="did not verify"):
        plain_sql.execute(
            "INSERT INTO registered_model_aliases (workspace, name, alias, version) "
            "VALUES ('default', %s, 'champion', 1)",
            [stored.name],
        )
    report = verify.audit(shared, Selection())
    outcomes = [check.outcome for check in report.failures if stored.name in check.detail]
    assert sorted(outcomes) == ["mismatch", "missing"]
    states = ModelRegistry(shared).history(stored.name, kind="version")
    assert [state.detail["storage_location"] for state in states] == [
        stored.source,
        f"{evil.artifact_uri}/model",
    ]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE mlops.model_artifacts SET checksum = repeat('0', 64) WHERE run_id = %s",
        "DELETE FROM mlops.model_artifacts WHERE run_id = %s",
        "UPDATE mlops.model_artifacts SET ended_at = now(), ended = 'deleted' WHERE run_id = %s",
    ],
)
def test_plain_sql_does_not_change_the_ledger_of_a_version(
    change: str, stored: ModelVersion, plain_sql: psycopg.Connection
) -> None:
    with pytest.raises(psycopg.Error, match="belongs to version") as refused:
        plain_sql.execute(change, [stored.run_id])
    assert refused.value.sqlstate == "ML409"
    assert files_of(stored) == GOOD


def test_a_renamed_model_keeps_its_files_and_a_deleted_version_frees_them(
    stored: ModelVersion,
) -> None:
    client, renamed = MlflowClient(), uuid.uuid4().hex
    client.rename_registered_model(stored.name, renamed)
    with pytest.raises(ArtifactFrozen, match=f"version {renamed}/1"):
        client.log_text(stored.run_id, "evil", "model/w.txt")
    client.delete_model_version(renamed, "1")
    client.log_text(stored.run_id, "other", "model/w.txt")


def test_a_newer_client_works_before_the_migration(database: DatabaseURI, tmp_path: Path) -> None:
    with db.connect(database, autocommit=True) as conn:
        conn.execute("DROP TRIGGER mlops_freeze ON mlops.model_artifacts")
        conn.execute("DROP TRIGGER mlops_files ON model_versions")
        conn.execute("DROP VIEW mlops.version_failures, mlops.version_changes")
        conn.execute("DROP TABLE mlops.version_files")
    mlflow.set_tracking_uri(database.url)
    for root in (None, f"sha256+file://{tmp_path}"):
        assert files_of(register(root)) == GOOD
    assert verify.audit(database, Selection()).passed


def test_truncate_ends_the_histories(database: DatabaseURI) -> None:
    mlflow.set_tracking_uri(database.url)
    registry = ModelRegistry(database)
    registry.register_model("m", "momentum")
    registry.set_alias("m", "live", 1)
    with db.connect(database, autocommit=True) as conn:
        conn.execute("TRUNCATE registered_models CASCADE")
    states = registry.history("m")
    assert {state.kind for state in states} == {"model", "version", "stage", "alias", "tag"}
    assert all(state.ended == "deleted" for state in states)
    assert {state.ended_reason for state in states} == {"TRUNCATE"}


RUN, OTHER, MODEL = "a" * 32, "b" * 32, "m-" + "c" * 32
LOCATIONS = [
    f"timescaledb-artifacts:/1/{RUN}/artifacts/w.txt",
    f"timescaledb-artifacts:/1/{RUN}/artifacts/models/{MODEL}/artifacts/evil.txt",
    f"timescaledb-artifacts:/1/{RUN}/artifacts/{OTHER}/artifacts/x",
    f"s3://bucket/1/models/{MODEL}/artifacts/MLmodel",
    f"s3://bucket/1/models/{MODEL}/artifacts/{RUN}/artifacts/x",
    f"s3://bucket/1/{MODEL}/artifacts/MLmodel",
    f"file:///data/{RUN}/artifacts/two\nlines",
    f"timescaledb-artifacts:/1/{RUN.upper()}/artifacts/w.txt",
    "s3://bucket/somewhere/else",
    f"s3://bucket/{RUN}/other/artifacts/x",
]
SOURCES = [
    f"timescaledb-artifacts:/1/{RUN}/artifacts",
    f"timescaledb-artifacts:/1/{RUN}/artifacts/models/{MODEL}/artifacts",
    f"mlflow-artifacts:/1/{RUN}/artifacts/{OTHER}",
    f"models:/{MODEL}",
    f"models:/{MODEL}/{RUN}",
    f"runs:/{RUN}",
    f"runs:/{RUN}/models",
    f"sha256+s3://bucket/1/models/{MODEL}/artifacts/",
    "s3://bucket/somewhere",
    "sha256+s3://bucket/somewhere/else",
    "s3://bucket/some",
]


def test_sql_and_python_agree_on_the_owner_of_a_file(
    shared: DatabaseURI, plain_sql: psycopg.Connection
) -> None:
    with connection(shared) as conn:
        ledger.record(conn, [(location, FileDigest.of(b"x")) for location in LOCATIONS])
    rows = plain_sql.execute(
        "SELECT location, run_id, model_id, artifact_path FROM mlops.model_artifacts "
        "WHERE ended_at IS NULL AND location = ANY(%s)",
        [LOCATIONS],
    ).fetchall()
    assert {location: tuple(rest) for location, *rest in rows} == {
        location: owner(location) for location in LOCATIONS
    }
    assert owner(LOCATIONS[1])[:2] == (RUN, None)
    for source in SOURCES:
        with connection(shared) as conn:
            python = {entry.location for entry in ledger.select(conn, selection_of(source))}
        query = "SELECT location FROM mlops.source_paths(%s, NULL)"
        assert {row[0] for row in plain_sql.execute(query, [source])} == python, source


def test_a_path_with_a_line_end_does_not_stand_for_two_files(
    shared: DatabaseURI, plain_sql: psycopg.Connection
) -> None:
    digest = FileDigest.of(b"x")
    honest, forged = (f"timescaledb-artifacts:/1/{letter * 32}/artifacts" for letter in "de")
    with connection(shared) as conn:
        ledger.record(conn, [(f"{honest}/a", digest), (f"{honest}/b", digest)])
        ledger.record(conn, [(f"{forged}/a\n{digest.sha256}  b", digest)])
    query = "SELECT checksum FROM mlops.source_artifacts(%s, NULL)"
    checksums = [plain_sql.execute(query, [place]).fetchone() for place in (honest, forged)]
    assert checksums[0] != checksums[1]
