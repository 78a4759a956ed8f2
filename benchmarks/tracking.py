"""MLflow's tracking calls on our store and on MLflow's own, same server, interleaved.

    python benchmarks/tracking.py [URI] [--only PART ...] [--runs 20000 ...] [--points 1000000 ...]

Makes two databases on the server that URI names (an embedded one without), fills both alike, and
prints a table in Markdown: median milliseconds of ours and of SqlAlchemyStore on psycopg2, the
ratio, and the floor. Of a write it is one prepared statement that psycopg runs alone (a COPY for
many points, a commit of one row for few); of a read, psycopg and MLflow's entities; over HTTP, what
is left when the store's own time is taken away. The last table is in benchmarks/tracking.md.
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
import uuid
from collections.abc import Callable, Iterator, Sequence
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
Call = Callable[["Side", int], Any]
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


def fill_runs(side: Side, count: int) -> None:
    """Runs with 20 metrics, 20 params and 10 tags each, in experiment 0; no foreign keys asked."""
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


def batches(keys: int, repeats: int) -> Call:
    """log_batch of 1,000 points of so many series; its metrics are made beforehand."""
    each = 1000 // keys
    made = [
        [
            Metric(f"k{keys}_{j % keys}", float(j), T0 + step, step)
            for j in range(1000)
            for step in (i * each + j // keys,)
        ]
        for i in range(repeats + 1)
    ]
    return lambda side, i: side.store.log_batch(side.run, made[i], [], [])


def single_calls(repeats: int) -> dict[str, Call]:
    turns = range(repeats + 1)
    params = [[Param(f"p{i}_{j}", "v") for j in range(100)] for i in turns]
    tags = [[RunTag(f"t{j}", str(i)) for j in range(100)] for i in turns]
    return {
        "log_metric": lambda s, i: s.store.log_metric(s.run, Metric("one", 1.0, T0 + i, i)),
        "log_param": lambda s, i: s.store.log_param(s.run, Param(f"one{i}", "v")),
        "set_tag": lambda s, i: s.store.set_tag(s.run, RunTag("one", str(i))),
        "log_batch, 100 params": lambda s, i: s.store.log_batch(s.run, [], params[i], []),
        "log_batch, 100 tags": lambda s, i: s.store.log_batch(s.run, [], [], tags[i]),
        "create_run": lambda s, i: s.store.create_run("0", "me", i, [RunTag("a", "b")], "r"),
    }


def writes(sides: list[Side], repeats: int) -> None:
    for side in sides:
        side.run = side.store.create_run("0", "me", 1, [], "written").info.run_id
    ours = sides[0]

    def commit(i: int) -> None:
        update = "UPDATE runs SET name = %s WHERE run_uuid = %s"
        ours.conn.execute(update, [str(i), ours.run], prepare=True)

    ours.conn.execute(
        "CREATE TABLE raw (LIKE metrics, "
        " PRIMARY KEY (run_uuid, key, step, timestamp, value, is_nan))"
    )

    def copy(i: int) -> None:
        with ours.conn.cursor() as cursor, cursor.copy(f"COPY raw {POINT} FROM STDIN") as out:
            for j in range(1000):
                out.write_row((ours.run, f"k{j}", float(j), T0 + j, i, False))

    one, raw = floor_of(commit), floor_of(copy)
    report(
        "log_batch, 1,000 points of 10 series", *compare(sides, batches(10, repeats), repeats), raw
    )
    report(
        "log_batch, 1,000 points of 1,000 series",
        *compare(sides, batches(1000, repeats), repeats),
        raw,
    )
    for name, call in single_calls(max(repeats, 21)).items():
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
        f"get_run of {label} (20 metrics, 20 params, 10 tags)",
        *compare(sides, lambda s, i: s.store.get_run(FIRST_RUN), max(repeats, 21)),
        floor_of(lambda _: info_alone(ours), 21),
    )
    report(
        f"create_run beside {label}",
        *compare(sides, lambda s, i: s.store.create_run("0", "me", i, [], "r"), max(repeats, 21)),
    )


def info_alone(side: Side) -> None:
    """The least that a run's 52 rows take: a statement for each table, no entities."""
    for table in ("runs", "latest_metrics", "params", "tags"):
        query = f"SELECT * FROM {table} WHERE run_uuid = %s"
        side.conn.execute(query, [FIRST_RUN], prepare=True, binary=True).fetchall()


def series(sides: list[Side], points: int, repeats: int) -> None:
    for side in sides:
        side.long = fill_series(side, points)

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
    end = T0 + points * 1000
    batches = [
        [
            Metric("loss", float(j), end + i * 1000 + j, points + i * 1000 + j)
            for j in range(1, 1001)
        ]
        for i in range(repeats + 1)
    ]
    report(
        f"log_batch, 1,000 points after {points:,}",
        *compare(sides, lambda s, i: s.store.log_batch(s.long, batches[i], [], []), repeats),
    )
    report(
        f"log_metric after {points:,} points",
        *compare(
            sides,
            lambda s, i: s.store.log_metric(
                s.long, Metric("loss", 1.0, 2 * end + i, 2 * points + i)
            ),
            repeats,
        ),
    )


