"""The registry's history: every change, by whatever path, from when to when, by whom and why."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import psycopg
import pytest
from mlflow import MlflowClient
from mlflow.store.model_registry.dbmodels.models import SqlRegisteredModelAlias

from mlflow_timescale.common.attribution import because
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.registry import history as registry_history
from mlflow_timescale.registry.store import TimescaleRegistryStore

NAME = "momentum"


@pytest.fixture
def client(database: DatabaseURI) -> MlflowClient:
    client = MlflowClient(database.url, database.url)
    client.create_registered_model(NAME)
    for _ in range(3):
        client.create_model_version(NAME, source="s3://nowhere/model")
    return client


def now() -> datetime:
    return datetime.now(timezone.utc)


def versions(conn: psycopg.Connection, name: str = NAME, alias: str = "live") -> list[int | None]:
    return [
        change.version
        for change in registry_history.history(conn, name, kind="alias", subject=alias)
    ]


def version_at(conn: psycopg.Connection, moment: datetime, name: str = NAME) -> int | None:
    found = registry_history.version_at(conn, name, "live", moment)
    return found.version if found else None


def test_version_at_answers_for_any_moment(client: MlflowClient, conn: psycopg.Connection) -> None:
    before = now()
    client.set_registered_model_alias(NAME, "live", "1")
    first = now()
    client.set_registered_model_alias(NAME, "live", "2")
    second = now()
    client.delete_registered_model_alias(NAME, "live")
    moments = [before, first, second, now()]
    assert [version_at(conn, moment) for moment in moments] == [None, 1, 2, None]


def test_one_state_ends_exactly_where_the_next_begins(
    client: MlflowClient, conn: psycopg.Connection
) -> None:
    for version in ("1", "2", "1"):
        client.set_registered_model_alias(NAME, "live", version)
    states = registry_history.history(conn, NAME, kind="alias")
    assert [state.version for state in states] == [1, 2, 1]
    assert [state.valid_to for state in states[:-1]] == [state.valid_from for state in states[1:]]
    assert [version_at(conn, state.valid_from) for state in states] == [1, 2, 1]


def test_setting_an_alias_to_where_it_is_changes_nothing(
    client: MlflowClient, conn: psycopg.Connection
) -> None:
    for _ in range(3):
        client.set_registered_model_alias(NAME, "live", "1")
    assert versions(conn) == [1]


def test_a_write_that_mlflow_repeats_in_one_session_keeps_its_reason(
    client: MlflowClient, database: DatabaseURI, conn: psycopg.Connection
) -> None:
    store = TimescaleRegistryStore(database.url)
    with because("a collision"), store.ManagedSessionMaker(read_only=False) as session:
        session.rollback()  # as create_model_version does before it counts again
        session.add(
            SqlRegisteredModelAlias(workspace="default", name=NAME, alias="live", version=1)
        )
    [state] = registry_history.history(conn, NAME, kind="alias")
    assert state.reason == "a collision"


def test_deleting_a_version_ends_its_alias_and_keeps_where_it_came_from(
    client: MlflowClient, conn: psycopg.Connection
) -> None:
    client.set_registered_model_alias(NAME, "live", "2")
    client.delete_model_version(NAME, "2")
    (alias,) = registry_history.history(conn, NAME, kind="alias")
    assert alias.ended == "deleted"
    (version,) = registry_history.history(conn, NAME, kind="version", subject="2")
    assert (version.value, version.ended) == ("s3://nowhere/model", "deleted")


def test_deleting_a_model_ends_everything_it_had(
    client: MlflowClient, conn: psycopg.Connection
) -> None:
    client.set_registered_model_alias(NAME, "live", "2")
    client.set_model_version_tag(NAME, "2", "approved", "yes")
    client.delete_registered_model(NAME)
    changes = registry_history.history(conn, NAME)
    assert {change.kind for change in changes} == {"alias", "model", "stage", "tag", "version"}
    assert {change.ended for change in changes} == {"deleted"}


def test_a_renamed_model_keeps_its_past(client: MlflowClient, conn: psycopg.Connection) -> None:
    client.set_registered_model_alias(NAME, "live", "1")
    before = now()
    client.rename_registered_model(NAME, "momentum_v2")
    client.set_registered_model_alias("momentum_v2", "live", "3")
    assert version_at(conn, before) == 1
    assert version_at(conn, now()) is None
    assert version_at(conn, before, "momentum_v2") == 1
    assert version_at(conn, now(), "momentum_v2") == 3
    assert versions(conn, "momentum_v2") == [1, 1, 3]


def test_a_name_taken_again_does_not_inherit_the_past_of_the_renamed_model(
    client: MlflowClient, conn: psycopg.Connection
) -> None:
    client.set_registered_model_alias(NAME, "live", "1")
    client.rename_registered_model(NAME, "momentum_v2")
    client.create_registered_model(NAME)
    client.create_model_version(NAME, source="s3://nowhere/model")
    client.set_registered_model_alias(NAME, "live", "1")
    assert versions(conn, "momentum_v2") == [1, 1]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_stages_and_tags_have_a_history_too(client: MlflowClient, conn: psycopg.Connection) -> None:
    client.transition_model_version_stage(NAME, "1", "Production")
    client.transition_model_version_stage(NAME, "2", "Production", archive_existing_versions=True)
    stages = registry_history.history(conn, NAME, kind="stage", subject="1")
    assert [stage.value for stage in stages] == ["None", "Production", "Archived"]
    client.set_model_version_tag(NAME, "1", "approved", "no")
    client.set_model_version_tag(NAME, "1", "approved", "yes")
    client.delete_model_version_tag(NAME, "1", "approved")
    tags = registry_history.history(conn, NAME, kind="tag", subject="1/approved")
    assert [(tag.value, tag.ended) for tag in tags] == [("no", "changed"), ("yes", "deleted")]


def test_the_history_says_who_and_why(
    client: MlflowClient, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    with because("passed the walk-forward test"):
        client.set_registered_model_alias(NAME, "live", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    client.delete_registered_model_alias(NAME, "live")
    (change,) = registry_history.history(conn, NAME, kind="alias")
    assert (change.mlflow_user, change.reason) == ("ann", "passed the walk-forward test")
    assert (change.ended_mlflow_user, change.ended_reason) == ("bob", None)
    assert change.db_user


def test_a_change_in_plain_sql_is_kept_like_any_other(
    client: MlflowClient, conn: psycopg.Connection
) -> None:
    client.set_registered_model_alias(NAME, "live", "1")
    conn.execute("UPDATE registered_model_aliases SET version = 3")
    conn.execute("DELETE FROM registered_model_aliases")
    assert versions(conn) == [1, 3]


def test_overlaps_are_impossible(client: MlflowClient, conn: psycopg.Connection) -> None:
    client.set_registered_model_alias(NAME, "live", "1")
    with pytest.raises(psycopg.errors.ExclusionViolation):
        conn.execute(
            "INSERT INTO mlops.registry_history "
            "(workspace, name, kind, subject, version, valid_from, valid_to, ended) "
            "SELECT workspace, name, kind, subject, 2, valid_from + interval '1 ms', "
            "now() + interval '1 day', 'changed' FROM mlops.registry_history WHERE kind = 'alias'"
        )


def test_a_clock_that_is_set_back_neither_loses_nor_blocks_a_change(
    client: MlflowClient, conn: psycopg.Connection
) -> None:
    client.set_registered_model_alias(NAME, "live", "1")
    conn.execute(
        "UPDATE mlops.registry_history SET valid_from = valid_from + interval '1 hour' "
        "WHERE kind = 'alias'"
    )
    client.set_registered_model_alias(NAME, "live", "2")
    states = registry_history.history(conn, NAME, kind="alias")
    assert states[1].valid_from - states[0].valid_from == timedelta(microseconds=1)


def test_a_naive_time_is_refused(client: MlflowClient, conn: psycopg.Connection) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        registry_history.version_at(conn, NAME, "live", datetime(2024, 1, 15))  # noqa: DTZ001


def test_a_registry_that_was_there_before_begins_with_what_it_holds(
    empty_database: DatabaseURI,
) -> None:
    import mlflow.store.db.utils as mlflow_db

    from mlflow_timescale import db

    engine = mlflow_db.create_sqlalchemy_engine(empty_database.url)
    mlflow_db._initialize_tables(engine)
    engine.dispose()
    with db.connect(empty_database, autocommit=True) as conn:
        conn.execute("INSERT INTO registered_models (name, creation_time) VALUES ('old', 0)")
        conn.execute(
            "INSERT INTO model_versions (name, version, creation_time, current_stage, source) "
            "VALUES ('old', 1, 86400000, 'None', 's3://b/m')"
        )
        conn.execute(
            "INSERT INTO registered_model_aliases (name, alias, version) VALUES ('old', 'live', 1)"
        )
        db.migrate(conn)
        kinds = {change.kind: change for change in registry_history.history(conn, "old")}
        assert set(kinds) == {"alias", "model", "stage", "version"}
        assert kinds["version"].valid_from == datetime(1970, 1, 2, tzinfo=timezone.utc)
        assert version_at(conn, now(), "old") == 1
