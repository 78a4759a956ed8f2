"""Adopting plain MLflow's database, and releasing it again."""

from __future__ import annotations

import math

import pytest
from click.testing import CliRunner
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import text
from support.databases import vanilla_url

from mlflow_timescale import db
from mlflow_timescale.cli.adopt import adopt, release
from mlflow_timescale.operations import adopt as module
from mlflow_timescale.operations import rebuild
from mlflow_timescale.tracking.store import TimescaleTrackingStore

STRUCTURE = """
SELECT 'column', attname, format_type(atttypid, atttypmod), attnotnull::text
FROM pg_attribute WHERE attrelid = 'metrics'::regclass AND attnum > 0 AND NOT attisdropped
UNION ALL
SELECT 'constraint', conname, pg_get_constraintdef(oid), '' FROM pg_constraint
WHERE conrelid = 'metrics'::regclass AND contype <> 'n'
UNION ALL
SELECT 'index', indexname, indexdef, '' FROM pg_indexes WHERE tablename IN ('metrics', 'runs')
UNION ALL
SELECT 'trigger', tgname, '', '' FROM pg_trigger
WHERE tgrelid IN ('metrics'::regclass, 'runs'::regclass) AND NOT tgisinternal
ORDER BY 1, 2, 3
"""


def log_runs(store, runs=30, points=400):
    ids = []
    for number in range(runs):
        run = store.create_run("0", "me", 1, [RunTag("a", "b")], f"run {number}").info.run_id
        with store.ManagedSessionMaker(read_only=False) as session:
            session.execute(
                text(
                    "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan)"
                    " SELECT :run, 'm' || (i % 3), i, 1600000000000 + i * 60000000, i, false"
                    " FROM generate_series(1, CAST(:points AS bigint)) i"
                ),
                {"run": run, "points": points},
            )
        store.log_batch(run, [Metric("nan", math.nan, 5, 0)], [Param("p", "1")], [])
        ids.append(run)
    return ids


def histories(store, ids):
    return [
        [(m.value, m.timestamp, m.step) for m in store.get_metric_history(run, "m1")] for run in ids
    ]


@pytest.fixture
def vanilla(vanilla_database):
    """A database as plain MLflow makes it, and plain MLflow's store on it."""
    return vanilla_database, SqlAlchemyStore(vanilla_url(vanilla_database), "/artifacts")


def structure(uri):
    with db.connect(uri) as conn:
        return conn.execute(STRUCTURE).fetchall()


@pytest.mark.slow
def test_adoption_and_release_lose_nothing_and_end_where_they_began(vanilla):
    uri, store = vanilla
    ids = log_runs(store)
    before, plain = histories(store, ids), structure(uri)

    result = CliRunner().invoke(adopt, ["--uri", uri.url, "--dry-run"])
    assert "about" in result.output, result.output
    assert structure(uri) == plain

    result = CliRunner().invoke(adopt, ["--uri", uri.url], catch_exceptions=False)
    assert "done" in result.output
    ours = TimescaleTrackingStore(uri.url, "/artifacts")
    assert histories(ours, ids) == before
    key = {row[1]: row[2] for row in structure(uri) if row[0] == "constraint"}["metric_pk"]
    assert key.startswith("PRIMARY KEY (run_uuid, key, step")
    with db.connect(uri) as conn:
        assert (
            conn.execute("SELECT count(DISTINCT run_uuid) FROM mlops.run_ranges").fetchone()[0]
            == 30
        )
    ours.log_batch(ids[0], [Metric("m1", 9.0, 2_000_000_000_000, 9999)], [], [])

    CliRunner().invoke(release, ["--uri", uri.url], catch_exceptions=False)
    assert structure(uri) == plain
    before[0].append((9.0, 2_000_000_000_000, 9999))
    assert histories(store, ids) == before
    store.log_metric(ids[0], Metric("m1", 9.0, 2_000_000_000_000, 10_000))


def functions(uri):
    """What our schema holds beside tables, with the triggers on MLflow's."""
    with db.connect(uri) as conn:
        return conn.execute(
            "SELECT oid::regprocedure::text FROM pg_proc"
            " WHERE pronamespace = 'mlops'::regnamespace"
            " UNION ALL SELECT tgname || ' on ' || tgrelid::regclass FROM pg_trigger"
            " WHERE NOT tgisinternal AND tgname ~ '^mlops' AND tgrelid::regclass::text !~ '_hyper_'"
            " ORDER BY 1"
        ).fetchall()


