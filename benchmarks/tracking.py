"""MLflow's tracking calls on our store and on MLflow's own, same server, interleaved.

    python benchmarks/tracking.py [URI] [--runs 20000 ...] [--points 1000000 ...]

Makes two databases on the server that URI names (an embedded one without), fills both alike, and
prints a table in Markdown: median milliseconds of ours and of SqlAlchemyStore on psycopg2, and the
ratio. The floor is the least that psycopg and PostgreSQL take for the same rows, and a commit. The
last table is in benchmarks/tracking.md.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import requests
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from psycopg import sql

from mlflow_timescale import db
from mlflow_timescale.db.embedded import keywords, temporary
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.tracking_store import TimescaleTrackingStore

T0 = 1_700_000_000_000
FIRST_RUN = "c4ca4238a0b923820dcc509a6f75849b"  # the first run that fill_runs makes
POINT = '(run_uuid, key, value, "timestamp", step, is_nan)'


@dataclass
class Side:
    """One of the two stores, and a connection to its database."""

    name: str
    uri: DatabaseURI
    store: Any
    conn: psycopg.Connection
    run: str = ""
    long: str = ""


def vanilla_url(uri: DatabaseURI) -> str:
    parts = {key: str(value) for key, value in keywords(uri).items()}
    query = "&".join(f"{key}={parts[key]}" for key in ("host", "port", "user") if parts.get(key))
    return f"postgresql+psycopg2:///{parts['dbname']}?{query}"


def make_sides(server: DatabaseURI) -> list[Side]:
    sides = []
    for name in ("ours", "mlflow"):
        uri = server.with_database(f"bench_{name}_{os.getpid()}")
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


def fill_runs(side: Side, count: int) -> None:
    """Runs with 20 metrics, 20 params and 10 tags each, in experiment 0."""
    side.conn.execute(
        "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name,"
        " source_version, user_id, status, start_time, lifecycle_stage, artifact_uri,"
        " experiment_id) SELECT md5(i::text), 'run ' || i, 'UNKNOWN', '', '', '', 'me', 'FINISHED',"
        " %s + i, 'active', '/artifacts/0/' || md5(i::text) || '/artifacts', 0"
        " FROM generate_series(1, %s) i",
        [T0, count],
    )
    for table, columns, per_run in (
        ("latest_metrics", "'metric_' || j, random(), %s, j, false", 20),
        ("params", "'param_' || j, 'value ' || (i + j) %% 100 || left(%s::text, 0)", 20),
        ("tags", "'tag_' || j, 'value ' || (i + j) %% 10 || left(%s::text, 0)", 10),
    ):
        names = "key, value, timestamp, step, is_nan" if "metric" in table else "key, value"
        side.conn.execute(
            f"INSERT INTO {table} (run_uuid, {names}) SELECT md5(i::text), {columns}"
            f" FROM generate_series(1, %s) i, generate_series(1, {per_run}) j",
            [T0, count],
        )


def fill_series(side: Side, points: int) -> str:
    """One run with one long series."""
    run = side.store.create_run("0", "me", 1, [], "long").info.run_id
    side.conn.execute(
        f"INSERT INTO metrics {POINT} SELECT %s, 'loss', random(), %s + i * 1000::bigint, i, false"
        " FROM generate_series(1, %s) i",
        [run, T0, points],
    )
    return run


def compare(
    sides: list[Side], call: Callable[[Side, int], Any], repeats: int
) -> tuple[float, float]:
    """Median milliseconds of both, called in turns; the first call of each does not count."""
    times: dict[str, list[float]] = {side.name: [] for side in sides}
    for repeat in range(repeats + 1):
        for side in sides if repeat % 2 else sides[::-1]:
            gc.collect()
            start = time.perf_counter()
            call(side, repeat)
            times[side.name].append((time.perf_counter() - start) * 1000)
    ours, theirs = (statistics.median(times[side.name][1:]) for side in sides)
    return ours, theirs


def report(name: str, ours: float, theirs: float, floor: float | None = None) -> None:
    low = "" if floor is None else f"{floor:,.2f}"
    print(f"| {name} | {ours:,.2f} | {theirs:,.1f} | {theirs / ours:,.1f} | {low} |", flush=True)


def floor_of(action: Callable[[int], Any], repeats: int = 9) -> float:
    times = []
    for repeat in range(repeats + 1):
        gc.collect()
        start = time.perf_counter()
        action(repeat)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times[1:])


def writes(sides: list[Side], repeats: int) -> None:
    for side in sides:
        side.run = side.store.create_run("0", "me", 1, [], "written").info.run_id
    ours = sides[0]

    def batch(keys: int) -> Callable[[Side, int], Any]:
        def call(side: Side, i: int) -> Any:
            each = 1000 // keys
            return side.store.log_batch(
                side.run,
                [
                    Metric(
                        f"k{keys}_{j % keys}",
                        float(j),
                        T0 + i * each + j // keys,
                        i * each + j // keys,
                    )
                    for j in range(1000)
                ],
                [],
                [],
            )

        return call

    def commit(i: int) -> None:
        with ours.conn.transaction():
            ours.conn.execute("UPDATE runs SET name = %s WHERE run_uuid = %s", [str(i), ours.run])

    ours.conn.execute("CREATE TABLE raw (LIKE metrics)")

    def copy(i: int) -> None:
        with ours.conn.cursor() as cursor, cursor.copy(f"COPY raw {POINT} FROM STDIN") as out:
            for j in range(1000):
                out.write_row((ours.run, f"k{j}", float(j), T0 + j, i, False))

    one, raw = floor_of(commit), floor_of(copy)
    report("log_batch, 1,000 points of 10 series", *compare(sides, batch(10), repeats), raw)
    report("log_batch, 1,000 points of 1,000 series", *compare(sides, batch(1000), repeats), raw)
    calls: list[tuple[str, Callable[[Side, int], Any]]] = [
        ("log_metric", lambda s, i: s.store.log_metric(s.run, Metric("one", 1.0, T0 + i, i))),
        ("log_param", lambda s, i: s.store.log_param(s.run, Param(f"one{i}", "v"))),
        ("set_tag", lambda s, i: s.store.set_tag(s.run, RunTag("one", str(i)))),
        (
            "log_batch, 100 params",
            lambda s, i: s.store.log_batch(
                s.run, [], [Param(f"p{i}_{j}", "v") for j in range(100)], []
            ),
        ),
        (
            "log_batch, 100 tags",
            lambda s, i: s.store.log_batch(
                s.run, [], [], [RunTag(f"t{j}", str(i)) for j in range(100)]
            ),
        ),
        ("create_run", lambda s, i: s.store.create_run("0", "me", i, [RunTag("a", "b")], "r")),
    ]
    for name, call in calls:
        report(name, *compare(sides, call, max(repeats, 21)), one)


def searches(sides: list[Side], repeats: int, label: str) -> None:
    ours = sides[0]

    def floor(count: int) -> float:
        def action(_: int) -> None:
            found = ours.conn.execute(
                "SELECT run_uuid FROM runs ORDER BY start_time DESC LIMIT %s", [count]
            ).fetchall()
            ids = [run for (run,) in found]
            for table, entity in (("latest_metrics", Metric), ("params", Param), ("tags", RunTag)):
                more = ", timestamp, step" if entity is Metric else ""
                rows = ours.conn.execute(
                    f"SELECT key, value{more} FROM {table} WHERE run_uuid = ANY(%s)", [ids]
                )
                [entity(*row) for row in rows]

        return floor_of(action, 3)

    for count in (100, 1000):
        report(
            f"search_runs, {count:,} of {label}",
            *compare(
                sides,
                lambda s, i, n=count: s.store.search_runs(["0"], "", ViewType.ACTIVE_ONLY, n),
                repeats if count == 100 else max(3, repeats // 3),
            ),
            floor(count),
        )
    report(
        f"search_runs, 100 of {label}, filter and order",
        *compare(
            sides,
            lambda s, i: s.store.search_runs(
                ["0"],
                "metrics.metric_3 > 0.5 and params.param_2 = 'value 7'",
                ViewType.ACTIVE_ONLY,
                100,
                ["metrics.metric_1 DESC"],
            ),
            max(3, repeats // 3),
        ),
    )
    report(
        "get_run (20 metrics, 20 params, 10 tags)",
        *compare(sides, lambda s, i: s.store.get_run(FIRST_RUN), repeats),
    )


def series(sides: list[Side], points: int, repeats: int) -> None:
    for side in sides:
        side.long = fill_series(side, points)
        side.conn.execute("VACUUM ANALYZE metrics")

    def chart(side: Side, i: int) -> Any:
        return side.store.get_metric_history_bulk_interval([side.long], "loss", 320, None, None)

    def page(offset: int) -> Callable[[Side, int], Any]:
        from mlflow.utils.search_utils import SearchUtils

        token = SearchUtils.create_page_token(offset) if offset else None
        return lambda s, i: s.store.get_metric_history(
            s.long, "loss", min(25_000, points // 2), token
        )

    def raw(_: int) -> None:
        ours = sides[0]
        rows = ours.conn.execute(
            "SELECT value, timestamp, step FROM metrics WHERE run_uuid = %s AND key = 'loss'"
            " ORDER BY step LIMIT %s",
            [ours.long, min(25_000, points // 2)],
            binary=True,
        )
        [Metric("loss", *row) for row in rows]

    short = max(3, repeats // 3)
    report(f"chart of {points:,} points", *compare(sides, chart, short))
    report(f"first page of {points:,} points", *compare(sides, page(0), short), floor_of(raw, 3))
    report(
        f"last page of {points:,} points",
        *compare(sides, page(points // 2), short),
        floor_of(raw, 3),
    )
    report(
        f"max step of {points:,} points",
        *compare(sides, lambda s, i: s.store.get_max_step_for_metric(s.long, "loss"), short),
    )


def sizes(sides: list[Side]) -> None:
    found = []
    for side in sides:
        side.conn.execute("VACUUM metrics")
        tables = "mlops.metric_marks, mlops.run_ranges" if side.name == "ours" else ""
        extra = sum(
            side.conn.execute(
                "SELECT pg_total_relation_size(%s::regclass)", [name.strip()]
            ).fetchone()[0]
            for name in tables.split(",")
            if name
        )
        total = side.conn.execute(
            "SELECT pg_total_relation_size('metrics') + coalesce((SELECT"
            " sum(pg_total_relation_size(inhrelid)) FROM pg_inherits"
            " WHERE inhparent = 'metrics'::regclass), 0)"
        ).fetchone()[0]
        points = side.conn.execute("SELECT count(*) FROM metrics").fetchone()[0]
        found.append(float(total + extra) / points)
    report("bytes a point, indexes and marks included", *found)


def chunks(sides: list[Side], repeats: int) -> None:
    """One run among 500 others, each in a chunk of its own."""
    for side in sides:
        side.conn.execute(
            f"INSERT INTO metrics {POINT} SELECT md5(i::text), 'old', j,"
            " i * 2592000000::bigint + j, j, false"
            " FROM generate_series(1, 500) i, generate_series(1, 20) j"
        )
        side.conn.execute("ANALYZE metrics")
    for name, call in (
        ("log_metric", lambda s, i: s.store.log_metric(s.run, Metric("wide", 1.0, T0 + i, i))),
        (
            "chart",
            lambda s, i: s.store.get_metric_history_bulk_interval(
                [s.long], "loss", 320, None, None
            ),
        ),
        ("history page", lambda s, i: s.store.get_metric_history(s.long, "loss", 1000)),
        ("max step", lambda s, i: s.store.get_max_step_for_metric(s.long, "loss")),
    ):
        report(f"500 chunks: {name}", *compare(sides, call, repeats))


@contextmanager
def served(side: Side) -> Iterator[MlflowClient]:
    """A client of `mlflow server` on a side's database."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = side.uri.url if side.name == "ours" else vanilla_url(side.uri)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--port", str(port), "--workers", "1", "--default-artifact-root", "/tmp/bench"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(240):
                try:
                    requests.get(f"{url}/health", timeout=1).raise_for_status()
                    break
                except requests.RequestException:
                    time.sleep(0.5)
            yield MlflowClient(url)
        finally:
            os.killpg(server.pid, signal.SIGTERM)


