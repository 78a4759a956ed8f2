"""`mlflow-timescale doctor`: healthy databases, and each fault with its advice."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from support.databases import temporary_roles

from mlflow_timescale import db
from mlflow_timescale.cli import main
from mlflow_timescale.db.migrations import facts
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations import doctor as checks
from mlflow_timescale.operations import server_checks
from mlflow_timescale.operations.doctor import examine
from mlflow_timescale.operations.findings import Finding, Patient
from mlflow_timescale.operations.server_checks import clock

Report = dict[str, Any]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]):
    def _doctor(uri: DatabaseURI, *options: str) -> tuple[int, Report]:
        with pytest.raises(SystemExit) as end:
            main(["doctor", "--uri", uri.url, "--json", *options])
        return int(end.value.code or 0), json.loads(capsys.readouterr().out)

    return _doctor


def actions(report: Report) -> list[dict[str, Any]]:
    return [finding for finding in report["findings"] if finding["level"] == "action"]


def test_a_fresh_database_needs_nothing(
    database: DatabaseURI, conn: psycopg.Connection, doctor
) -> None:
    code, report = doctor(database)
    assert actions(report) == []
    assert (code, report["healthy"]) == (0, True)
    found = {finding["check"]: finding for finding in report["findings"]}
    assert {"server", "tier", "MLflow schema", "migrations", "indexes", "clock"} <= found.keys()
    tier = found["tier"]["found"]
    assert ("plain" in tier) == ("timescale" not in facts(conn))
    assert found["sizes"]["data"]["bytes"] > 1_000_000


def test_an_empty_database_is_to_be_migrated(empty_database: DatabaseURI, doctor) -> None:
    code, report = doctor(empty_database)
    assert code == 3
    (schema,) = [finding for finding in actions(report) if finding["check"] == "MLflow schema"]
    assert schema["advice"] == "mlflow-timescale migrate"


@pytest.mark.parametrize(
    ("statement", "name", "remedy"),
    [
        (
            "DROP INDEX index_params_run_uuid",
            "index_params_run_uuid",
            "CREATE INDEX index_params_run_uuid ON params (run_uuid);",
        ),
        (
            "ALTER TABLE latest_metrics DROP CONSTRAINT latest_metric_pk",
            "latest_metric_pk",
            "ALTER TABLE latest_metrics ADD CONSTRAINT latest_metric_pk PRIMARY KEY "
            "(key, run_uuid);",
        ),
    ],
)
def test_an_index_lost_in_an_upgrade_is_named_with_the_statement_that_brings_it_back(
    statement: str, name: str, remedy: str, database: DatabaseURI, conn, doctor
) -> None:
    conn.execute(statement)
    code, report = doctor(database)
    assert code == 3
    (finding,) = actions(report)
    assert name in finding["found"]
    assert finding["advice"] == remedy
    conn.execute(remedy)
    assert doctor(database)[0] == 0


def test_an_index_that_another_one_serves_is_not_missed(
    database: DatabaseURI, conn: psycopg.Connection, doctor
) -> None:
    conn.execute("DROP INDEX index_params_run_uuid")
    conn.execute("CREATE INDEX wider ON params (run_uuid, key)")
    assert doctor(database)[0] == 0


def test_an_invalid_index_is_to_be_built_again(
    database: DatabaseURI, conn: psycopg.Connection, doctor
) -> None:
    conn.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'index_tags_run_uuid'::regclass"
    )
    code, report = doctor(database)
    assert code == 3
    assert "REINDEX INDEX index_tags_run_uuid;" in [found["advice"] for found in actions(report)]


def test_a_pending_migration_is_named(
    database: DatabaseURI, conn: psycopg.Connection, doctor
) -> None:
    conn.execute("DELETE FROM mlops.migrations WHERE name = 'tracking/001_search_indexes'")
    code, report = doctor(database)
    assert code == 3
    (finding,) = actions(report)
    assert finding["data"]["pending"] == ["tracking/001_search_indexes"]
    assert finding["advice"] == "mlflow-timescale migrate"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE mlops.migrations SET sha256 = 'other' WHERE name ~ '/001_s'",
            "never edited",
        ),
        (
            "INSERT INTO mlops.migrations VALUES ('drift/999_new', 'x')",
            "newer mlflow-timescale",
        ),
    ],
)
def test_a_schema_that_does_not_fit_the_files_is_a_finding(
    statement: str, expected: str, database: DatabaseURI, conn, doctor
) -> None:
    conn.execute(statement)
    code, report = doctor(database)
    assert code == 3
    (finding,) = actions(report)
    assert expected in finding["found"]


def test_an_outdated_mlflow_schema_is_to_be_upgraded(
    database: DatabaseURI, conn: psycopg.Connection, doctor
) -> None:
    conn.execute("UPDATE alembic_version SET version_num = 'c0ffee'")
    code, report = doctor(database)
    assert code == 3
    (finding,) = actions(report)
    assert "at revision c0ffee" in finding["found"]
    assert "mlflow db upgrade" in finding["advice"]


def test_more_workers_than_the_server_has_connections_for(database: DatabaseURI, doctor) -> None:
    code, report = doctor(database, "--workers", "1000")
    assert code == 3
    (finding,) = actions(report)
    assert finding["check"] == "connections"
    assert "Raise max_connections" in finding["advice"]
    assert finding["data"]["at_rest"] == 1000 * 2 * 5


def test_the_pool_is_reckoned_as_it_is_set(
    database: DatabaseURI, monkeypatch: pytest.MonkeyPatch, doctor
) -> None:
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "1")
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW", "0")
    _, report = doctor(database, "--workers", "8")
    (finding,) = [found for found in report["findings"] if found["check"] == "connections"]
    assert (finding["data"]["at_rest"], finding["data"]["at_most"]) == (16, 16)


class LateServer(Patient):
    """A patient whose clock is ten seconds behind."""

    def one(self, query: Any, **values: Any) -> Any:
        return super().one(query, **values) - timedelta(seconds=10)


def test_clocks_that_differ_are_a_finding(database: DatabaseURI, conn: psycopg.Connection) -> None:
    (finding,) = clock(LateServer(conn, database, 4))
    assert finding.level == "action"
    assert finding.data["ahead_seconds"] == pytest.approx(-10, abs=5)
    assert "NTP" in finding.advice


def test_a_time_zone_that_will_surprise_is_noted(database: DatabaseURI, conn) -> None:
    conn.execute(f"ALTER DATABASE {database.dbname} SET timezone = 'America/New_York'")
    with db.connect(database, autocommit=True) as fresh:
        (finding,) = [found for found in examine(fresh, database) if found.check == "time zone"]
    assert isinstance(finding, Finding)
    assert (finding.level, "America/New_York" in finding.found) == ("note", True)


def test_the_table_says_what_to_do(
    database: DatabaseURI,
    conn: psycopg.Connection,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    conn.execute("DROP INDEX index_params_run_uuid")
    with pytest.raises(SystemExit) as end:
        main(["doctor", "--uri", database.url])
    assert end.value.code == 3
    out = capsys.readouterr().out
    assert "CREATE INDEX index_params_run_uuid ON params (run_uuid);" in out
    assert str(database) in out


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "WAIT_SECONDS", 0.2)


def of(report: Report, check: str) -> list[dict[str, Any]]:
    return [finding for finding in report["findings"] if finding["check"] == check]


@pytest.mark.usefixtures("hurried")
def test_each_check_behind_a_lock_names_the_session_that_holds_it(
    database: DatabaseURI, doctor
) -> None:
    with db.connect(database, application="migration") as holder:
        holder.execute("LOCK TABLE metrics IN ACCESS EXCLUSIVE MODE")
        code, report = doctor(database)
        pid = holder.info.backend_pid
    assert code == 3
    [sizes] = of(report, "sizes")
    assert f"not examined: a lock is held by process {pid} (migration " in sizes["found"]
    assert "metrics" in sizes["found"]
    assert sizes["advice"] == f"End that transaction: SELECT pg_terminate_backend({pid});"
    # What does not touch the table is examined as always.
    assert [finding["level"] for finding in of(report, "clock")] == ["ok"]
    assert doctor(database)[0] == 0


@pytest.mark.usefixtures("hurried")
def test_sessions_that_wait_for_a_lock_are_counted(database: DatabaseURI, doctor) -> None:
    with (
        db.connect(database) as holder,
        db.connect(database, autocommit=True) as waiting,
        ThreadPoolExecutor() as pool,
    ):
        holder.execute("LOCK TABLE params IN ACCESS EXCLUSIVE MODE")
        waiter = pool.submit(waiting.execute, "SELECT count(*) FROM params")
        time.sleep(1.2)
        _, report = doctor(database)
        holder.rollback()
        waiter.result()
        pid = holder.info.backend_pid
    [finding] = of(report, "locks")
    assert "1 sessions wait for locks" in finding["found"]
    assert f"process {pid} " in finding["found"]
    assert finding["advice"] == f"SELECT pg_terminate_backend({pid});"


def test_a_check_that_this_role_may_not_run_is_a_finding(database: DatabaseURI, conn) -> None:
    with temporary_roles(conn, "visitor") as [visitor]:
        conn.execute(f"GRANT USAGE ON SCHEMA mlops TO {visitor}")
        conn.execute(f"SET ROLE {visitor}")
        findings = {finding.check: finding for finding in examine(conn, database)}
        conn.execute("RESET ROLE")
    assert "not examined: permission denied" in findings["MLflow schema"].found
    assert "not examined: permission denied" in findings["migrations"].found
    assert findings["clock"].level == "ok"


@pytest.mark.parametrize(
    ("limits", "level"),
    [((199, 197), "action"), ((160, 197), "note"), ((100, 197), "ok"), ((1, 0), "action")],
)
def test_connections_near_a_limit_are_a_finding(
    database: DatabaseURI, conn, limits: tuple[int, int], level: str
) -> None:
    class Full(Patient):
        def rows(self, query: Any, **values: Any) -> list[dict[str, Any]]:
            rows = super().rows(query, **values)
            return [row | dict(zip(("open", "allowed"), limits, strict=True)) for row in rows]

    [finding] = server_checks.open_connections(Full(conn, database, 4))
    assert finding.level == level
    assert finding.found.startswith(f"{limits[0]} of {limits[1]} that the server allows")


def test_the_limits_of_the_database_count_too(database: DatabaseURI, conn, doctor) -> None:
    conn.execute(f"ALTER DATABASE {database.dbname} CONNECTION LIMIT 2")
    _, report = doctor(database)
    [_, finding] = of(report, "open connections")
    assert finding["level"] == "action"
    # A third, from before, may be ending still.
    assert re.search(rf"[23] of 2 that database {database.dbname} allows", finding["found"])
    assert "CONNECTION LIMIT" in finding["advice"]


@pytest.mark.parametrize(("endless", "level"), [(0.1, "action"), (60.0, "note")])
def test_long_transactions_are_named(
    database: DatabaseURI, doctor, monkeypatch: pytest.MonkeyPatch, endless: float, level: str
) -> None:
    monkeypatch.setattr(server_checks, "LONG_TRANSACTION_SECONDS", 0.05)
    monkeypatch.setattr(server_checks, "ENDLESS_TRANSACTION_SECONDS", endless)
    with db.connect(database, application="notebook") as idle:
        idle.execute("SELECT 1")
        time.sleep(0.3)
        _, report = doctor(database)
        pid = idle.info.backend_pid
    [finding] = of(report, "transactions")
    assert finding["level"] == level
    assert f"process {pid} (notebook" in finding["found"]
    assert f"pg_terminate_backend({pid})" in finding["advice"]


@pytest.mark.parametrize(
    ("row", "level"),
    [
        ({"bytes": 10, "seconds": 0.1, "lost": False}, "ok"),
        ({"bytes": 2**31, "seconds": 0.1, "lost": False}, "action"),
        ({"bytes": 10, "seconds": 300.0, "lost": False}, "action"),
        ({"bytes": None, "seconds": None, "lost": True}, "action"),
    ],
)
def test_a_standby_that_is_behind_is_a_finding(
    database: DatabaseURI, conn, row: dict[str, Any], level: str
) -> None:
    class Primary(Patient):
        def rows(self, query: Any, **values: Any) -> list[dict[str, Any]]:
            assert super().rows(query, **values) == []  # the query runs
            return [{"name": "standby b", "advice": "Look at it.", **row}]

    [finding] = server_checks.replication(Primary(conn, database, 4))
    assert (finding.level, finding.check) == (level, "replication")


def test_chunks_are_counted(database: DatabaseURI, conn, doctor, monkeypatch) -> None:
    found = of(doctor(database)[1], "chunks")
    if "timescale" not in facts(conn):
        assert found == []
        return
    assert found[0]["level"] == "ok"
    conn.execute("INSERT INTO experiments (experiment_id, name) VALUES (7, 'e')")
    conn.execute(
        "INSERT INTO runs (run_uuid, name, experiment_id, status, lifecycle_stage)"
        " VALUES ('r', 'r', 7, 'RUNNING', 'active')"
    )
    conn.execute(
        "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan)"
        " SELECT 'r', 'm', 1, i * 2592000000, i, false FROM generate_series(1, 5) i"
    )
    monkeypatch.setattr(checks, "MOST_CHUNKS", 4)
    [finding] = of(doctor(database)[1], "chunks")
    assert finding["level"] == "note"
    assert "metrics 5" in finding["found"]