def sizes(sides: list[Side], runs: int = 100) -> None:
    """Bytes a point, of runs that log ten metrics each, in turns, as they do while they train."""
    call = batches(10, 2)
    added = []
    for side in sides:
        bytes_before, points_before = measured(side)
        made = [side.store.create_run("0", "me", 1, [], f"r{i}").info.run_id for i in range(runs)]
        for i in range(3):
            for side.run in made:
                call(side, i)
        bytes_after, points_after = measured(side)
        added.append((bytes_after - bytes_before) / (points_after - points_before))
    report("bytes a point, indexes and marks included", *added)


def measured(side: Side) -> tuple[int, int]:
    """Bytes of the points with all that belongs to them, and how many points there are."""
    tables = ["metrics"]
    if side.name == "ours":
        tables += ["mlops.metric_marks", "mlops.run_ranges"]
    side.conn.execute("VACUUM metrics")
    found = side.conn.execute(
        "SELECT sum(pg_total_relation_size(whole.id)) FROM unnest(%s::regclass[]) AS given (id),"
        " LATERAL (SELECT given.id UNION SELECT inhrelid FROM pg_inherits"
        " WHERE inhparent = given.id) AS whole (id)",
        [tables],
    ).fetchone()
    [points] = side.conn.execute("SELECT count(*) FROM metrics").fetchone()
    return int(found[0]), points


def chunks(sides: list[Side], repeats: int) -> None:
    """One run among 500 others, each in a chunk of its own."""
    for side in sides:
        side.conn.execute("SET session_replication_role = replica")  # their runs do not matter
        side.conn.execute(
            f"INSERT INTO metrics {POINT} SELECT md5(i::text), 'old', j,"
            " i * 2592000000::bigint + j, j, false"
            " FROM generate_series(1, 500) i, generate_series(1, 20) j"
        )
        side.conn.execute("RESET session_replication_role")
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

        def direct(call: Callable[[Any], Any]) -> Callable[[int], Any]:
            return lambda i: call(sides[0].store)

        run = sides[0].run
        calls: list[tuple[str, Callable[[Side, int], Any], Callable[[Any], Any]]] = [
            (
                "log_batch, 1,000 points of 10 series",
                batch,
                lambda store: store.log_batch(
                    run, [Metric(f"d{j % 10}", float(j), T0, j // 10) for j in range(1000)], [], []
                ),
            ),
            (
                "log_metric",
                lambda s, i: clients[s.name].log_metric(s.run, "h", 1.0, T0 + i, i),
                lambda store: store.log_metric(run, Metric("d", 1.0, T0, 1)),
            ),
            (
                "search_runs, 100",
                lambda s, i: clients[s.name].search_runs(["0"], max_results=100),
                lambda store: store.search_runs(["0"], "", ViewType.ACTIVE_ONLY, 100),
            ),
            (
                "get_run",
                lambda s, i: clients[s.name].get_run(FIRST_RUN),
                lambda store: store.get_run(FIRST_RUN),
            ),
            (
                "chart",
                chart,
                lambda store: store.get_metric_history_bulk_interval(
                    [sides[0].long], "loss", 320, None, None
                ),
            ),
        ]
        for name, call, native in calls:
            ours_ms, theirs_ms = compare(sides, call, repeats)
            floor = max(ours_ms - floor_of(direct(native), repeats), 0)
            report(f"HTTP: {name}", ours_ms, theirs_ms, floor)


def run_parts(
    server: DatabaseURI, parts: Sequence[str], runs: list[int], points: list[int], repeats: int
) -> None:
    """Measure on two databases; on two new ones for each number of runs."""
    sides = make_sides(server)
    try:
        if "writes" in parts:
            writes(sides, repeats)
        for number, count in enumerate(runs if {"searches", "http"} & {*parts} else []):
            if number:
                drop(server, sides)
                sides = make_sides(server)
            for side in sides:
                fill_runs(side, count)
                side.conn.execute("VACUUM ANALYZE")
            if "searches" in parts:
                searches(sides, repeats, f"{count:,}")
        for count in points if {"series", "http", "chunks"} & {*parts} else []:
            series(sides, count, repeats)
        if "sizes" in parts:
            sizes(sides)
        for side in sides:
            side.run = side.store.create_run("0", "me", 1, [], "written").info.run_id
        if "http" in parts:
            over_http(sides, repeats)
        if "chunks" in parts:
            chunks(sides, repeats)
    finally:
        drop(server, sides)


PARTS = ("writes", "searches", "series", "sizes", "http", "chunks")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("uri", nargs="?")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--runs", type=int, nargs="*", default=[20_000])
    parser.add_argument("--points", type=int, nargs="*", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    given = contextlib.nullcontext(DatabaseURI.parse(arguments.uri)) if arguments.uri else None
    with given or temporary() as server:
        print("| call | ours ms | SqlAlchemyStore ms | ratio | floor ms |")
        print("|---|--:|--:|--:|--:|")
        run_parts(server, arguments.only, arguments.runs, arguments.points, arguments.repeats)


if __name__ == "__main__":
    main()
