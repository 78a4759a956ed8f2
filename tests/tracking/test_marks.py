"""Marks lead to any rank of a series, for any writer and any order of insertion."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from mlflow.entities import Metric

from mlflow_timescale import db
from mlflow_timescale.db.migrations import facts
from mlflow_timescale.tracking import history
from mlflow_timescale.tracking.store import TimescaleTrackingStore

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


def ntile(rows, buckets):
    """MLflow's sample: the first of each bucket, and the last of all."""
    size, larger = divmod(len(rows), buckets)
    if not size:
        return rows
    first = [rows[bucket * size + min(bucket, larger)] for bucket in range(buckets)]
    return [*first[:-1], rows[-1]]


def check(conn, run, rows):
    """Every mark has its rank, and every way over marks gives what a scan gives."""
    marks = conn.execute(
        "SELECT rank, stride, value, timestamp, step, is_nan FROM mlops.metric_marks"
        " WHERE run_uuid = %s AND key = 'm' ORDER BY rank",
        [run],
    ).fetchall()
    assert [mark[0] for mark in marks] == [128 * (i + 1) for i in range(len(marks))]
    for rank, stride, *point in marks:
        assert tuple(point) == rows[rank]
        steps = [row[2] for row in rows[rank - 128 : rank + 1]]
        rises = {after - before for before, after in pairwise(steps)}
        held = all(abs(step) < 4e18 for step in steps)
        assert stride == (rises.pop() if held and len(rises) == 1 else 0)
    series = history.series(conn, run, "m")
    assert (series.points, series.marked) == (len(rows), 128 * len(marks))
    in_time = sorted(rows, key=lambda row: (row[1], row[2], row[0]))
    assert series.ordered == (in_time == rows)
    for start in (0, 100, 128, len(rows) - 3):
        assert history.page(series, start, 50) == in_time[start : start + 50]
    middle = rows[len(rows) // 2][2]
    for first, last in ((None, None), (middle, None), (None, middle), (rows[1][2], middle)):
        between = [
            row
            for row in rows
            if (first is None or row[2] >= first) and (last is None or row[2] <= last)
        ]
        for buckets in (1, 7, 64, 128, len(rows)):
            found = history.sample(conn, run, "m", buckets, first, last)
            assert found == ntile(between, buckets)
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


@pytest.mark.parametrize(
    ("steps", "strides"),
    [
        (range(512), [1, 1, 1]),
        (range(-9_000, 9_000, 35), [35, 35, 35, 35]),
        ([*range(200), *range(300, 612)], [1, 0, 1]),  # a jump
        ([*range(256), 256, 256, *range(257, 511)], [1, 1, 0]),  # the mark's step twice
        ([i // 2 for i in range(512)], [0, 0, 0]),
        ([2**63 - 512 + i for i in range(512)], [0, 0, 0]),  # rises that 64 bits may not hold
        ([-(2**63) + i * 2**54 for i in range(1023)], [0, 0, 0, 2**54, 2**54, 0, 0]),
    ],
)
def test_a_mark_knows_whether_steps_rise_evenly_up_to_it(conn, run, steps, strides):
    insert(conn, run, [(step, 1_000 + i, float(i)) for i, step in enumerate(steps)])
    conn.execute("SELECT mlops.mark_run(%s)", [run])
    assert [mark[1] for mark in check(conn, run, everything(conn, run))] == strides


def test_marks_of_an_earlier_version_know_nothing_and_lead_to_the_same_points(conn, run):
    insert(conn, run, [(i, i, float(i)) for i in range(700)])
    conn.execute("SELECT mlops.mark_run(%s)", [run])
    before = history.sample(conn, run, "m", 320, 3, None)
    conn.execute("UPDATE mlops.metric_marks SET stride = 0, first_ms = NULL, last_ms = NULL")
    assert history.sample(conn, run, "m", 320, 3, None) == before


def test_steps_beyond_every_step_bound_a_chart(conn, run):
    insert(conn, run, [(-(2**63), 1, 0.0), (0, 2, 0.0), (2**63 - 1, 3, 0.0)])
    for first, last, expected in (
        (-(2**63), 2**63 - 1, 3),
        (-(2**70), 2**70, 3),
        (2**63, None, 0),
        (None, -(2**63) - 1, 0),
        (1, 2**63 - 2, 0),
        (1, 2**63 - 1, 1),
        (5, 4, 0),
    ):
        assert len(history.sample(conn, run, "m", 9, first, last)) == expected


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
    assert (series.marked, series.points, series.ordered) == (0, 500, False)
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


@pytest.mark.parametrize("stride", [1, 0])
def test_marks_are_found_by_rank_before_they_are_analyzed(conn, run, stride):
    conn.execute(
        "INSERT INTO metrics (run_uuid, key, step, timestamp, value, is_nan)"
        " SELECT %s, 'm', i, i, i, false FROM generate_series(1, 100000) i",
        [run],
    )
    conn.execute("UPDATE mlops.metric_marks SET stride = %s", [stride])

    def marks_read():
        conn.execute("SELECT pg_stat_force_next_flush()")
        return conn.execute(
            "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'metric_marks'"
        ).fetchone()[0]

    before = marks_read()
    assert len(history.sample(conn, run, "m", 50, None, None)) == 50
    assert marks_read() - before < 781  # as many as there are
