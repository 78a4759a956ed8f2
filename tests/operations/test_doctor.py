"""`mlflow-timescale doctor`: healthy databases, and each fault with its advice."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from mlflow_timescale import db
from mlflow_timescale.cli import main
from mlflow_timescale.db.migrations import facts
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.doctor import Finding, Patient, clock, examine

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
