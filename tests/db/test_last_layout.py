"""Databases of the last layout before the baselines are carried over with everything in them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from mlflow.exceptions import MlflowException
from psycopg import sql

from mlflow_timescale import db
from mlflow_timescale.db.migrations import facts, plan
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.adopt import adopt
from mlflow_timescale.schema import prepare

pytestmark = pytest.mark.slow

FILES = Path(__file__).with_name("last_layout")
LEDGERS = ("migrations", "definitions", "schema_state")
CATALOG = """
SELECT 'column', table_schema, table_name, column_name, data_type, is_nullable,
    coalesce(column_default, '') || ordinal_position
FROM information_schema.columns WHERE table_schema IN ('public', 'mlops')
UNION ALL
SELECT 'index', schemaname, tablename, indexname, indexdef, '', ''
FROM pg_indexes WHERE schemaname IN ('public', 'mlops')
UNION ALL
SELECT 'constraint', connamespace::regnamespace::text, conrelid::regclass::text, conname,
    pg_get_constraintdef(oid), '', ''
FROM pg_constraint WHERE connamespace::regnamespace::text IN ('public', 'mlops')
UNION ALL
SELECT 'function', 'mlops', proname, oid::regprocedure::text, pg_get_functiondef(oid), '', ''
FROM pg_proc WHERE pronamespace = 'mlops'::regnamespace
UNION ALL
SELECT 'trigger', '', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid), '', ''
FROM pg_trigger WHERE NOT tgisinternal
    AND tgrelid::regclass::text !~ '^_timescaledb_internal' AND tgname !~ '^ts_'
UNION ALL
SELECT 'view', schemaname, viewname, definition, '', '', ''
FROM pg_views WHERE schemaname IN ('public', 'mlops')
UNION ALL
SELECT 'options', relnamespace::regnamespace::text, relname, reloptions::text, '', '', ''
FROM pg_class WHERE relkind = 'r' AND relnamespace::regnamespace::text IN ('public', 'mlops')
ORDER BY 1, 2, 3, 4, 5
"""
HYPERTABLES = """
SELECT hypertable_schema, hypertable_name, column_name, time_interval::text, integer_interval,
    compression_enabled
