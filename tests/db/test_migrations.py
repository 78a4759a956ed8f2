from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby

import psycopg
import pytest

from mlflow_timescale import db
from mlflow_timescale.db import migrations
from mlflow_timescale.db.migrations import LAYOUT, drop_definitions, facts, plan, shipped
from mlflow_timescale.db.schema_files import TIERS, Definition, Migration, _requires, definitions
from mlflow_timescale.db.uri import DatabaseURI

SCHEMA = Migration("tracking/001_schema", "CREATE TABLE points (n int)", "tracking")
FILL = Migration("tracking/002_fill", "INSERT INTO points VALUES (1)", "tracking")
VIEW = Migration(
    "tracking/003_view",
    "CREATE FUNCTION run_count() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM runs'",
    "tracking",
    requires=frozenset({"mlflow"}),
)
BROKEN = Migration("tracking/004_broken", "CREATE TABLE half (); SELECT 1 / 0", "tracking")

Ship = Callable[..., None]


@pytest.fixture
def ship(monkeypatch: pytest.MonkeyPatch) -> Ship:
    """Pretend that this version ships these migrations."""

    def make(*these: Migration) -> None:
        monkeypatch.setattr(migrations, "shipped", lambda: these)
        monkeypatch.setattr(migrations, "definitions", lambda: ())

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
    assert names(db.migrate(empty)) == ["tracking/001_schema", "tracking/002_fill"]
    assert db.migrate(empty) == []
    assert points(empty) == [1]


def test_each_is_announced_before_it_is_applied(empty: psycopg.Connection, ship: Ship) -> None:
    ship(SCHEMA, FILL)
    announced: list[tuple[str, int]] = []

    def note(migration: Migration) -> None:
        row = empty.execute("SELECT count(*) FROM mlops.migrations").fetchone()
        announced.append((migration.name, row[0]))

    db.migrate(empty, on_apply=note)
    assert announced == [("tracking/001_schema", 0), ("tracking/002_fill", 1)]


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(
    empty: psycopg.Connection, ship: Ship
) -> None:
    ship(SCHEMA, FILL)
    before = everything(empty)
    assert names(db.migrate(empty, dry_run=True)) == ["tracking/001_schema", "tracking/002_fill"]
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
    assert names(db.migrate(empty)) == ["tracking/001_schema", "tracking/002_fill"]
    assert plan(empty).waiting == {"tracking/003_view": frozenset({"mlflow"})}
    for table in ("runs", "metrics", "job_locks"):
        empty.execute(f"CREATE TABLE {table} ()")
    assert names(db.migrate(empty)) == ["tracking/003_view"]
    assert plan(empty).waiting == {}


def test_a_failing_migration_leaves_nothing_and_is_named(
    empty: psycopg.Connection, ship: Ship
) -> None:
    ship(SCHEMA, BROKEN)
    with pytest.raises(db.MigrationError, match=r"tracking/004_broken failed and was rolled back"):
        db.migrate(empty)
    assert empty.execute("SELECT to_regclass('half')").fetchone() == (None,)
    assert plan(empty).pending == (BROKEN,)
    ship(SCHEMA, replace(BROKEN, sql="CREATE TABLE half ()"))
    assert names(db.migrate(empty)) == ["tracking/004_broken"]


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
    with pytest.raises(db.MigrationError, match=r"tracking/001_schema .* never edited"):
        db.migrate(empty)
    assert points(empty) == []


def test_a_database_of_a_newer_version_is_refused(empty: psycopg.Connection, ship: Ship) -> None:
    ship(SCHEMA, FILL)
    db.migrate(empty)
    ship(SCHEMA)
    with pytest.raises(db.MigrationError, match=r"tracking/002_fill.* upgrade this installation"):
        db.migrate(empty)


def test_a_migration_outside_a_transaction_may_do_what_a_transaction_forbids(
    empty: psycopg.Connection, ship: Ship
) -> None:
    index = "--! no-transaction\nCREATE INDEX CONCURRENTLY ON points (n)"
    ship(SCHEMA, Migration("tracking/002_index", index, "tracking"))
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


@pytest.mark.slow
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
        "tracking/001_rebuild",
        "ALTER TABLE metrics ADD n int",
        "tracking",
        requires=frozenset({"mlflow", "metrics_rebuild"}),
    )
    empty.execute("CREATE TABLE job_locks ()")
    empty.execute("CREATE TABLE runs ()")
    empty.execute("CREATE TABLE metrics AS SELECT FROM generate_series(1, 10000)")
    ship(rebuild)
    assert db.migrate(empty) == []
    assert plan(empty).waiting == {"tracking/001_rebuild": frozenset({"metrics_rebuild"})}
    assert names(db.migrate(empty, rebuild_metrics=True)) == ["tracking/001_rebuild"]


def test_what_builds_on_our_layout_reaches_a_database_that_has_it_however_large(
    empty: psycopg.Connection, ship: Ship
) -> None:
    needs = frozenset({"mlflow", "metrics_rebuild"})
    layout = [
        replace(migration, sql="SELECT") for migration in shipped() if migration.name in LAYOUT
    ]
    later = Migration("tracking/101_later", "CREATE TABLE later ()", "tracking", requires=needs)
    empty.execute("CREATE TABLE job_locks ()")
    empty.execute("CREATE TABLE runs ()")
    empty.execute("CREATE TABLE metrics AS SELECT FROM generate_series(1, 10000)")
    ship(*layout)
    assert db.migrate(empty) == []
    db.migrate(empty, rebuild_metrics=True)
    ship(*layout, later)
    assert names(db.migrate(empty)) == ["tracking/101_later"]