@pytest.mark.slow
def test_adopting_again_after_a_release_ends_where_the_first_adoption_did(vanilla, database):
    uri, store = vanilla
    ids = log_runs(store)
    before, plain = histories(store, ids), structure(uri)
    with db.connect(uri, autocommit=True) as conn:
        module.adopt(conn)
        assert functions(uri) == functions(database)
        module.release(conn)
        assert structure(uri) == plain
        left = [name for (name,) in functions(uri) if "log_" in name or "point" in name]
        assert left == []
        module.adopt(conn)
    assert functions(uri) == functions(database)
    assert structure(uri) == structure(database)
    assert histories(TimescaleTrackingStore(uri.url, "/artifacts"), ids) == before


def test_a_client_of_a_released_database_is_told_so(vanilla):
    uri, store = vanilla
    log_runs(store, runs=1)
    with db.connect(uri, autocommit=True) as conn:
        module.adopt(conn)
        module.release(conn)
    with pytest.raises(MlflowException, match="was released to plain MLflow: use its postgresql"):
        TimescaleTrackingStore(uri.url, "/artifacts")


@pytest.mark.slow
def test_an_interrupted_adoption_goes_on_and_sees_what_was_written_meanwhile(vanilla, monkeypatch):
    uri, store = vanilla
    ids = log_runs(store)
    monkeypatch.setattr(rebuild, "_MOST_RUNS_AT_ONCE", 10)

    def interrupt(done, total):
        if done >= 10:
            raise KeyboardInterrupt

    with db.connect(uri, autocommit=True) as conn:
        with pytest.raises(KeyboardInterrupt):
            module.adopt(conn, progress=interrupt)
        assert not module.layout(conn).ours
        # MLflow goes on: to a run that was copied, to one that was not, and with a new one.
        for run in (sorted(ids)[0], sorted(ids)[-1]):
            store.log_metric(run, Metric("m1", 7.0, 1_900_000_000_000, 7777))
        store.delete_run(sorted(ids)[1])
        store._hard_delete_run(sorted(ids)[1])
        ids.remove(sorted(ids)[1])
        ids += log_runs(store, runs=1)
        before = histories(store, ids)
        seen = []
        module.adopt(conn, progress=lambda done, total: seen.append(done))
        assert seen[0] >= 10  # not from the beginning
        assert module.layout(conn).ours
        assert conn.execute("SELECT to_regclass('mlops.metrics_next')").fetchone() == (None,)
    assert histories(TimescaleTrackingStore(uri.url, "/artifacts"), ids) == before


@pytest.mark.slow
def test_a_copy_that_differs_stops_the_adoption_and_changes_nothing(vanilla, monkeypatch):
    uri, store = vanilla
    ids = log_runs(store)
    before, plain = histories(store, ids), structure(uri)
    with db.connect(uri, autocommit=True) as conn:
        honest = rebuild._summary
        monkeypatch.setattr(
            rebuild,
            "_summary",
            lambda conn, table, runs: (
                honest(conn, table, runs) if table == "metrics" else {sorted(ids)[0]: (1, 1)}
            ),
        )
        with pytest.raises(module.AdoptionError, match=r"differs from its original.*\(1, 1\)"):
            module.adopt(conn)
        monkeypatch.undo()
        assert not module.layout(conn).ours
        assert histories(store, ids) == before
        module.adopt(conn)
        module.release(conn)
    assert structure(uri) == plain


def test_a_database_without_mlflow_is_not_adopted(empty_database):
    with (
        db.connect(empty_database, autocommit=True) as conn,
        pytest.raises(module.AdoptionError, match="no MLflow tables"),
    ):
        module.adopt(conn)


@pytest.mark.slow
def test_our_store_works_on_a_large_database_before_it_is_adopted(vanilla):
    uri, store = vanilla
    ids = log_runs(store)
    ours = TimescaleTrackingStore(uri.url, "/artifacts")
    assert not ours._marked
    with db.connect(uri, autocommit=True) as conn:
        assert not module.layout(conn).ours
    ours.log_batch(ids[0], [Metric("m1", 9.0, 2_000_000_000_000, 9999)], [], [])
    assert histories(ours, ids) == histories(store, ids)
    for call in (
        ("get_metric_history", ids[0], "m1", 10),
        ("get_metric_history_bulk", ids[:3], "m1", 500),
        ("get_max_step_for_metric", ids[0], "m1"),
        ("get_metric_history_bulk_interval", ids[:2], "m1", 20, None, None),
        ("get_metric_history_bulk_interval_from_steps", ids[0], "m1", [1, 4], 5),
    ):
        method, *arguments = call
        found = [getattr(one, method)(*arguments) for one in (ours, store)]
        assert repr(found[0]) == repr(found[1])
