"""How `metrics` is stored: size per point, insert and read cost, beside MLflow's own layout.

    python -m benchmarks.tracking.layout [--uri URI] [--points 1000000]

Both layouts live in databases of one server and take the same statements in turns, so the ratios
hold on a noisy machine. Points arrive as training code sends them: run by run, batches of 1,000
with all keys of a step together.
"""

from __future__ import annotations

import gc
import statistics
import uuid

import mlflow.store.db.utils as mlflow_db
import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks import harness
from benchmarks.harness import alternating, new_database, seconds
from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.schema import prepare

KEYS, STEPS, BATCH = 10, 1_000, 1_000
DAY_MS = 86_400_000
START_MS = 1_700_000_000_000
COPY = "COPY metrics (run_uuid, key, value, timestamp, step, is_nan) FROM STDIN (FORMAT BINARY)"
TYPES = ["varchar", "varchar", "float8", "int8", "int8", "bool"]
READS = {
    "history of one metric (1,000 points)": """
        SELECT key, value, timestamp, step, is_nan FROM metrics
        WHERE run_uuid = %(run)s AND key = 'metric_3' ORDER BY timestamp, step, value""",
    "last step of a run's metric": """
        SELECT max(step) FROM metrics WHERE run_uuid = %(run)s AND key = 'metric_3'""",
    "320 evenly spaced steps of a metric": """
        SELECT point.* FROM generate_series(0, 999, 3) AS wanted(step), LATERAL (
            SELECT step, value FROM metrics
            WHERE run_uuid = %(run)s AND key = 'metric_3' AND step >= wanted.step
            ORDER BY step LIMIT 1) AS point""",
    "all points of a run (10,000)": """
        SELECT key, value, timestamp, step, is_nan FROM metrics WHERE run_uuid = %(run)s""",
}


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--points", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with (
        harness.server(arguments.uri) as server,
        new_database(server, "mlflow") as theirs,
        new_database(server) as ours,
    ):
        gc.freeze()
        compare(theirs, ours, arguments.points)


def compare(theirs: DatabaseURI, ours: DatabaseURI, points: int) -> None:
    engine = mlflow_db.create_sqlalchemy_engine(theirs.url)
    mlflow_db._initialize_tables(engine)
    engine.dispose()
    prepare(ours.url)
    with db.connect(theirs, autocommit=True) as a, db.connect(ours, autocommit=True) as b:
        runs = [uuid.uuid4().hex for _ in range(points // (KEYS * STEPS))]
        create_runs(a, runs), create_runs(b, runs)
        inserts = fill([a, b], runs)
        for conn in (a, b):
            conn.execute("VACUUM ANALYZE metrics")
        show(inserts, [bytes_per_point(conn, points) for conn in (a, b)], read([a, b], runs), b)


def create_runs(conn: psycopg.Connection, runs: list[str]) -> None:
    conn.execute(
        "INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'x', 'active')"
    )
    conn.execute(
        "INSERT INTO runs (run_uuid, experiment_id, lifecycle_stage) "
        "SELECT run, 7, 'active' FROM unnest(%s::text[]) AS run",
        [runs],
    )


def fill(conns: list[psycopg.Connection], runs: list[str]) -> list[float]:
    """Seconds a batch of 1,000 takes, median, by connection; runs are spread over half a year."""
    taken: list[list[float]] = [[], []]
    for number, run in enumerate(runs):
        start = START_MS + number * 180 * DAY_MS // len(runs)
        for first in range(0, STEPS, BATCH // KEYS):
            rows = [
                (run, f"metric_{key}", 1 / (step + key + 1), start + step * 1000, step, False)
                for step in range(first, first + BATCH // KEYS)
                for key in range(KEYS)
            ]
            for which in alternating(number):
                taken[which].append(seconds(lambda _: copy(conns[which], rows)))  # noqa: B023
    return [statistics.median(each) for each in taken]


def copy(conn: psycopg.Connection, rows: list[tuple[object, ...]]) -> None:
    with conn.cursor() as cursor, cursor.copy(COPY) as stream:
        stream.set_types(TYPES)
        for row in rows:
            stream.write_row(row)


def read(conns: list[psycopg.Connection], runs: list[str]) -> dict[str, list[float]]:
    medians = {}
    for name, statement in READS.items():
        taken: list[list[float]] = [[], []]
        for number, run in enumerate(runs[:: max(1, len(runs) // 25)]):
            for which in alternating(number):
                taken[which].append(
                    seconds(lambda _: conns[which].execute(statement, {"run": run}).fetchall())  # noqa: B023
                )
        medians[name] = [statistics.median(each) for each in taken]
    return medians


def bytes_per_point(conn: psycopg.Connection, points: int) -> float:
    """With indexes; a hypertable's own relation is empty, its chunks hold the points."""
    row = conn.execute(
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE oid = 'metrics'::regclass "
        "OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'metrics'::regclass)"
    ).fetchone()
    assert row is not None
    return float(row[0]) / points


def show(
    inserts: list[float],
    sizes: list[float],
    reads: dict[str, list[float]],
    ours: psycopg.Connection,
) -> None:
    version = ours.execute("SELECT current_setting('server_version')").fetchone()
    table = Table(title=f"metrics on PostgreSQL {version and version[0]}")
    for column in ("", "MLflow's layout", "ours", "ours / MLflow's"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("bytes a point", *(f"{s:.0f}" for s in sizes), f"{sizes[1] / sizes[0]:.2f}")
    for name, (a, b) in {"insert 1,000 points (COPY)": inserts, **reads}.items():
        table.add_row(name, f"{a * 1e3:.2f} ms", f"{b * 1e3:.2f} ms", f"{b / a:.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
