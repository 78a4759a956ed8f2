"""Two stores on one server with the same data; their calls are timed in turns and in bursts."""

from __future__ import annotations

import gc
import statistics
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from psycopg import sql

from benchmarks.databases import vanilla_url
from benchmarks.harness import seconds
from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.tracking.store import TimescaleTrackingStore

T0 = 1_700_000_000_000
FIRST_RUN = "c4ca4238a0b923820dcc509a6f75849b"  # the first run that fill_runs makes
POINT = '(run_uuid, key, value, "timestamp", step, is_nan)'
# Calls of a few milliseconds are timed in bursts, as timeit does: the garbage collection before a
# single call would empty the processor's caches.
BURST = 10


@dataclass
class Side:
    """One of the two stores, and a connection to its database."""

    name: str
    uri: DatabaseURI
    store: Any
    conn: psycopg.Connection
    run: str = ""
    long: str = ""


def make_sides(server: DatabaseURI) -> list[Side]:
    sides = []
    for name in ("ours", "mlflow"):
        uri = server.with_database(f"bench_{name}_{uuid.uuid4().hex[:8]}")
        with db.connect(server, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(uri.dbname)))
        if name == "ours":
            store = TimescaleTrackingStore(uri.url, "/artifacts")
        else:
            store = SqlAlchemyStore(vanilla_url(uri), "/artifacts")
        sides.append(Side(name, uri, store, db.connect(uri, autocommit=True)))
    return sides


def drop(server: DatabaseURI, sides: list[Side]) -> None:
    for side in sides:
        side.conn.close()
        side.store._dispose_engine()
    with db.connect(server, autocommit=True) as admin:
        for side in sides:
            admin.execute(
                sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(side.uri.dbname))
            )


def fill_runs(
    side: Side, count: int, *, metrics: int = 20, params: int = 20, tags: int = 10
) -> None:
    """Runs with metrics, params and tags in experiment 0, without checks of foreign keys."""
    side.conn.execute("SET session_replication_role = replica")
    side.conn.execute(
        "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name,"
        " source_version, user_id, status, start_time, lifecycle_stage, artifact_uri,"
        " experiment_id) SELECT md5(i::text), 'run ' || i, 'UNKNOWN', '', '', '', 'me', 'FINISHED',"
        " %s + i, 'active', '/artifacts/0/' || md5(i::text) || '/artifacts', 0"
        " FROM generate_series(1, %s) i",
        [T0, count],
    )
    for table, columns, per_run in (
        ("latest_metrics", "'metric_' || j, random(), %s, j, false", metrics),
        ("params", "'param_' || j, 'value ' || (i + j) %% 100 || left(%s::text, 0)", params),
        ("tags", "'tag_' || j, 'value ' || (i + j) %% 10 || left(%s::text, 0)", tags),
    ):
        names = "key, value, timestamp, step, is_nan" if "metric" in table else "key, value"
        side.conn.execute(
            f"INSERT INTO {table} (run_uuid, {names}) SELECT md5(i::text), {columns}"
            f" FROM generate_series(1, %s) i, generate_series(1, {per_run}) j",
            [T0, count],
        )
    side.conn.execute("RESET session_replication_role")


def fill_series(side: Side, points: int) -> str:
    """One run with one long series, loaded without triggers and foreign keys, marked afterwards."""
    run = side.store.create_run("0", "me", 1, [], "long").info.run_id
    side.conn.execute("SET session_replication_role = replica")
    for first in range(1, points + 1, 1_000_000):
        side.conn.execute(
            f"INSERT INTO metrics {POINT} SELECT %s, 'loss', random(), %s + i * 1000::bigint, i,"
            " false FROM generate_series(%s::bigint, %s) i",
            [run, T0, first, min(points, first + 999_999)],
        )
    side.conn.execute(
        "INSERT INTO latest_metrics (run_uuid, key, value, timestamp, step, is_nan)"
        " VALUES (%s, 'loss', 0, %s, %s, false)",
        [run, T0 + points * 1000, points],
    )
    side.conn.execute("RESET session_replication_role")
    if side.name == "ours":
        side.conn.execute("SELECT mlops.mark_run(%s)", [run])
    side.conn.execute("VACUUM ANALYZE metrics")
    return run


def compare(
    sides: list[Side], call: Callable[[Side, int], Any], repeats: int, burst: int = 1
) -> tuple[float, float]:
    """Median milliseconds a call of both, timed in turns; the first burst does not count."""
    times: dict[str, list[float]] = {side.name: [] for side in sides}
    gc.freeze()
    for repeat in range(repeats + 1):
        for side in sides if repeat % 2 else sides[::-1]:
            turn = range(repeat * burst, (repeat + 1) * burst)
            times[side.name].append(seconds(lambda i, side=side: call(side, i), turn) * 1000)
    ours, theirs = (statistics.median(times[side.name][1:]) for side in sides)
    return ours, theirs


def report(name: str, ours: float, theirs: float, floor: float | None = None) -> None:
    low = "" if floor is None else f"{floor:,.2f}"
    print(f"| {name} | {ours:,.2f} | {theirs:,.1f} | {theirs / ours:,.1f} | {low} |", flush=True)


def floor_of(action: Callable[[int], Any], repeats: int = 9, burst: int = 1) -> float:
    turns = (range(turn * burst, (turn + 1) * burst) for turn in range(repeats + 1))
    return statistics.median([seconds(action, turn) * 1000 for turn in turns][1:])
