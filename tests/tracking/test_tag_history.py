"""The history of chosen run tags, on every path on which tags change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timezone

import mlflow
import psycopg
import pytest
from click.testing import CliRunner, Result
from mlflow.entities import RunTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from support.databases import vanilla_url

import mlflow_timescale
from mlflow_timescale import db
from mlflow_timescale.cli import cli
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.tracking import tag_history

KEY = "online_status"


@pytest.fixture
def client(shared_database: DatabaseURI) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(shared_database.url)


@pytest.fixture
def conn(shared_database: DatabaseURI) -> Iterator[psycopg.Connection]:
    with db.connect(shared_database, autocommit=True) as opened:
        yield opened


@pytest.fixture
def run(client: mlflow.MlflowClient) -> str:
    experiment = client.get_experiment_by_name("tags")
    experiment_id = experiment.experiment_id if experiment else client.create_experiment("tags")
    return str(client.create_run(experiment_id).info.run_id)


def told(conn: psycopg.Connection, run: str, key: str = KEY) -> list[tuple[str | None, str | None]]:
    return [(state.value, state.ended) for state in tag_history.states(conn, run_id=run, key=key)]


def test_every_way_to_change_a_tag_is_recorded(
    client: mlflow.MlflowClient, conn: psycopg.Connection, run: str, shared_database: DatabaseURI
) -> None:
    client.set_tag(run, KEY, "online")
    client.set_tag(run, KEY, "online")  # no change
    client.log_batch(run, tags=[RunTag(KEY, "offline"), RunTag("other", "x")])
    client.delete_tag(run, KEY)
    plain = SqlAlchemyStore(vanilla_url(shared_database), "/artifacts")
    plain.set_tag(run, RunTag(KEY, "next"))
    plain.log_batch(run, [], [], [RunTag(KEY, "online")])
    conn.execute("UPDATE tags SET value = 'sql' WHERE run_uuid = %s AND key = %s", (run, KEY))
    assert told(conn, run) == [
        ("online", "changed"),
        ("offline", "deleted"),
        ("next", "changed"),
        ("online", "changed"),
        ("sql", None),
    ]
    assert told(conn, run, "other") == []
    states = tag_history.states(conn, run_id=run)
    assert [a.valid_to for a in states[2:4]] == [b.valid_from for b in states[3:]]


def test_a_change_has_its_user_and_reason(
    client: mlflow.MlflowClient, conn: psycopg.Connection, run: str
) -> None:
    with mlflow_timescale.because("the IC fell"):
        client.set_tag(run, KEY, "online")
        client.delete_tag(run, KEY)
    [state] = tag_history.states(conn, run_id=run)
    [login] = conn.execute("SELECT session_user").fetchone() or []
    assert (state.db_user, state.reason, state.ended_reason) == (login, *["the IC fell"] * 2)
    assert state.claimed_user == state.ended_claimed_user is not None


def test_what_was_a_tag_at_a_moment(
    client: mlflow.MlflowClient, conn: psycopg.Connection, run: str
) -> None:
    client.set_tag(run, KEY, "online")
    evening = datetime.now(timezone.utc)
    client.set_tag(run, KEY, "offline")
    [state] = tag_history.states(conn, run_id=run, as_of=evening)
    assert state.value == "online"
    [after] = tag_history.states(conn, run_id=run, as_of=state.valid_to)
    assert after.value == "offline"


def test_the_history_outlives_its_run(
    client: mlflow.MlflowClient, conn: psycopg.Connection, run: str, shared_database: DatabaseURI
) -> None:
    client.set_tag(run, KEY, "online")
    client.delete_run(run)
    store = mlflow.tracking._tracking_service.utils._get_store(shared_database.url)
    store._hard_delete_run(run)
    [state] = tag_history.states(conn, run_id=run)
    assert (state.value, state.ended) == ("online", "deleted")
    assert state.experiment_id is not None


def test_emptied_tables_end_every_state(
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
) -> None:
    with new_database() as uri, db.connect(uri, autocommit=True) as conn:
        client = mlflow.MlflowClient(uri.url)
        run = client.create_run("0", tags={KEY: "online"}).info.run_id
        conn.execute("TRUNCATE tags")
        assert told(conn, run) == [("online", "deleted")]


def test_keys_are_chosen_with_their_periods(
    client: mlflow.MlflowClient, conn: psycopg.Connection, run: str, shared_database: DatabaseURI
) -> None:
    def history(*words: str) -> str:
        result = CliRunner().invoke(cli, ["history", *words, "--uri", shared_database.url])
        assert result.exit_code == 0, result.output
        return result.output

    client.set_tag(run, "stage", "before")
    assert "dry run" in history("keep-tag", "stage", "--dry-run")
    assert told(conn, run, "stage") == []
    assert "the past of the tag stage is kept" in history("keep-tag", "stage")
    client.set_tag(run, "stage", "shadow")
    assert "as before" in history("keep-tag", "stage")
    history("keep-tag", "stage", "--remove")
    assert "is not kept; nothing was changed" in history("keep-tag", "stage", "--remove")
    client.set_tag(run, "stage", "after")
    assert told(conn, run, "stage") == [("before", "changed"), ("shadow", "not kept")]
    assert "shadow" in history("tags", run, "stage")
    assert "stage" in history("list")
    periods = tag_history.kept(conn)
    [kept] = [period for period in periods if period.name == "stage"]
    assert kept.until is not None
    why = [
        tag_history.why_unknown(periods, "stage", moment)
        for moment in (kept.since, kept.until, kept.since.replace(year=2020))
    ]
    assert why[0] == ""
    assert why[1].startswith("no history of the tag stage was kept then, from ")
    assert why[1].endswith("UTC on")
    assert why[2].startswith("the history of the tag stage begins on")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("keep-tag", ""), "no tag has the key ''"),
        (("keep-tag", " "), "no tag has the key ' '"),
        (("keep-tag", "x" * 251), "MLflow takes 250"),
        (("keep-path", ""), "no artifact has the path ''"),
        (("keep-path", "/pred.pkl"), "such as pred.pkl, or a pattern such as */pred.pkl"),
        (("keep-path", "a/../b"), "no artifact has the path 'a/../b'"),
    ],
)
def test_a_name_that_no_tag_or_path_has_is_refused_and_can_be_removed(
    words: tuple[str, str], reason: str, shared_database: DatabaseURI
) -> None:
    def call(*more: str) -> Result:
        return CliRunner().invoke(cli, ["history", *words, *more, "--uri", shared_database.url])

    refused = call()
    assert refused.exit_code == 1
    assert reason in str(refused.exception)
    assert call("--remove").exit_code == 0


def test_mlflows_migrations_may_alter_the_columns_of_tags(conn: psycopg.Connection) -> None:
    with conn.transaction(force_rollback=True):
        conn.execute("ALTER TABLE tags ALTER COLUMN value TYPE text")
        conn.execute("ALTER TABLE tags ALTER COLUMN key TYPE varchar(300)")


def test_other_tags_call_no_function(conn: psycopg.Connection) -> None:
    conditions = conn.execute(
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger "
        "WHERE tgfoid = 'mlops.keep_tag_history'::regproc"
    ).fetchall()
    assert len(conditions) == 4
    assert all("WHEN" in text and "{online_status" in text for (text,) in conditions)
