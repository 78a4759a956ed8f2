from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from mlflow_timescale import db
from mlflow_timescale.db import migrations
from mlflow_timescale.db.migrations import LAYOUT, Migration, facts, plan, shipped
from mlflow_timescale.db.uri import DatabaseURI

SCHEMA = Migration("base/0001_schema", "CREATE TABLE points (n int)", frozenset())
FILL = Migration("base/0002_fill", "INSERT INTO points VALUES (1)", frozenset())
VIEW = Migration(
    "base/0003_view",
    "CREATE FUNCTION run_count() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM runs'",
    frozenset({"mlflow"}),
)
BROKEN = Migration("base/0004_broken", "CREATE TABLE half (); SELECT 1 / 0", frozenset())

Ship = Callable[..., None]


@pytest.fixture
def ship(monkeypatch: pytest.MonkeyPatch) -> Ship:
    """Pretend that this version ships these migrations."""

    def make(*these: Migration) -> None:
        monkeypatch.setattr(migrations, "shipped", lambda: these)

    return make


@pytest.fixture
def empty(empty_database: DatabaseURI) -> Iterator[psycopg.Connection]:
    with db.connect(empty_database, autocommit=True) as conn:
        yield conn


def names(done: list[Migration]) -> list[str]:
    return [migration.name for migration in done]


def points(conn: psycopg.Connection) -> list[int]:
    return [n for (n,) in conn.execute("SELECT n FROM points ORDER BY n").fetchall()]


def test_migrations_are_applied_once_in_the_order_of_their_numbers(
    empty: psycopg.Connection, ship: Ship
) -> None:
    ship(SCHEMA, FILL)
    assert names(db.migrate(empty)) == ["base/0001_schema", "base/0002_fill"]
    assert db.migrate(empty) == []
    assert points(empty) == [1]


def test_each_is_announced_before_it_is_applied(empty: psycopg.Connection, ship: Ship) -> None:
    ship(SCHEMA, FILL)
    announced: list[tuple[str, int]] = []

    def note(migration: Migration) -> None:
        row = empty.execute("SELECT count(*) FROM mlops.migrations").fetchone()
        announced.append((migration.number, row[0]))

    db.migrate(empty, on_apply=note)
    assert announced == [("0001_schema", 0), ("0002_fill", 1)]


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(
    empty: psycopg.Connection, ship: Ship
) -> None:
    ship(SCHEMA, FILL)
    before = everything(empty)
    assert names(db.migrate(empty, dry_run=True)) == ["base/0001_schema", "base/0002_fill"]
    assert everything(empty) == before


def everything(conn: psycopg.Connection) -> list[tuple[str, str]]:
    return (
        conn.execute("SELECT nspname, 'schema' FROM pg_namespace").fetchall()
        + conn.execute("SELECT extname, 'extension' FROM pg_extension").fetchall()
    )


def test_what_lacks_something_waits_and_is_applied_when_it_is_there(
    empty: psycopg.Connection, ship: Ship
) -> None:
    ship(SCHEMA, VIEW, FILL)
    assert names(db.migrate(empty)) == ["base/0001_schema", "base/0002_fill"]
    assert plan(empty).waiting == {"base/0003_view": frozenset({"mlflow"})}
    for table in ("runs", "metrics", "job_locks"):
        empty.execute(f"CREATE TABLE {table} ()")
    assert names(db.migrate(empty)) == ["base/0003_view"]
    assert plan(empty).waiting == {}


def test_a_failing_migration_leaves_nothing_and_is_named(
    empty: psycopg.Connection, ship: Ship
) -> None:
    ship(SCHEMA, BROKEN)
    with pytest.raises(db.MigrationError, match=r"base/0004_broken failed and was rolled back"):
        db.migrate(empty)
    assert empty.execute("SELECT to_regclass('half')").fetchone() == (None,)
    assert plan(empty).pending == (BROKEN,)
    ship(SCHEMA, replace(BROKEN, sql="CREATE TABLE half ()"))
    assert names(db.migrate(empty)) == ["base/0004_broken"]


def test_after_a_failure_the_next_process_is_not_kept_waiting(
    empty: psycopg.Connection, empty_database: DatabaseURI, ship: Ship
) -> None:
    ship(BROKEN)
    with pytest.raises(db.MigrationError):
        db.migrate(empty)
    with db.connect(empty_database, autocommit=True) as other:
        other.execute("SET lock_timeout = '5s'")
        with db.exclusively(other):
            pass


def test_a_migration_that_was_edited_after_it_was_applied_is_refused(
    empty: psycopg.Connection, ship: Ship
) -> None:
    ship(SCHEMA)
    db.migrate(empty)
    ship(replace(SCHEMA, sql=SCHEMA.sql + " -- edited"), FILL)
    with pytest.raises(db.MigrationError, match=r"base/0001_schema .* never edited"):
        db.migrate(empty)
    assert points(empty) == []


def test_a_database_of_a_newer_version_is_refused(empty: psycopg.Connection, ship: Ship) -> None:
    ship(SCHEMA, FILL)
    db.migrate(empty)
    ship(SCHEMA)
    with pytest.raises(db.MigrationError, match=r"base/0002_fill.* upgrade this installation"):
        db.migrate(empty)