def test_what_we_ship_is_ordered_by_one_numbering_across_the_tiers_of_an_area() -> None:
    for _, group in groupby(shipped(), key=lambda migration: migration.area):
        numbers = [migration.name.rpartition("/")[2][:3] for migration in group]
        assert numbers == [f"{n:03}" for n in range(1, len(numbers) + 1)]


def test_what_we_ship_needs_what_its_folder_names() -> None:
    for item in (*shipped(), *definitions()):
        assert item.requires & {*TIERS} == {*TIERS[1 : TIERS.index(item.tier) + 1]}


def test_numbered_migrations_define_no_function_trigger_or_view() -> None:
    defines = re.compile(
        r"\b(CREATE|DROP)\s+(OR REPLACE\s+)?(FUNCTION|PROCEDURE|TRIGGER|VIEW)\b", re.I
    )
    assert [item.name for item in shipped() if defines.search(item.sql)] == []


def test_every_function_trigger_and_view_has_one_definition_in_each_tier() -> None:
    made = Counter(
        (item.tier, *match)
        for item in definitions()
        for match in re.findall(r"CREATE OR REPLACE (FUNCTION|VIEW) (mlops\.\w+)", item.sql)
    )
    assert set(made.values()) == {1}


def test_the_facts_name_the_tier(conn: psycopg.Connection) -> None:
    extension = conn.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
    found = facts(conn)
    assert "mlflow" in found
    assert ("timescale" in found) == (extension is not None)


def test_a_role_that_may_not_create_the_extension_still_migrates(
    empty: psycopg.Connection, empty_database: DatabaseURI, ship: Ship
) -> None:
    """Hosted databases: only another role may create the extension."""
    role = f"r_{empty_database.dbname}"
    empty.execute(f"CREATE ROLE {role} NOLOGIN")
    empty.execute(f"GRANT ALL ON DATABASE {empty_database.dbname} TO {role}")
    empty.execute(f"GRANT ALL ON SCHEMA public TO {role}")
    ship(SCHEMA)
    try:
        empty.execute(f"SET ROLE {role}")
        assert names(db.migrate(empty)) == ["tracking/001_schema"]
    finally:
        empty.execute("RESET ROLE")
        empty.execute(f"DROP OWNED BY {role}")
        empty.execute(f"DROP ROLE {role}")


def test_the_header_of_a_file_lists_what_it_needs() -> None:
    header = "--! requires: mlflow functions\n--! oldest-client: 3\n--! no-transaction\nSELECT 1;"
    assert _requires("community", header) == {"timescale", "community", "mlflow", "functions"}
    assert _requires("base", "SELECT 1;") == frozenset()
    migration = Migration("tracking/001_x", header, "tracking")
    assert (migration.oldest_client, migration.in_transaction) == (3, False)
    assert Migration("tracking/001_x", "SELECT 1;", "tracking").oldest_client == 1


def test_a_definition_is_applied_again_when_its_text_changes_and_drops_with_its_area(
    empty: psycopg.Connection, ship: Ship, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = "CREATE OR REPLACE FUNCTION mlops.answer() RETURNS int LANGUAGE sql AS 'SELECT 41'"
    view = "CREATE OR REPLACE VIEW mlops.answers AS SELECT mlops.answer()"
    ship(SCHEMA)

    def define(text: str) -> None:
        these = (
            Definition("tracking/functions/answer", text, "tracking"),
            Definition("tracking/views/answers", view, "tracking", kind="views"),
        )
        monkeypatch.setattr(migrations, "definitions", lambda: these)

    define(first)
    assert names(db.migrate(empty)) == [
        "tracking/001_schema",
        "tracking/functions/answer",
        "tracking/views/answers",
    ]
    assert db.migrate(empty) == []
    define(first.replace("41", "42"))
    assert names(db.migrate(empty)) == ["tracking/functions/answer"]
    assert empty.execute("SELECT * FROM mlops.answers").fetchone() == (42,)
    objects = empty.execute("SELECT objects FROM mlops.definitions ORDER BY name").fetchall()
    assert objects == [(["FUNCTION mlops.answer()"],), (["VIEW mlops.answers"],)]
    drop_definitions(empty, "tracking")
    assert empty.execute("SELECT to_regproc('mlops.answer')").fetchone() == (None,)
    assert names(db.migrate(empty)) == ["tracking/functions/answer", "tracking/views/answers"]


def test_a_definition_that_fails_leaves_the_earlier_ones(
    empty: psycopg.Connection, ship: Ship, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship()
    good = "CREATE OR REPLACE FUNCTION mlops.a() RETURNS int LANGUAGE sql AS 'SELECT 1'"
    these = (Definition("tracking/functions/a", good), Definition("tracking/functions/b", "SELEC"))
    monkeypatch.setattr(migrations, "definitions", lambda: these)
    with pytest.raises(db.MigrationError, match=r"definition tracking/functions/b failed, and all"):
        db.migrate(empty)
    assert empty.execute("SELECT to_regproc('mlops.a')").fetchone() == (None,)


def test_a_set_up_that_was_interrupted_goes_on_without_consent(empty: psycopg.Connection) -> None:
    steps: list[Migration | Definition] = []

    def interrupt(step: Migration | Definition) -> None:
        if len(steps) == 3:
            raise KeyboardInterrupt
        steps.append(step)

    with pytest.raises(KeyboardInterrupt):
        db.migrate(empty, on_apply=interrupt)
    assert db.read_state(empty) is None
    db.ensure(empty, DatabaseURI("trading", host="db.example.com"))
    state = db.read_state(empty)
    assert state is not None
    assert state.revision == migrations.REVISION
    assert not plan(empty)