def over_http(sides: list[Side], repeats: int) -> None:
    with served(sides[0]) as ours, served(sides[1]) as theirs:
        clients = {"ours": ours, "mlflow": theirs}

        def batch(side: Side, i: int) -> None:
            points = [
                Metric(f"h{j % 10}", float(j), T0 + i, i * 100 + j // 10) for j in range(1000)
            ]
            clients[side.name].log_batch(side.run, points)

        def chart(side: Side, i: int) -> None:
            url = clients[side.name].tracking_uri
            query = {"run_ids": side.long, "metric_key": "loss", "max_results": 320}
            requests.get(
                f"{url}/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval", query, timeout=60
            ).raise_for_status()

        calls: list[tuple[str, Callable[[Side, int], Any]]] = [
            ("log_batch, 1,000 points of 10 series", batch),
            ("log_metric", lambda s, i: clients[s.name].log_metric(s.run, "h", 1.0, T0 + i, i)),
            ("search_runs, 100", lambda s, i: clients[s.name].search_runs(["0"], max_results=100)),
            ("get_run", lambda s, i: clients[s.name].get_run(FIRST_RUN)),
            ("chart", chart),
        ]
        for name, call in calls:
            report(f"HTTP: {name}", *compare(sides, call, repeats))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("uri", nargs="?")
    parser.add_argument("--runs", type=int, nargs="*", default=[20_000])
    parser.add_argument("--points", type=int, nargs="*", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    given = contextlib.nullcontext(DatabaseURI.parse(arguments.uri)) if arguments.uri else None
    with given or temporary() as server:
        sides = make_sides(server)
        try:
            print("| call | ours ms | SqlAlchemyStore ms | ratio | floor ms |")
            print("|---|--:|--:|--:|--:|")
            writes(sides, arguments.repeats)
            for number, runs in enumerate(arguments.runs):
                if number:
                    drop(server, sides)
                    sides = make_sides(server)
                for side in sides:
                    fill_runs(side, runs)
                    side.conn.execute("VACUUM ANALYZE")
                searches(sides, arguments.repeats, f"{runs:,}")
            for points in arguments.points:
                series(sides, points, arguments.repeats)
            sizes(sides)
            for side in sides:
                side.run = side.store.create_run("0", "me", 1, [], "written").info.run_id
            over_http(sides, arguments.repeats)
            chunks(sides, arguments.repeats)
        finally:
            drop(server, sides)


if __name__ == "__main__":
    main()
