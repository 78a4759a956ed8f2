"""Keys that are half empty are rebuilt while others write."""

from __future__ import annotations

import threading

import psycopg
import pytest
from click.testing import CliRunner
from mlflow.entities import Metric

from mlflow_timescale import db
from mlflow_timescale.cli import cli
from mlflow_timescale.operations import packing
from mlflow_timescale.operations.doctor import examine
from mlflow_timescale.operations.packing import PackingError, loose_keys, pack
from mlflow_timescale.tracking.store import TimescaleTrackingStore

SUM = "SELECT count(*), sum(hash_record_extended(metrics, 0)) FROM metrics"


@pytest.fixture
def loose(database, conn):
    """Runs that log in turns: each batch goes into the middle of the index."""
    store = TimescaleTrackingStore(database.url, "/artifacts")
    runs = [store.create_run("0", "me", 1, [], f"{i}").info.run_id for i in range(40)]
    for turn in range(3):
        conn.execute(
            "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan)"
            " SELECT run, 'm' || k, 0.5, step, step, false"
            " FROM unnest(%s::text[]) AS run, generate_series(0, 9) AS k,"
            " generate_series(%s::int, %s) AS step ORDER BY run, k, step",
            [runs, turn * 30, turn * 30 + 29],
        )
    return store


def invoke(database, *arguments):
    found = CliRunner().invoke(cli, ["pack", "--uri", database.url, *arguments])
    assert found.exit_code == 0, found.output
    return found.output


def test_a_loose_key_is_found_and_built_anew(database, conn, loose):
    before = conn.execute(SUM).fetchone()
    [key] = loose_keys(conn)
    assert key.bytes > 1.2 * key.packed
    assert "about" in invoke(database, "--dry-run")
    assert loose_keys(conn) == [key]
    [finding] = [finding for finding in examine(conn, database) if finding.check == "packing"]
    assert finding.advice == "mlflow-timescale pack"

    assert "before" in invoke(database)
    assert loose_keys(conn) == []
    assert invoke(database) == "the keys of metrics are packed\n"
    assert not [finding for finding in examine(conn, database) if finding.check == "packing"]
    assert conn.execute(SUM).fetchone() == before
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute("INSERT INTO metrics SELECT * FROM metrics LIMIT 1")


def test_runs_go_on_while_a_key_is_built(database, conn, loose):
    run = loose.create_run("0", "me", 1, [], "beside").info.run_id
    stop = threading.Event()
    logged = []

    def write():
        while not stop.is_set():
            loose.log_batch(run, [Metric("m", 1.0, len(logged), len(logged))], [], [])
            logged.append(1)

    writer = threading.Thread(target=write)
    writer.start()
    with db.connect(database, autocommit=True) as mine:
        pack(mine, lambda key, now: None)
    stop.set()
    writer.join()
    assert loose_keys(conn) == []
    assert len(loose.get_metric_history(run, "m")) == len(logged) > 0


def test_what_an_interrupted_rebuild_left_is_removed(database, conn, loose):
    [key] = loose_keys(conn)
    name = f'"{key.schema}"."{key.name}"'
    blocker = db.connect(database)
    blocker.execute("SELECT FROM metrics LIMIT 1")  # the rebuild waits for this transaction
    other = db.connect(database, autocommit=True)
    other.execute("SET statement_timeout = '1s'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        other.execute(f"REINDEX INDEX CONCURRENTLY {name}")
    blocker.close()
    invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
    assert conn.execute(invalid).fetchone()[0] > 0
    with db.connect(database, autocommit=True) as mine:
        pack(mine, lambda key, now: None)
    assert conn.execute(invalid).fetchone() == (0,)
    assert loose_keys(conn) == []


def test_two_do_not_pack_at_once(database, conn, loose):
    with db.connect(database, autocommit=True) as first:
        first.execute("SELECT pg_advisory_lock(hashtextextended('mlops.packing', 0))")
        with (
            db.connect(database, autocommit=True) as second,
            pytest.raises(PackingError, match="already"),
        ):
            pack(second, lambda key, now: None)


def test_a_database_without_mlflow_has_no_keys(empty_database):
    with db.connect(empty_database, autocommit=True) as conn:
        assert loose_keys(conn) == []


def test_a_transaction_that_never_ends_is_named(database, conn, loose, monkeypatch):
    monkeypatch.setattr(packing, "_WAIT_SECONDS", 1)
    with db.connect(database) as reader, db.connect(database, autocommit=True) as mine:
        reader.execute("SELECT FROM metrics LIMIT 1")
        with pytest.raises(db.LocksHeld, match=f"process {reader.info.backend_pid} "):
            pack(mine, lambda key, now: None)
        reader.rollback()
    with db.connect(database, autocommit=True) as mine:
        pack(mine, lambda key, now: None)
    assert loose_keys(conn) == []
