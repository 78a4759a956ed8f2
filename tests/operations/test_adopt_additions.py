"""What an administrator added to `metrics` is still there after adopting and releasing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from click.testing import CliRunner
from conftest import vanilla_url
from mlflow.entities import Metric
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from support.databases import temporary_roles

from mlflow_timescale import db
from mlflow_timescale.cli.adopt import adopt as adopt_command
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations import rebuild
from mlflow_timescale.operations.adopt import AdoptionError, additions, adopt, release

ADDITIONS = """
ALTER TABLE metrics OWNER TO {service};
GRANT SELECT ON metrics TO {reader} WITH GRANT OPTION;
GRANT UPDATE (value) ON metrics TO {reader};
GRANT SELECT ON metrics TO PUBLIC;
ALTER TABLE metrics SET (autovacuum_vacuum_scale_factor = 0.05, fillfactor = 90);
ALTER TABLE metrics ALTER COLUMN key SET STATISTICS 500;
COMMENT ON TABLE metrics IS 'the team''s numbers';
COMMENT ON COLUMN metrics.value IS 'what was measured';
CREATE INDEX by_value ON metrics (value) WHERE NOT is_nan;
COMMENT ON INDEX by_value IS 'for the dashboard';
ALTER TABLE metrics ADD CONSTRAINT has_key CHECK (key <> '');
CREATE FUNCTION count_point() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER counted AFTER INSERT ON metrics FOR EACH ROW EXECUTE FUNCTION count_point();
CREATE SCHEMA dashboards;
CREATE VIEW dashboards.losses WITH (security_barrier = true) AS
    SELECT run_uuid, value AS loss FROM metrics WHERE key = 'm1';
CREATE VIEW dashboards.best AS SELECT run_uuid, min(loss) AS best FROM dashboards.losses GROUP BY 1;
GRANT SELECT ON dashboards.losses TO {reader};
CREATE VIEW dashboards.plain AS SELECT count(*) AS points FROM metrics;
COMMENT ON VIEW dashboards.losses IS 'shown on the wall';
CREATE FUNCTION points_of(run text) RETURNS bigint LANGUAGE sql STABLE
    BEGIN ATOMIC SELECT count(*) FROM metrics WHERE run_uuid = run; END;
CREATE MATERIALIZED VIEW dashboards.totals AS
    SELECT run_uuid, sum(value) AS total FROM metrics WHERE key = 'm1' GROUP BY 1;
CREATE UNIQUE INDEX totals_of_run ON dashboards.totals (run_uuid);
GRANT SELECT ON dashboards.totals TO {reader};
COMMENT ON MATERIALIZED VIEW dashboards.totals IS 'refreshed at night';
COMMENT ON COLUMN dashboards.totals.total IS 'of m1';
ALTER MATERIALIZED VIEW dashboards.totals OWNER TO {service};
ALTER TABLE metrics REPLICA IDENTITY FULL;
"""
# What only a table has, not a hypertable of the Community edition.
POLICIES = """
ALTER TABLE metrics ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_the_team ON metrics AS RESTRICTIVE FOR SELECT TO {reader}, {service}
    USING (run_uuid IN (SELECT run_uuid FROM runs WHERE name <> 'secret'));
CREATE POLICY everyone ON metrics WITH CHECK (key <> 'forbidden');
"""
PUBLICATIONS = """
CREATE PUBLICATION mine FOR TABLE metrics (run_uuid, key, step, timestamp, value, is_nan)
    WHERE (is_nan = false);
"""
STATE = """
SELECT 'owner', relowner::regrole::text FROM pg_class WHERE oid = 'metrics'::regclass
UNION ALL SELECT 'grant', acl::text FROM pg_class, unnest(relacl) AS acl
    WHERE oid = 'metrics'::regclass
UNION ALL SELECT 'column grant', attname || attacl::text FROM pg_attribute
    WHERE attrelid = 'metrics'::regclass AND attacl IS NOT NULL
UNION ALL SELECT 'statistics', attname || attstattarget FROM pg_attribute
    WHERE attrelid = 'metrics'::regclass AND attnum > 0 AND attstattarget >= 0
UNION ALL SELECT 'option', option FROM pg_class, unnest(reloptions) AS option
    WHERE oid = 'metrics'::regclass
UNION ALL SELECT 'comment', objsubid || description FROM pg_description
    WHERE objoid = 'metrics'::regclass AND classoid = 'pg_class'::regclass
