"""MLflow's tracking calls on our store and on MLflow's own, same server, interleaved.

    python -m benchmarks.tracking [--uri URI] [--only PART ...] [--runs 20000 ...]
                                  [--points 1000000 ...]

Creates two databases on the server, writes the same data to both, and prints a Markdown table:
median milliseconds of our store and of SqlAlchemyStore on psycopg2, the ratio, and the floor. The
floor of a write is one prepared statement in psycopg (a COPY for many points, a commit of one row
for few); of a read, psycopg and MLflow's entities; over HTTP, the remainder without the store's own
time. benchmarks/tracking.md has the latest table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mlflow.entities import Metric, Param, RunTag, ViewType

from benchmarks import harness
from benchmarks.tracking.calls import batches, single_calls
from benchmarks.tracking.http import over_http
from benchmarks.tracking.sides import (
    BURST,
    FIRST_RUN,
    POINT,
    T0,
    Side,
    compare,
    drop,
    fill_runs,
    fill_series,
    floor_of,
    make_sides,
    report,
)
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.packing import pack


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

    raw = floor_of(copy)
    for keys, burst in ((10, BURST // 2), (1000, 1)):
        ms = compare(sides, batches(keys, (repeats + 1) * burst), repeats, burst)
        report(f"log_batch, 1,000 points of {keys:,} series", *ms, raw)
    often = max(repeats, 21)
    calls = single_calls((often + 1) * BURST)
    one = floor_of(commit, often, BURST)
    for name, call in calls.items():
        # MLflow reads all params of a run for each batch of them: more bursts, more of those.
        report(name, *compare(sides, call, often, 1 if "params" in name else BURST), one)
    later = (often + 1) * BURST
    alone = compare(sides, lambda s, i: calls["log_metric"](s, later + i), often)
    report("log_metric, alone", *alone, floor_of(commit, often))


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

        return floor_of(action, 3, BURST // 2 if count == 100 else 1)

    for count in (100, 1000):
        report(
            f"search_runs, {count:,} of {label}",
            *compare(
                sides,
                lambda s, i, n=count: s.store.search_runs(["0"], "", ViewType.ACTIVE_ONLY, n),
                repeats if count == 100 else max(3, repeats // 3),
                BURST // 2 if count == 100 else 1,
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
            BURST // 2,
        ),
    )
    often = max(repeats, 21)
    report(
        f"get_run of {label} (20 metrics, 20 params, 10 tags)",
        *compare(sides, lambda s, i: s.store.get_run(FIRST_RUN), often, BURST),
        floor_of(lambda _: info_alone(ours), often, BURST),
    )
    report(
        "get_run, alone",
        *compare(sides, lambda s, i: s.store.get_run(FIRST_RUN), often),
        floor_of(lambda _: info_alone(ours), often),
    )
    report(
        f"create_run beside {label}",
        *compare(sides, lambda s, i: s.store.create_run("0", "me", i, [], "r"), often, BURST),
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

    short, burst = max(3, repeats // 3), max(1, min(BURST, 3_000_000 // points))
    report(f"chart of {points:,} points", *compare(sides, chart, short, burst))
    for name, offset in (("first", 0), ("last", points // 2)):
        ms = compare(sides, page(offset), short, burst)
        report(f"{name} page of {points:,} points", *ms, floor_of(raw, 3, burst))
    report(
        f"max step of {points:,} points",
        *compare(sides, lambda s, i: s.store.get_max_step_for_metric(s.long, "loss"), short, BURST),
    )
    end = T0 + points * 1000
    batches = [
        [
            Metric("loss", float(j), end + i * 1000 + j, points + i * 1000 + j)
            for j in range(1, 1001)
        ]
        for i in range((repeats + 1) * BURST // 2)
    ]
    report(
        f"log_batch, 1,000 points after {points:,}",
        *compare(
            sides, lambda s, i: s.store.log_batch(s.long, batches[i], [], []), repeats, BURST // 2
        ),
    )
    report(
        f"log_metric after {points:,} points",
        *compare(
            sides,
            lambda s, i: s.store.log_metric(
                s.long, Metric("loss", 1.0, 2 * end + i, 2 * points + i)
            ),
            repeats,
            BURST,
        ),
    )


def sizes(sides: list[Side], runs: int = 100) -> None:
    """Bytes a point, of runs that log ten metrics each, in turns, as they do while they train."""
    call = batches(10, 3)
    written, packed = [], []
    for side in sides:
        rebuild_keys(side)
        bytes_before, points_before = measured(side)
        made = [side.store.create_run("0", "me", 1, [], f"r{i}").info.run_id for i in range(runs)]
        for i in range(3):
            for side.run in made:
                call(side, i)
        for sizes in (written, packed):
            bytes_after, points_after = measured(side)
            sizes.append((bytes_after - bytes_before) / (points_after - points_before))
            rebuild_keys(side)
    report("bytes a point, indexes and marks included", *written)
    report("bytes a point, indexes rebuilt (`pack`, REINDEX)", *packed)


def rebuild_keys(side: Side) -> None:
    if side.name == "ours":
        pack(side.conn, lambda key, now: None)
    else:
        side.conn.execute("REINDEX TABLE metrics")


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
    parser = harness.parser(__doc__)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--runs", type=int, nargs="*", default=[20_000])
    parser.add_argument("--points", type=int, nargs="*", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    with harness.server(arguments.uri) as server:
        print("| call | ours ms | SqlAlchemyStore ms | ratio | floor ms |")
        print("|---|--:|--:|--:|--:|")
        run_parts(server, arguments.only, arguments.runs, arguments.points, arguments.repeats)


if __name__ == "__main__":
    main()
