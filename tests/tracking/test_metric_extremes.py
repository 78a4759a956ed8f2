"""The least and the greatest value of every series, exact in any order of writes."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import psycopg
import pytest
from mlflow.entities import Metric
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

import mlflow_timescale
from benchmarks.databases import vanilla_url
from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.adopt import adopt, release
from mlflow_timescale.tracking.store import TimescaleTrackingStore

LARGEST = 1.7976931348623157e308
DAY = 86_400_000


@pytest.fixture(scope="module")
def store(shared_database: DatabaseURI) -> TimescaleTrackingStore:
    return TimescaleTrackingStore(shared_database.url, "/artifacts")


@pytest.fixture(scope="module")
def conn(shared_database: DatabaseURI) -> Iterator[psycopg.Connection]:
    with db.connect(shared_database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def run(store: TimescaleTrackingStore) -> str:
    run_id: str = store.create_run("0", "me", 1, [], "run").info.run_id
    return run_id


def expected(points: list[Metric]) -> tuple[float | None, int | None, float | None, int | None]:
    """Minimum, its first step, maximum, its first step, by a look at every point."""
    numbers = [(point.value, point.step) for point in points if not math.isnan(point.value)]
    if not numbers:
        return None, None, None, None
    least = min(numbers)
    greatest = max(value for value, _ in numbers)
    return (*least, greatest, min(step for value, step in numbers if value == greatest))


def kept(conn: psycopg.Connection, run: str, key: str = "m") -> tuple[object, ...] | None:
    query = (
        "SELECT min, min_step, max, max_step FROM mlops.metric_extremes"
        " WHERE run_uuid = %s AND key = %s"
    )
    return conn.execute(query, [run, key]).fetchone()


def values(kind: str, count: int) -> list[float]:
    rng = random.Random(kind)
    if kind == "falling":
        return [1 / (1 + i) for i in range(count)]
    if kind == "few values":
        return [float(rng.randrange(3)) for _ in range(count)]
    if kind == "with NaN":
        return [math.nan if rng.random() < 0.6 else rng.random() for _ in range(count)]
    if kind == "only NaN":
        return [math.nan] * count
    return [rng.uniform(-1, 1) for _ in range(count)]


@pytest.mark.parametrize("order", ["forward", "backward", "shuffled"])
@pytest.mark.parametrize("kind", ["any", "falling", "few values", "with NaN", "only NaN"])
def test_extremes_are_exact_after_every_write(
    store: TimescaleTrackingStore, conn: psycopg.Connection, run: str, kind: str, order: str
) -> None:
    points = [Metric("m", value, i, i // 2) for i, value in enumerate(values(kind, 1700))]
    if order == "backward":
        points.reverse()
    if order == "shuffled":
        random.Random(3).shuffle(points)
    # One point, a few, and enough for marks at once.
    for first, last in ((0, 1), (1, 5), (5, 605), (605, 606), (606, 700), (700, 1700)):
        store.log_batch(run, points[first:last], [], [])
        assert kept(conn, run) == expected(points[:last])


def test_the_first_point_and_the_marks_themselves_count(
    store: TimescaleTrackingStore, conn: psycopg.Connection, run: str
) -> None:
    # Ranks 0, 128 and 256 bound the parts of a series.
    for key, at in (
        ("first", 0),
        ("mark", 128),
        ("after", 129),
        ("second mark", 256),
        ("end", 699),
    ):
        points = [Metric(key, 9.0 if i == at else 1.0, i, i) for i in range(700)]
        store.log_batch(run, points, [], [])
        assert kept(conn, run, key) == expected(points), key


def test_infinity_counts_as_mlflow_stores_it(
    store: TimescaleTrackingStore, conn: psycopg.Connection, run: str
) -> None:
    infinite = [Metric("m", value, i, i) for i, value in enumerate([0.5, math.inf, -math.inf])]
    store.log_batch(run, infinite, [], [])
    assert kept(conn, run) == (-LARGEST, 2, LARGEST, 1)
    assert store.get_run(run).data.metrics == {"m": -LARGEST}


def test_dropped_points_do_not_count(
    store: TimescaleTrackingStore, conn: psycopg.Connection, run: str
) -> None:
    store.log_batch(run, [Metric("m", 1.0 * i, i * DAY, i) for i in range(900)], [], [])
    conn.execute("SELECT mlops.drop_points(%s)", [500 * DAY])
    assert kept(conn, run) == (500.0, 500, 899.0, 899)
    conn.execute("DELETE FROM metrics WHERE run_uuid = %s AND step < 600", [run])
    assert kept(conn, run) == (600.0, 600, 899.0, 899)
    conn.execute("DELETE FROM metrics WHERE run_uuid = %s AND step > 890", [run])
    assert kept(conn, run) == (600.0, 600, 890.0, 890)
    conn.execute("DELETE FROM metrics WHERE run_uuid = %s", [run])
    assert kept(conn, run) is None


def test_a_series_with_marks_of_an_earlier_version_is_read_as_a_whole(
    store: TimescaleTrackingStore, conn: psycopg.Connection, run: str
) -> None:
    points = [Metric("m", value, i, i) for i, value in enumerate(values("any", 1400))]
    store.log_batch(run, points[:700], [], [])
    conn.execute(
        "UPDATE mlops.metric_marks SET min_value = NULL, max_value = NULL WHERE run_uuid = %s",
        [run],
    )
    assert kept(conn, run) == expected(points[:700])
    store.log_batch(run, points[700:], [], [])
    assert kept(conn, run) == expected(points)


def test_extremes_cost_a_few_points_of_a_long_series(
    conn: psycopg.Connection, store: TimescaleTrackingStore, run: str
) -> None:
    store.log_metric(run, Metric("m", 0.5, 0, 0))
    conn.execute(
        "INSERT INTO metrics (run_uuid, key, step, timestamp, value, is_nan)"
        " SELECT %s, 'm', i, i, random(), false FROM generate_series(1, 50000) i",
        [run],
    )
    rows = conn.execute(
        "EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF, FORMAT JSON)"
        " SELECT * FROM mlops.metric_extremes WHERE run_uuid = %s",
        [run],
    ).fetchall()

    def points(node: dict[str, object]) -> float:
        own = node["Actual Rows"] if "metric_pk" in str(node.get("Index Name")) else 0
        return own + sum(points(child) for child in node.get("Plans", []))

    assert 0 < points(rows[0][0][0]["Plan"]) < 1_000


def test_a_database_of_plain_mlflow_has_extremes_once_it_is_adopted(
    vanilla_database: DatabaseURI,
) -> None:
    plain = SqlAlchemyStore(vanilla_url(vanilla_database), "/artifacts")
    run = plain.create_run("0", "me", 1, [], "run").info.run_id
    points = [Metric("m", value, i, i) for i, value in enumerate(values("any", 700))]
    plain.log_batch(run, points, [], [])
    plain._dispose_engine()
    with db.connect(vanilla_database, autocommit=True) as conn:
        adopt(conn)
        assert kept(conn, run) == expected(points)
        release(conn)
        assert conn.execute("SELECT to_regclass('mlops.metric_extremes')").fetchone() == (None,)
        adopt(conn)
        assert kept(conn, run) == expected(points)


def test_the_table_has_runs_in_order_and_keys_by_name(
    shared_database: DatabaseURI, store: TimescaleTrackingStore
) -> None:
    experiment = store.create_experiment("extremes")
    runs = [store.create_run(experiment, "me", i, [], str(i)).info.run_id for i in range(2)]
    for number, run in enumerate(runs):
        store.log_batch(run, [Metric("ö", 2.0, 0, 5), Metric("a", number, 0, -3)], [], [])
        store.log_metric(run, Metric("nan", math.nan, 0, 0))
    table = mlflow_timescale.metric_extremes(shared_database, runs[::-1])
    assert [str(kind) for kind in table.schema.types] == [*["string"] * 2, *["double", "int64"] * 2]
    assert table.to_pylist() == [
        {"run_id": run, "key": key, "min": value, "min_step": step, "max": value, "max_step": step}
        for run, number in ((runs[1], 1.0), (runs[0], 0.0))
        for key, value, step in (("a", number, -3), ("nan", None, None), ("ö", 2.0, 5))
    ]
    chosen = mlflow_timescale.metric_extremes(shared_database, keys="a", experiment="extremes")
    assert chosen["run_id"].to_pylist() == runs
    assert mlflow_timescale.metric_extremes(shared_database, "0" * 32).num_rows == 0


def test_a_schema_of_an_earlier_version_is_named(
    database: DatabaseURI,
) -> None:
    with db.connect(database, autocommit=True) as conn:
        conn.execute("DROP VIEW mlops.metric_extremes")
    with pytest.raises(LookupError, match="run `mlflow-timescale migrate` first"):
        mlflow_timescale.metric_extremes(database)
