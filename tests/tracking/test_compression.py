"""Compressed chunks (TimescaleDB Community): read, written to and deleted from as before."""

from __future__ import annotations

import random

import pytest
from mlflow.entities import Metric

from mlflow_timescale.db.migrations import facts
from mlflow_timescale.tracking.store import TimescaleTrackingStore

pytestmark = pytest.mark.timescale
DAY = 86_400_000


@pytest.fixture
def job(conn):
    """The policy's job, kept from running beside the test."""
    if "community" not in facts(conn):
        pytest.skip("needs TimescaleDB Community")
    (number,) = conn.execute(
        "SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name = 'metrics'"
    ).fetchone()
    conn.execute("SELECT alter_job(%s, scheduled => false)", [number])
    return number


@pytest.fixture
def store(database, job):
    return TimescaleTrackingStore(database.url, "/artifacts")


@pytest.fixture
def runs(store):
    """Two runs of two series each, over some 50 chunks."""
    rng = random.Random(5)
    ids = [store.create_run("0", "me", 1, [], str(i)).info.run_id for i in range(2)]
    for run in ids:
        for key in ("a", "b"):
            store.log_batch(
                run, [Metric(key, rng.random(), i * DAY, i) for i in range(1000)], [], []
            )
    return ids


def compress(conn):
    conn.execute("SELECT compress_chunk(chunk) FROM show_chunks('metrics') AS chunk")


def read(store, run):
    return repr(
        [
            store.get_run(run).data.metrics,
            store.get_metric_history(run, "a"),
            store.get_metric_history(run, "a", 10, None),
            store.get_metric_history_bulk_interval([run], "a", 20, None, None),
            store.get_metric_history_bulk_interval([run], "b", 20, 100, 800),
            store.get_max_step_for_metric(run, "a"),
        ]
    )


def test_reads_give_the_same_from_compressed_chunks(store, conn, runs):
    before = read(store, runs[0])
    compress(conn)
    assert read(store, runs[0]) == before
    conn.execute("UPDATE mlops.metric_marks SET stride = 0")
    assert read(store, runs[0]) == before


def test_late_points_and_repeated_ones_go_into_compressed_chunks(store, conn, runs):
    compress(conn)
    history = store.get_metric_history(runs[0], "a")
    store.log_batch(
        runs[0], [*history[:200], Metric("a", 7.0, 3 * DAY + 1, 3), Metric("a", 8.0, 1, 0)], [], []
    )
    assert len(store.get_metric_history(runs[0], "a")) == 1002


def test_marks_are_right_after_points_came_late(store, conn, runs):
    compress(conn)
    late = store.create_run("0", "me", 1, [], "late").info.run_id
    store.log_metric(late, Metric("b", 1.0, 0, 0))  # one chunk is compressed in part from now on
    for first in (0, 700):
        steps = range(first, first + 700)  # by turns in that chunk and in one that was whole
        store.log_batch(late, [Metric("a", 1.0, i % 2 * 90 * DAY + i, i) for i in steps], [], [])
        marks = conn.execute(
            "SELECT rank, step FROM mlops.metric_marks WHERE run_uuid = %s", [late]
        ).fetchall()
        assert all(rank == step for rank, step in marks)
        sample = store.get_metric_history_bulk_interval([late], "a", 7, None, None)
        size = (first + 700) // 7
        assert [item.step for item in sample] == [*range(0, 6 * size, size), first + 699]
    assert len(marks) == 10


def test_deleting_a_run_empties_compressed_chunks_of_it(store, conn, runs):
    compress(conn)
    other = read(store, runs[1])
    store.delete_run(runs[0])
    store._hard_delete_run(runs[0])
    assert conn.execute("SELECT DISTINCT run_uuid FROM metrics").fetchall() == [(runs[1],)]
    assert read(store, runs[1]) == other


def test_old_chunks_are_dropped_whole(store, conn, runs):
    compress(conn)
    chunks = "SELECT count(*) FROM show_chunks('metrics')"
    before = conn.execute(chunks).fetchone()[0]
    conn.execute("SELECT mlops.drop_points(%s)", [500 * DAY])
    assert conn.execute(chunks).fetchone()[0] < before - 10
    assert len(store.get_metric_history(runs[0], "a")) == 500


def test_a_policy_compresses_chunks_that_are_a_week_past(store, conn, runs, job):
    conn.execute("CALL run_job(%s)", [job])
    states = conn.execute(
        "SELECT DISTINCT is_compressed FROM timescaledb_information.chunks"
        " WHERE hypertable_name = 'metrics'"
    ).fetchall()
    assert states == [(True,)]
