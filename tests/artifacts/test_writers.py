"""What a writer can and cannot do to the ledger, the in-database store and the histories."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import mlflow
import psycopg
import pytest
from support.logins import Logins

from mlflow_timescale import db
from mlflow_timescale.db.rights import OPERATOR, READER, WRITER

SHA = hashlib.sha256(b"momentum").digest()
HISTORIES = (
    "model_artifacts",
    "artifact_contents",
    "artifact_files",
    "artifact_checks",
    "former_contents",
    "kept_paths",
    "kept_tags",
    "registry_history",
    "run_tag_history",
    "version_files",
    "drift_values",
    "drift_alert_events",
    "drift_references",
    "migrations",
)
DEFINERS = (
    "SELECT oid::regprocedure::text FROM pg_proc "
    "WHERE prosecdef AND pronamespace = 'mlops'::regnamespace"
)


@pytest.fixture
def writer(people: Logins) -> Iterator[db.Connection]:
    with people.connect(WRITER) as conn:
        yield conn


@pytest.fixture(scope="module")
def stored(people: Logins, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of the writer with a small and a large file; its id."""
    large = tmp_path_factory.mktemp("model") / "weights.bin"
    large.write_bytes(bytes(range(256)) * 10_000)
    mlflow.set_tracking_uri(people.uri(WRITER).url)
    with mlflow.start_run() as run:
        mlflow.log_text("momentum", "note.txt")
        mlflow.log_artifact(str(large))
    return str(run.info.run_id)


@pytest.mark.parametrize("statement", ["UPDATE mlops.{} SET {} = {}", "DELETE FROM mlops.{}"])
@pytest.mark.parametrize("table", HISTORIES)
def test_no_history_is_changed_by_a_writer(
    writer: db.Connection, stored: str, table: str, statement: str
) -> None:
    column = writer.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 "
        "AND attgenerated = '' AND attidentity = '' LIMIT 1",
        [f"mlops.{table}"],
    ).fetchone()
    assert column is not None
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        writer.execute(statement.format(table, column[0], column[0]).encode())


def test_what_a_writer_logs_is_read_by_a_reader(people: Logins, stored: str) -> None:
    mlflow.set_tracking_uri(people.uri(READER).url)
    directory = Path(mlflow.artifacts.download_artifacts(run_id=stored))
    assert (directory / "note.txt").read_bytes() == b"momentum"
    assert (directory / "weights.bin").read_bytes() == bytes(range(256)) * 10_000


def test_bytes_do_not_enter_under_the_checksum_of_others(writer: db.Connection) -> None:
    with pytest.raises(psycopg.errors.DataException, match="are not those of SHA-256"):
        enter(writer, b"something else", SHA)


def test_chunks_that_are_missing_are_noticed(writer: db.Connection) -> None:
    with writer.transaction(force_rollback=True):
        [content_id] = writer.execute(
            "SELECT nextval('mlops.artifact_contents_content_id_seq')"
        ).fetchone() or (0,)
        writer.execute("INSERT INTO mlops.artifact_chunks VALUES (%s, 1, 'momentum')", [content_id])
        with pytest.raises(psycopg.errors.DataException):
            writer.execute(
                "SELECT mlops.store_contents(ARRAY[%s], ARRAY[%s], 1048576)", [content_id, SHA]
            )


def test_a_chunk_that_is_added_later_is_not_read(
    writer: db.Connection, people: Logins, stored: str
) -> None:
    writer.execute(
        "INSERT INTO mlops.artifact_chunks "
        "SELECT content_id, 99, 'more' FROM mlops.artifact_contents"
    )
    mlflow.set_tracking_uri(people.uri(READER).url)
    assert mlflow.artifacts.load_text(f"runs:/{stored}/note.txt") == "momentum"