UNION ALL SELECT 'index', indexdef || obj_description(('public.' || indexname)::regclass)
    FROM pg_indexes WHERE indexname = 'by_value' AND schemaname = 'public'
UNION ALL SELECT 'check', pg_get_constraintdef(oid) FROM pg_constraint
    WHERE conrelid = 'metrics'::regclass AND conname = 'has_key'
UNION ALL SELECT 'trigger', pg_get_triggerdef(oid) FROM pg_trigger
    WHERE tgrelid = 'metrics'::regclass AND tgname = 'counted'
UNION ALL SELECT 'view', relname || relowner::regrole::text || coalesce(relacl::text, '')
        || coalesce(reloptions::text, '') || coalesce(obj_description(oid), '')
        || pg_get_viewdef(oid)
    FROM pg_class WHERE relnamespace = 'dashboards'::regnamespace AND relkind IN ('v', 'm')
UNION ALL SELECT 'index', indexdef FROM pg_indexes WHERE schemaname = 'dashboards'
UNION ALL SELECT 'comment', description FROM pg_description
    WHERE objoid = 'dashboards.totals'::regclass AND objsubid > 0
UNION ALL SELECT 'replica identity', relreplident::text FROM pg_class
    WHERE oid = 'metrics'::regclass
UNION ALL SELECT 'row security', relrowsecurity || ' ' || relforcerowsecurity
    FROM pg_class WHERE oid = 'metrics'::regclass
UNION ALL SELECT 'policy', row(policyname, permissive, roles, cmd, qual, with_check)::text
    FROM pg_policies WHERE tablename = 'metrics'
UNION ALL SELECT 'publication', row(pubname, attnames, rowfilter)::text
    FROM pg_publication_tables WHERE tablename = 'metrics'
ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Decorated:
    """A database whose `metrics` has something of everything, and the roles of it."""

    uri: DatabaseURI
    service: str
    reader: str


@pytest.fixture
def decorated(vanilla_database: DatabaseURI) -> Iterator[Decorated]:
    store = SqlAlchemyStore(vanilla_url(vanilla_database), "/artifacts")
    run = store.create_run("0", "me", 1, [], "run").info.run_id
    with (
        db.connect(vanilla_database, autocommit=True) as conn,
        temporary_roles(conn, "service", "reader") as [service, reader],
    ):
        conn.execute(
            "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan)"
            " SELECT %s, 'm' || i %% 2, i, i, i, false FROM generate_series(1, 10000) i",
            [run],
        )
        tables = conn.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'metrics'"
        ).fetchall()
        for (table,) in tables:
            conn.execute(f'ALTER TABLE "{table}" OWNER TO {service}')
        conn.execute(ADDITIONS.format(service=service, reader=reader))
        yield Decorated(vanilla_database, service, reader)


def state(conn: psycopg.Connection) -> list[tuple[str, str]]:
    return conn.execute(STATE).fetchall()


def test_additions_survive_adoption_and_release(decorated: Decorated) -> None:
    with db.connect(decorated.uri, autocommit=True) as conn:
        before = state(conn)
        assert {kind for kind, _ in before} >= {"owner", "grant", "option", "index", "view"}
        for convert in (adopt, release, adopt):
            convert(conn)
            assert state(conn) == before, convert.__name__
            assert conn.execute("SELECT best FROM dashboards.best").fetchone() == (1.0,)
            total = conn.execute("SELECT total FROM dashboards.totals").fetchone()
            assert total == (25_000_000.0,)
            conn.execute("INSERT INTO metrics SELECT 'm1', -1, 5, run_uuid, 5, false FROM runs")
            assert conn.execute("SELECT best FROM dashboards.best").fetchone() == (-1.0,)
            count = conn.execute("SELECT points_of(run_uuid) FROM runs").fetchone()
            assert count == (10_001,)
            conn.execute("DELETE FROM metrics WHERE value = -1")


def test_policies_and_publications_survive(decorated: Decorated) -> None:
    with db.connect(decorated.uri, autocommit=True) as conn:
        conn.execute(POLICIES.format(service=decorated.service, reader=decorated.reader))
        on_timescale = rebuild.makes_hypertables(conn)
        if not on_timescale:
            conn.execute(PUBLICATIONS)
        before = state(conn)
        assert {kind for kind, _ in before} >= {"policy"} | (
            set() if on_timescale else {"publication"}
        )
        if obstacles := additions(conn, to_ours=True).obstacles:
            [obstacle] = obstacles
            assert "compressed chunks" in obstacle
            return
        for convert in (adopt, release, adopt):
            convert(conn)
            assert state(conn) == before, convert.__name__


