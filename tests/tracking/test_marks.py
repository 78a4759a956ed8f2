"""Marks: any rank of a series is found, whoever inserted, in whatever order."""

from __future__ import annotations

import random

import pytest
from mlflow.entities import Metric
from psycopg.sql import SQL

from mlflow_timescale import db
from mlflow_timescale.db.migrations import facts
from mlflow_timescale.tracking import history, sampling
from mlflow_timescale.tracking_store import TimescaleTrackingStore

ARTIFACTS = "/artifacts"


@pytest.fixture
def store(database):
    return TimescaleTrackingStore(database.url, ARTIFACTS)


@pytest.fixture
def run(store):
    return store.create_run("0", "me", 1, [], "run").info.run_id


def insert(conn, run, rows):
    """Points (step, timestamp, value) as any SQL client would add them."""
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO metrics (run_uuid, key, step, timestamp, value, is_nan)"
            " VALUES (%s, 'm', %s, %s, %s, false)",
            [(run, *row) for row in rows],
        )


def everything(conn, run):
    return conn.execute(
        "SELECT value, timestamp, step, is_nan FROM metrics WHERE run_uuid = %s AND key = 'm'"
        " ORDER BY step, timestamp, value, is_nan",
        [run],
    ).fetchall()


def check(conn, run, rows):
    """Every mark has its rank, and every way over marks gives what a scan gives."""
    marks = conn.execute(
        "SELECT rank, value, timestamp, step, is_nan FROM mlops.metric_marks"
        " WHERE run_uuid = %s AND key = 'm' ORDER BY rank",
        [run],
    ).fetchall()
    assert [mark[0] for mark in marks] == [128 * (i + 1) for i in range(len(marks))]
    for rank, *point in marks:
        assert tuple(point) == rows[rank]
    series = history.series(conn, run, "m")
    measured = history.shape(series)
    assert (measured.points, measured.intact) == (len(rows), True)
    in_time = sorted(rows, key=lambda row: (row[1], row[2], row[0]))
    assert measured.ordered == (in_time == rows)
    ranks = sorted({*range(0, len(rows), 37), len(rows) - 1})
    found = series.ask(sampling._queries.points_at, ranks=ranks, marked=measured.marked)
    assert found == [rows[rank] for rank in ranks]
    for start in (0, 100, 128, len(rows) - 3):
        assert history.page(series, start, 50) == in_time[start : start + 50]
    for step in (rows[0][2], rows[len(rows) // 2][2], rows[-1][2] + 1):
        before = sum(row[2] < step for row in rows)
        assert series.ask(sampling._queries.rows_before, step=step) == [(before,)]
    return marks


@pytest.mark.parametrize("order", ["forward", "backward", "shuffled", "nearly forward"])
def test_marks_are_right_after_single_inserts_in_any_order(conn, run, order):
    steps = list(range(700))
    if order == "backward":
        steps.reverse()
    if order == "shuffled":
        random.Random(1).shuffle(steps)
    if order == "nearly forward":
        steps.sort(key=lambda step: step + random.Random(step).random() * 9)
    for start in range(0, 700, 70):
        insert(conn, run, [(s, 1_000 + s, float(s)) for s in steps[start : start + 70]])
        check(conn, run, everything(conn, run))


def test_marks_are_right_when_timestamps_disagree_and_steps_repeat(conn, run):
    rng = random.Random(7)
    rows = [(rng.randrange(40), rng.randrange(10**6), rng.random()) for _ in range(900)]
    for start in range(0, 900, 300):
        insert(conn, run, rows[start : start + 300])
    check(conn, run, everything(conn, run))


def test_a_bulk_load_is_marked_at_once(conn, run):
    conn.execute(
        "INSERT INTO metrics (run_uuid, key, step, timestamp, value, is_nan)"
        " SELECT %s, 'm', i, 1600000000000 + i * 3600000::bigint, i, false"
        " FROM generate_series(1, 40000) i",
        [run],
    )
    marks = check(conn, run, everything(conn, run))
    assert len(marks) == 40_000 // 128


def test_a_long_chart_by_marks_is_what_a_scan_gives(conn, run, store, monkeypatch):
    rng = random.Random(3)
    store.log_batch(run, [Metric("m", rng.random(), 10 + i, i // 2) for i in range(1000)], [], [])
    arguments = [(size, *span) for size in (1, 7, 320) for span in ((None, None), (20, 333))]
    scanned = [store.get_metric_history_bulk_interval([run], "m", *a) for a in arguments]
    monkeypatch.setattr(sampling, "_SHORT", 0)
    by_marks = [store.get_metric_history_bulk_interval([run], "m", *a) for a in arguments]
    assert repr(by_marks) == repr(scanned)


def test_writers_side_by_side_leave_right_marks(database, conn, run):
    # The run's row in run_ranges makes them take turns from the first insert to the commit.
    with db.connect(database) as first, db.connect(database) as second:
        for turn in range(6):
            insert(first, run, [(i, i, 0.0) for i in range(turn * 200, turn * 200 + 100)])
            second.execute("SET lock_timeout = '100ms'")
            with pytest.raises(Exception, match="lock timeout"):
                insert(second, run, [(turn * 200 + 150, 1, 0.0)])
            second.rollback()
            first.commit()
            insert(second, run, [(i, i, 0.0) for i in range(turn * 200 + 100, turn * 200 + 200)])
            second.commit()
    check(conn, run, everything(conn, run))


def test_deleting_a_run_deletes_its_marks(conn, run, store):
    store.log_batch(run, [Metric("m", 1.0, i, i) for i in range(300)], [], [])
    store.delete_run(run)
    store._hard_delete_run(run)
    for table in ("metrics", "latest_metrics", "mlops.metric_marks", "mlops.run_ranges"):
        assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_dropping_old_points_keeps_the_rest_readable(conn, run, store):
    day = 86_400_000
    store.log_batch(run, [Metric("m", i, i * day, i) for i in range(900)], [], [])
    assert conn.execute("SELECT mlops.drop_points(%s)", [500 * day]).fetchone() == (1,)
    rows = everything(conn, run)
    assert [row[2] for row in rows] == list(range(500, 900))
    check(conn, run, rows)
    assert store.get_run(run).data.metrics == {"m": 899.0}


def test_points_dropped_behind_our_back_are_noticed(conn, run, store):
    store.log_batch(run, [Metric("m", i, i, i) for i in range(900)], [], [])
    conn.execute("DELETE FROM metrics WHERE step < 400")
    series = history.series(conn, run, "m")
    assert history.shape(series) == history.Shape(0, 500, ordered=False, intact=False)
    sample = store.get_metric_history_bulk_interval([run], "m", 3, None, None)
    assert [item.step for item in sample] == [400, 567, 899]
    assert [m.step for m in store.get_metric_history(run, "m", 2)] == [400, 401]


@pytest.mark.timescale
def test_a_read_of_one_run_opens_its_own_chunks_only(conn, store):
    if "timescale" not in facts(conn):
        pytest.skip("needs TimescaleDB")
    month = 2_592_000_000
    runs = [store.create_run("0", "me", 1, [], str(i)).info.run_id for i in range(12)]
    for number, run in enumerate(runs):
        store.log_batch(run, [Metric("m", i, number * month + i, i) for i in range(10)], [], [])
    series = history.series(conn, runs[5], "m")
    plan = conn.execute(
        "EXPLAIN SELECT * FROM metrics WHERE run_uuid = %s AND timestamp BETWEEN %s AND %s",
        [runs[5], series.first_ms, series.last_ms],
        prepare=False,
    ).fetchall()
    chunks = {word for (line,) in plan for word in line.split() if word.startswith("_hyper")}
    assert 1 <= len({chunk for chunk in chunks if chunk.endswith("chunk")}) <= 3


def test_marks_are_found_by_rank_before_they_are_analyzed(conn, run):
    conn.execute(
        "INSERT INTO metrics (run_uuid, key, step, timestamp, value, is_nan)"
        " SELECT %s, 'm', i, i, i, false FROM generate_series(1, 20000) i",
        [run],
    )
    series = history.series(conn, run, "m")
    arguments = {"ranks": [5, 9999], "marked": 19968, "run_id": run, "key": "m"}
    plan = conn.execute(
        SQL("EXPLAIN {}").format(sampling._queries.points_at),
        {**arguments, "first_ms": series.first_ms, "last_ms": series.last_ms},
        prepare=False,
    ).fetchall()
    indexes = {word for (line,) in plan for word in line.split() if word.startswith("metric_marks")}
    assert "metric_marks_pkey" in indexes
    assert not any("step" in index for index in indexes)