def test_the_ledger_takes_no_other_checksum_of_a_file_in_the_database(
    writer: db.Connection, stored: str
) -> None:
    row = writer.execute(
        "SELECT location, size_bytes FROM mlops.model_artifacts WHERE ended_at IS NULL"
    ).fetchone()
    assert row is not None
    with pytest.raises(psycopg.errors.DataException, match="another SHA-256 in the database"):
        writer.execute(
            "SELECT mlops.record_artifacts(ARRAY[%s], ARRAY['file'], ARRAY[%s], ARRAY[%s], "
            "'logged', 'ann')",
            [row[0], "0" * 64, row[1]],
        )


def test_a_file_in_the_database_keeps_its_row(writer: db.Connection, stored: str) -> None:
    row = writer.execute("SELECT path FROM mlops.artifact_files").fetchone()
    assert row is not None
    with pytest.raises(psycopg.errors.ObjectInUse):
        writer.execute(
            "SELECT mlops.end_artifacts('timescaledb-artifacts:/' || %s::text, '{}')", [row[0]]
        )


def test_the_login_that_logged_a_file_cannot_be_chosen(
    writer: db.Connection, people: Logins, stored: str
) -> None:
    found = writer.execute("SELECT DISTINCT db_user FROM mlops.model_artifacts").fetchall()
    assert found == [(people.names[WRITER],)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        writer.execute(
            "INSERT INTO mlops.artifact_checks (location, purpose, outcome, db_user) "
            "VALUES ('x', 'audit', 'match', 'the chief')"
        )


@pytest.mark.parametrize("role", [READER, OPERATOR, "none"])
def test_functions_with_the_rights_of_their_owner_are_for_writers(
    people: Logins, role: str
) -> None:
    with people.connect(WRITER) as conn:
        functions = [row[0] for row in conn.execute(DEFINERS)]
    with db.connect(people.database) as conn:
        query = "SELECT has_function_privilege(%s, %s, 'EXECUTE')"
        allowed = [
            function
            for function in functions
            if conn.execute(query, [people.names[role], function]).fetchone() == (True,)
        ]
    assert len(functions) > 10
    assert allowed == []


def test_a_writer_forges_no_history_with_a_trigger_of_its_own(writer: db.Connection) -> None:
    writer.execute("CREATE TEMPORARY TABLE mine (name text, alias text, version integer)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        writer.execute(
            "CREATE TRIGGER forge AFTER INSERT ON mine FOR EACH ROW "
            "EXECUTE FUNCTION mlops.keep_registry_history('alias')"
        )


def test_no_such_function_belongs_to_a_superuser(people: Logins) -> None:
    with db.connect(people.database) as conn:
        owners = conn.execute(
            "SELECT DISTINCT rolname, rolsuper "
            "FROM pg_proc JOIN pg_roles ON pg_roles.oid = proowner "
            "WHERE prosecdef AND pronamespace = 'mlops'::regnamespace"
        )
        assert owners.fetchall() == [("mlops_admin", False)]


def enter(conn: db.Connection, data: bytes, sha256: bytes) -> None:
    with conn.transaction():
        [content_id] = conn.execute(
            "SELECT nextval('mlops.artifact_contents_content_id_seq')"
        ).fetchone() or (0,)
        conn.execute("INSERT INTO mlops.artifact_chunks VALUES (%s, 0, %s)", [content_id, data])
        conn.execute(
            "SELECT mlops.store_contents(ARRAY[%s], ARRAY[%s], 1048576)", [content_id, sha256]
        )


def test_what_a_writer_sets_and_replaces_is_on_record(people: Logins) -> None:
    mlflow.set_tracking_uri(people.uri(WRITER).url)
    client = mlflow.MlflowClient()
    run = client.create_run("0", tags={"online_status": "online"}).info.run_id
    client.log_text(run, "monday", "pred.pkl")
    client.log_text(run, "tuesday", "pred.pkl")
    client.set_tag(run, "online_status", "offline")
    with people.connect(READER) as conn:
        states = conn.execute(
            "SELECT value, db_user, ended_db_user FROM mlops.run_tag_history ORDER BY history_id"
        ).fetchall()
        kept = conn.execute("SELECT count(*) FROM mlops.former_contents").fetchone()
    login = people.uri(WRITER).user
    assert states == [("online", login, login), ("offline", login, None)]
    assert kept == (1,)