def test_row_security_that_hides_points_is_an_obstacle(decorated: Decorated) -> None:
    with db.connect(decorated.uri, autocommit=True) as conn:
        conn.execute(POLICIES.format(service=decorated.service, reader=decorated.reader))
        conn.execute("ALTER TABLE metrics FORCE ROW LEVEL SECURITY")
        conn.execute(f"SET ROLE {decorated.service}")
        obstacles = additions(conn, to_ours=True).obstacles
        assert any("hides points from this role" in obstacle for obstacle in obstacles)
        conn.execute("RESET ROLE")


def test_the_role_that_owns_metrics_goes_on_writing(decorated: Decorated) -> None:
    """Through MLflow's own store and through ours, while an administrator converts."""
    with db.connect(decorated.uri, autocommit=True) as admin:
        adopt(admin)
        [[run]] = admin.execute("SELECT run_uuid FROM runs").fetchall()
        admin.execute(f"SET ROLE {decorated.service}")
        admin.execute(
            "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan)"
            " VALUES (%s, 'written', 1, 1, 1, false)",
            [run],
        )
        admin.execute("SELECT mlops.log_metric(%s, NULL, 'through ours', 1, 2, 2, false)", [run])
        admin.execute("RESET ROLE")
        release(admin)
        admin.execute(f"SET ROLE {decorated.service}")
        admin.execute("DELETE FROM metrics WHERE key = 'written'")


def test_a_dry_run_names_what_is_carried_over(decorated: Decorated) -> None:
    result = CliRunner().invoke(
        adopt_command, ["--uri", decorated.uri.url, "--dry-run"], catch_exceptions=False
    )
    for line in (
        f"carries over: owner {decorated.service}",
        f"carries over: grant SELECT to {decorated.reader}",
        "carries over: index by_value",
        "carries over: trigger counted",
        "carries over: view dashboards.losses",
        "carries over: materialized view dashboards.totals",
        "carries over: replica identity full",
        "carries over: storage options autovacuum_vacuum_scale_factor=0.05, fillfactor=90",
    ):
        assert line in result.output
    assert "cannot" not in result.output


OBSTACLES = {
    "ALTER TABLE metrics ADD COLUMN note text": "column note",
    "CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM metrics;"
    "CREATE VIEW total AS SELECT * FROM totals": "view total, which reads materialized view",
    "CREATE FUNCTION f(m metrics) RETURNS int LANGUAGE sql AS 'SELECT 1'": "function f",
    "CREATE RULE quiet AS ON DELETE TO metrics DO INSTEAD NOTHING": "rule quiet",
    "CREATE TABLE notes (LIKE metrics, FOREIGN KEY (key, timestamp, step, run_uuid, value, is_nan)"
    " REFERENCES metrics)": "constraint notes_",
}


@pytest.mark.parametrize(("statement", "obstacle"), OBSTACLES.items(), ids=OBSTACLES.values())
def test_what_cannot_be_carried_over_is_named_before_anything_changes(
    vanilla_database: DatabaseURI, statement: str, obstacle: str
) -> None:
    with db.connect(vanilla_database, autocommit=True) as conn:
        conn.execute(statement)
        arguments = ["--uri", vanilla_database.url, "--dry-run"]
        result = CliRunner().invoke(adopt_command, arguments, catch_exceptions=False)
        assert f"cannot carry over: {obstacle}" in result.output
        with pytest.raises(AdoptionError, match=obstacle):
            adopt(conn)
        assert conn.execute("SELECT to_regnamespace('mlops')").fetchone() == (None,)


def test_our_store_writes_after_an_adoption(decorated: Decorated) -> None:
    from mlflow_timescale.tracking.store import TimescaleTrackingStore

    with db.connect(decorated.uri, autocommit=True) as conn:
        adopt(conn)
        [[run]] = conn.execute("SELECT run_uuid FROM runs").fetchall()
    store = TimescaleTrackingStore(decorated.uri.url, "/artifacts")
    store.log_metric(run, Metric("m1", 1.0, 20_000, 20_000))
    assert len(store.get_metric_history(run, "m1")) == 5001