def test_a_migration_outside_a_transaction_may_do_what_a_transaction_forbids(
    empty: psycopg.Connection, ship: Ship
) -> None:
    index = "--! no-transaction\nCREATE INDEX CONCURRENTLY ON points (n)"
    ship(SCHEMA, Migration("base/0002_index", index, frozenset()))
    db.migrate(empty)
    assert empty.execute(
        "SELECT count(*) FROM pg_index WHERE indrelid = 'points'::regclass AND indisvalid"
    ).fetchone() == (1,)


def migrate_at_once(uri: DatabaseURI, barrier: multiprocessing.synchronize.Barrier) -> None:
    with db.connect(uri, autocommit=True) as conn:
        barrier.wait()
        db.migrate(conn)


def prepare_at_once(uri: DatabaseURI, barrier: multiprocessing.synchronize.Barrier) -> None:
    from mlflow.tracking._tracking_service.utils import _get_store

    barrier.wait()
    assert _get_store(uri.url).get_experiment("0").name == "Default"


@pytest.mark.parametrize("what", [migrate_at_once, prepare_at_once])
def test_four_processes_at_once_on_an_empty_database_all_come_up(
    empty_database: DatabaseURI, what: Callable[..., None]
) -> None:
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  # so that the children need not

    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    processes = [context.Process(target=what, args=(empty_database, barrier)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 4
    with db.connect(empty_database) as conn:
        assert plan(conn).pending == ()


def test_metrics_are_laid_out_anew_only_while_they_are_few(
    empty: psycopg.Connection, ship: Ship
) -> None:
    rebuild = Migration(
        "base/0001_rebuild",
        "ALTER TABLE metrics ADD n int",
        frozenset({"mlflow", "metrics_rebuild"}),
    )
    empty.execute("CREATE TABLE job_locks ()")
    empty.execute("CREATE TABLE metrics AS SELECT FROM generate_series(1, 10000)")
    ship(rebuild)
    assert db.migrate(empty) == []
    assert plan(empty).waiting == {"base/0001_rebuild": frozenset({"metrics_rebuild"})}
    assert names(db.migrate(empty, rebuild_metrics=True)) == ["base/0001_rebuild"]


def test_what_builds_on_our_layout_reaches_a_database_that_has_it_however_large(
    empty: psycopg.Connection, ship: Ship
) -> None:
    needs = frozenset({"mlflow", "metrics_rebuild"})
    layout = [
        Migration(name, "SELECT", needs | ({"timescale"} & {name.partition("/")[0]}))
        for name in LAYOUT
    ]
    later = Migration("base/0101_later", "CREATE TABLE later ()", needs)
    empty.execute("CREATE TABLE job_locks ()")
    empty.execute("CREATE TABLE metrics AS SELECT FROM generate_series(1, 10000)")
    ship(*layout)
    assert db.migrate(empty) == []
    db.migrate(empty, rebuild_metrics=True)
    ship(*layout, later)
    assert names(db.migrate(empty)) == ["base/0101_later"]


def test_what_we_ship_is_ordered_by_one_numbering_across_the_tiers() -> None:
    numbers = [migration.number for migration in shipped()]
    assert numbers == sorted(numbers)
    assert len({number[:4] for number in numbers}) == len(numbers)


def test_what_we_ship_needs_what_its_folder_says() -> None:
    for migration in shipped():
        tier = migration.name.partition("/")[0]
        assert ("timescale" in migration.requires) == (tier in ("timescale", "community"))
        assert ("community" in migration.requires) == (tier == "community")


def test_the_facts_name_the_tier(conn: psycopg.Connection) -> None:
    extension = conn.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
    found = facts(conn)
    assert "mlflow" in found
    assert ("timescale" in found) == (extension is not None)


def test_a_role_that_may_not_create_the_extension_still_migrates(
    empty: psycopg.Connection, empty_database: DatabaseURI, ship: Ship
) -> None:
    """Hosted databases: the extension is somebody else's to create."""
    role = f"r_{empty_database.dbname}"
    empty.execute(f"CREATE ROLE {role} NOLOGIN")
    empty.execute(f"GRANT ALL ON DATABASE {empty_database.dbname} TO {role}")
    empty.execute(f"GRANT ALL ON SCHEMA public TO {role}")
    ship(SCHEMA)
    try:
        empty.execute(f"SET ROLE {role}")
        assert names(db.migrate(empty)) == ["base/0001_schema"]
    finally:
        empty.execute("RESET ROLE")
        empty.execute(f"DROP OWNED BY {role}")
        empty.execute(f"DROP ROLE {role}")


def test_a_file_of_sql_says_in_its_first_line_what_it_needs(tmp_path: Path) -> None:
    read = migrations._read("community", "0300_x.sql", "--! requires: mlflow\nSELECT 1;")
    assert read.name == "community/0300_x"
    assert read.requires == {"timescale", "community", "mlflow"}
    assert migrations._read("base", "0300_x.sql", "SELECT 1;").requires == frozenset()
