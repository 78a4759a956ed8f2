"""Commands of maintenance end behind a lock, and work where a role has time limits."""

from __future__ import annotations

import psycopg
import pytest
from click.testing import CliRunner
from conftest import vanilla_url
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from mlflow_timescale import db
from mlflow_timescale.cli import cli
from mlflow_timescale.db import LocksHeld, locks
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.adopt import adopt, layout, release

ROLE_LIMITS = (
    "ALTER DATABASE {} SET statement_timeout = '200ms'",
    "ALTER DATABASE {} SET idle_in_transaction_session_timeout = '200ms'",
    "ALTER DATABASE {} SET lock_timeout = '50ms'",
)


@pytest.mark.parametrize(
    "command",
    [
        ["retention", "--days", "1", "--dry-run"],
        ["retention", "--days", "1", "--yes"],
        ["adopt", "--dry-run"],
        ["adopt"],
        ["release", "--dry-run"],
        ["release"],
    ],
    ids=" ".join,
)
def test_a_command_behind_a_lock_names_the_session_that_holds_it(
    database: DatabaseURI, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr(locks, "READ_SECONDS", 0.2)
    with db.connect(database, application="migration") as holder:
        holder.execute("LOCK TABLE metrics IN ACCESS EXCLUSIVE MODE")
        result = CliRunner().invoke(cli, [*command, "--uri", database.url])
        pid = holder.info.backend_pid
    assert isinstance(result.exception, LocksHeld), result.output
    assert f"process {pid} (migration " in str(result.exception)
    assert "metrics" in str(result.exception)


def test_another_process_that_changes_the_schema_is_named(
    database: DatabaseURI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow_timescale.db.migrations.PATIENCE_SECONDS", 0.2)
    with (
        db.connect(database, autocommit=True) as first,
        db.connect(database, autocommit=True) as second,
        db.exclusively(first),
        pytest.raises(LocksHeld, match=f"process {first.info.backend_pid}"),
        db.exclusively(second),
    ):
        pass


def test_time_limits_of_a_session_come_back(conn: psycopg.Connection) -> None:
    conn.execute("SET statement_timeout = '7s'")
    with db.time_limits(conn, wait=1.5):
        assert conn.execute("SHOW statement_timeout").fetchone() == ("0",)
        assert conn.execute("SHOW lock_timeout").fetchone() == ("1500ms",)
    assert conn.execute("SHOW statement_timeout").fetchone() == ("7s",)
    assert conn.execute("SHOW lock_timeout").fetchone() == ("0",)


def filled(uri: DatabaseURI, points: int) -> None:
    store = SqlAlchemyStore(vanilla_url(uri), "/artifacts")
    run = store.create_run("0", "me", 1, [], "run").info.run_id
    with db.connect(uri, autocommit=True) as conn:
        conn.execute("ALTER TABLE metrics SET (autovacuum_enabled = false)")
        conn.execute(
            "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan)"
            " SELECT %s, 'm' || i %% 7, i, 1600000000000 + i, i, false"
            " FROM generate_series(1, %s::bigint) i",
            [run, points],
        )


@pytest.mark.slow
def test_maintenance_is_not_ended_by_the_time_limits_of_a_database(
    vanilla_database: DatabaseURI,
) -> None:
    filled(vanilla_database, 100_000)
    with db.connect(vanilla_database, autocommit=True) as conn:
        for statement in ROLE_LIMITS:
            conn.execute(statement.format(vanilla_database.dbname))
    with db.connect(vanilla_database, autocommit=True) as conn:
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("SELECT pg_sleep(1)")
        adopt(conn)
        assert layout(conn).ours
        release(conn)
        assert conn.execute("SHOW statement_timeout").fetchone() == ("200ms",)
    for command in (["adopt"], ["pack"], ["retention", "--days", "1", "--yes"], ["migrate"]):
        arguments = [*command, "--uri", vanilla_database.url]
        result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output


def test_the_points_of_a_table_that_was_never_analysed_are_estimated(
    vanilla_database: DatabaseURI,
) -> None:
    filled(vanilla_database, 20_000)
    with db.connect(vanilla_database, autocommit=True) as conn:
        assert layout(conn).points == pytest.approx(20_000, rel=0.2)