FROM timescaledb_information.dimensions
JOIN timescaledb_information.hypertables USING (hypertable_schema, hypertable_name)
ORDER BY 1, 2
"""


def apply_last_layout(conn: psycopg.Connection, *, rebuild_metrics: bool = True) -> None:
    """Migrate as the last version with numbered migrations did."""
    conn.execute("CREATE SCHEMA mlops")
    conn.execute(
        "CREATE TABLE mlops.migrations (name text PRIMARY KEY, sha256 text NOT NULL, applied_at "
        "timestamptz NOT NULL DEFAULT clock_timestamp(), applied_by text NOT NULL DEFAULT "
        "session_user)"
    )
    if conn.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'").fetchone():
        conn.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    offered = {"base", *facts(conn)} | ({"metrics_rebuild"} if rebuild_metrics else set())
    for path in sorted(FILES.glob("*/*.sql"), key=lambda path: path.name):
        text = path.read_text(encoding="utf-8")
        header = re.match(r"--! requires:(.*)", text)
        if {path.parent.name, *(header.group(1).split() if header else ())} <= offered:
            conn.execute(text.encode())
            conn.execute(
                "INSERT INTO mlops.migrations (name, sha256) VALUES (%s, %s)",
                [f"{path.parent.name}/{path.stem}", hashlib.sha256(text.encode()).hexdigest()],
            )


@pytest.fixture
def last_layout(vanilla_database: DatabaseURI) -> Iterator[psycopg.Connection]:
    """A connection to a filled database of the last layout."""
    with db.connect(vanilla_database, autocommit=True) as conn:
        apply_last_layout(conn)
        conn.execute((FILES / "fill.sql").read_bytes())
        yield conn


def contents(conn: psycopg.Connection) -> dict[str, list[str]]:
    """Every row of every table, without what the runner itself keeps.

    Columns without a value are left out, so that a column that came later makes no difference.
    """
    tables = conn.execute(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'mlops')"
    ).fetchall()
    query = sql.SQL("SELECT jsonb_strip_nulls(to_jsonb(t))::text FROM {} AS t ORDER BY 1")
    return {
        f"{schema}.{table}": [
            row for (row,) in conn.execute(query.format(sql.Identifier(schema, table)))
        ]
        for schema, table in tables
        if table not in LEDGERS
    }


def catalog(conn: psycopg.Connection) -> list[tuple[str, ...]]:
    found = conn.execute(CATALOG).fetchall()
    if "timescale" in facts(conn):
        found += conn.execute(HYPERTABLES).fetchall()
    return found


def test_a_database_of_the_last_layout_keeps_its_data_and_gets_todays_catalog(
    last_layout: psycopg.Connection, conn: psycopg.Connection
) -> None:
    before = contents(last_layout)
    assert len(before["public.metrics"]) == 3000
    db.migrate(last_layout)
    after = contents(last_layout)
    assert {table: after[table] for table in before} == before
    assert catalog(last_layout) == catalog(conn)
    assert not plan(last_layout)
    assert db.migrate(last_layout) == []


def test_triggers_and_views_work_after_the_migration(last_layout: psycopg.Connection) -> None:
    db.migrate(last_layout)
    last_layout.execute("UPDATE registered_model_aliases SET version = 1")
    moved = last_layout.execute("SELECT version, ended FROM mlops.alias_history ORDER BY 1, 2")
    assert moved.fetchall() == [(1, "changed"), (1, None), (2, "changed")]
    last_layout.execute(
        "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan)"
        " SELECT md5('run4'), 'm', n, n, n, false FROM generate_series(1, 600) AS n"
    )
    marks = last_layout.execute(
        "SELECT count(*) FROM mlops.metric_marks WHERE run_uuid = md5('run4')"
    )
    assert marks.fetchone() == (4,)
    version = last_layout.execute("SELECT version, aliases FROM mlops.models ORDER BY 1").fetchall()
    assert version == [(1, ["champion"]), (2, [])]


def test_a_client_does_not_carry_over_a_shared_database_by_itself(
    last_layout: psycopg.Connection, vanilla_database: DatabaseURI, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = not vanilla_database.embedded
    if shared:
        with pytest.raises(MlflowException, match=r"runs `mlflow-timescale migrate` once"):
            prepare(vanilla_database.url)
        assert not db.read_state(last_layout)
        monkeypatch.setenv("MLFLOW_TIMESCALE_MIGRATE", "auto")
    prepare(vanilla_database.url)
    assert db.read_state(last_layout)


def test_a_large_database_that_was_never_adopted_is_carried_over_and_can_be_adopted(
    vanilla_database: DatabaseURI, conn: psycopg.Connection
) -> None:
    with db.connect(vanilla_database, autocommit=True) as large:
        apply_last_layout(large, rebuild_metrics=False)
        large.execute((FILES / "fill.sql").read_bytes())
        large.execute(
            "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan)"
            " SELECT md5('run4'), 'm', n, n, n, false FROM generate_series(1, 10000) AS n"
        )
        before = contents(large)
        db.migrate(large)
        after = contents(large)
        assert {table: after[table] for table in before} == before
        assert "tracking/002_metrics_layout" in plan(large).waiting
        adopt(large)
        assert catalog(large) == catalog(conn)
        assert contents(large)["public.metrics"] == before["public.metrics"]


def test_a_database_of_an_even_older_layout_is_refused_before_it_is_touched(
    last_layout: psycopg.Connection,
) -> None:
    last_layout.execute("DELETE FROM mlops.migrations WHERE name = 'base/0108_charts'")
    before = contents(last_layout)
    with pytest.raises(db.MigrationError, match=r"lacks base/0108_charts"):
        db.migrate(last_layout)
    assert contents(last_layout) == before
    assert not db.read_state(last_layout)
