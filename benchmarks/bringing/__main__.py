"""Importing a folder of runs with artifacts, and a sqlite database; the same again without news.

    python -m benchmarks.bringing [--uri URI] [--runs 5000] [--points 200] [--artifacts 5]
                                  [--sqlite-runs 20000] [--converted 500] [--traces 20000]

MLflow's `migrate-filestore` converts the first runs of the same folder to sqlite, for a ratio by
run; 0 of `--runs`, `--sqlite-runs` or `--traces` (of 10 spans) leaves out a part. Processor time
is that of the client and of its connections to the server. The peak of memory, on stderr, is the
client's.
benchmarks/bringing.md has the latest table.
"""

from __future__ import annotations

import io
import os
import sqlite3
import sys
import tempfile
import uuid
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stdout
from pathlib import Path

from mlflow.entities import (
    Metric,
    Param,
    RunStatus,
    RunTag,
    TraceInfo,
    TraceLocation,
    TraceState,
)
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from benchmarks import harness
from benchmarks.harness import Cost, Meter, new_database, peak_memory
from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.bringing.files import copy_artifacts, owners_of
from mlflow_timescale.operations.bringing.merging import Merged, merge_from
from mlflow_timescale.schema import prepare

KEYS = 4
COPIES = {
    "runs": "run_uuid, name, source_type, source_name, entry_point_name, user_id, status,"
    " start_time, end_time, deleted_time, source_version, lifecycle_stage, artifact_uri,"
    " experiment_id",
    "params": "run_uuid, key, value",
    "tags": "run_uuid, key, value",
    "metrics": "run_uuid, key, value, timestamp, step, is_nan",
    "latest_metrics": "run_uuid, key, value, timestamp, step, is_nan",
}
SPANS = (
    "WITH RECURSIVE number (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM number WHERE i < 10)"
    " INSERT INTO spans (trace_id, experiment_id, span_id, name, type, status,"
    " start_time_unix_nano, end_time_unix_nano, content)"
    " SELECT request_id, experiment_id, 's' || i, 'n', 'CHAIN', 'OK', 1, 2, hex(randomblob(500))"
    " FROM trace_info, number"
)


def log_run(store: SqlAlchemyStore, experiment: str, points: int) -> str:
    """One finished run with KEYS series, 8 params and 5 tags."""
    run_id: str = store.create_run(experiment, "me", 1_700_000_000_000, [], "run").info.run_id
    for key in range(KEYS):
        series = [Metric(f"m{key}", i / 7, 1_700_000_000_000 + i, i) for i in range(points // KEYS)]
        store.log_batch(run_id, series, [], [])
    params = [Param(f"p{i}", "v") for i in range(8)]
    store.log_batch(run_id, [], params, [RunTag(f"t{i}", "v") for i in range(5)])
    store.update_run_info(run_id, RunStatus.FINISHED, 1_700_000_001_000, "run")
    return run_id


def make_folder(root: Path, runs: int, points: int, artifacts: int) -> Path:
    """A file store that MLflow made, and whose run was copied; returns the folder of its runs."""
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    from mlflow.store.tracking.file_store import FileStore

    store = FileStore(str(root))
    experiment = store.create_experiment("workflow")
    first = root / experiment / log_run(store, experiment, points)
    for number in range(artifacts):
        file = first / "artifacts" / "sub" / f"{number}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(2_000))
    meta = (first / "meta.yaml").read_text()
    files = [path for path in first.rglob("*") if path.is_file() and path.name != "meta.yaml"]
    own = [path for path in files if path.suffix == ".bin"]
    for _ in range(runs - 1):
        copy = first.with_name(uuid.uuid4().hex)
        for folder in {path.parent for path in files}:
            (copy / folder.relative_to(first)).mkdir(parents=True, exist_ok=True)
        for path in files:
            if path in own:
                (copy / path.relative_to(first)).write_bytes(os.urandom(2_000))
            else:
                (copy / path.relative_to(first)).hardlink_to(path)
        (copy / "meta.yaml").write_text(meta.replace(first.name, copy.name))
    return root / experiment


def make_sqlite(path: Path, runs: int) -> str:
    """A sqlite file that MLflow made, and whose run was copied."""
    url = f"sqlite:///{path}"
    store = SqlAlchemyStore(url, str(path.parent / "mlartifacts"))
    first = log_run(store, store.create_experiment("workflow"), 50)
    copies = [(uuid.uuid4().hex,) for _ in range(runs - 1)]
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TEMP TABLE copies (id TEXT)")
        conn.executemany("INSERT INTO copies VALUES (?)", copies)
        for table, columns in COPIES.items():
            values = columns.replace("run_uuid", "copies.id", 1)
            conn.execute(
                f"INSERT INTO {table} ({columns}) SELECT {values} FROM {table} AS kept, copies"
                " WHERE kept.run_uuid = ?",
                [first],
            )
        conn.commit()
    return url


@contextmanager
def target(on: DatabaseURI) -> Iterator[DatabaseURI]:
    with new_database(on) as uri:
        prepare(uri.url)
        yield uri


def merge(uri: DatabaseURI, source: str) -> tuple[Cost, Merged]:
    merged: list[Merged] = []
    with db.connect(uri, autocommit=True) as conn:
        # Its own connection is the only one, so that its processor time is counted to the end.
        meter = Meter(uri)
        cost = meter(lambda: merged.append(merge_from(source, conn, changes=True)))
    return cost, merged[0]


def copy(uri: DatabaseURI, merged: Merged, expected: int) -> Cost:
    """Copy what is new of the artifacts; `expected` files."""
    copied = []

    def run() -> None:
        with db.connect(uri, autocommit=True) as conn:
            owners = owners_of(conn, merged.locations)
        copied.append(copy_artifacts(uri, owners))

    cost = Meter(uri)(run)
    assert (copied[0].files, copied[0].skipped) == (expected, {})
    return cost


def convert(folder: Path, runs: int, scratch: Path) -> float:
    """Processor seconds of MLflow's converter for some runs of a folder."""
    from mlflow.store.fs2db import migrate

    part = scratch / "part" / "mlruns" / folder.name
    part.mkdir(parents=True)
    (part / "meta.yaml").hardlink_to(folder / "meta.yaml")
    for run in sorted(path for path in folder.iterdir() if path.is_dir())[:runs]:
        (part / run.name).symlink_to(run, target_is_directory=True)
    with redirect_stdout(io.StringIO()):
        return harness.seconds(
            lambda _: migrate(part.parent.parent, f"sqlite:///{scratch}/part.db"),
            clock=harness.time.process_time,
        )


def line(name: str, runs: int, cost: Cost) -> None:
    print(
        f"| {name} | {cost.wall:.1f} | {cost.cpu:.1f} | {1000 * cost.cpu / runs:.2f} |", flush=True
    )


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--runs", type=int, default=5_000)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--artifacts", type=int, default=5)
    parser.add_argument("--sqlite-runs", type=int, default=20_000)
    parser.add_argument("--traces", type=int, default=20_000)
    parser.add_argument("--converted", type=int, default=500)
    args = parser.parse_args()
    print("| | wall s | cpu s | cpu ms a run |\n|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as name, harness.server(args.uri) as on:
        if args.runs:
            measure_folder(on, Path(name), args)
        if args.sqlite_runs:
            measure_sqlite(on, Path(name), args.sqlite_runs)
        if args.traces:
            measure_traces(on, Path(name), args.traces)


def measure_folder(on: DatabaseURI, scratch: Path, args: Namespace) -> None:
    folder = make_folder(scratch / "mlruns", args.runs, args.points, args.artifacts)
    files = args.runs * args.artifacts
    with target(on) as uri:
        cost, merged = merge(uri, str(folder.parent))
        line(f"folder, {args.runs:,} runs x {args.points} points", args.runs, cost)
        cost = copy(uri, merged, files)
        line(f"its artifacts, {files:,} files of 2 kB", args.runs, cost)
        cost, merged = merge(uri, str(folder.parent))
        line("folder again, nothing new", args.runs, cost)
        line("its artifacts again, nothing new", args.runs, copy(uri, merged, 0))
    print(f"peak memory {peak_memory():,.0f} MB", file=sys.stderr)
    cpu = convert(folder, args.converted, scratch)
    line(f"MLflow's converter, {args.converted} runs", args.converted, Cost(cpu, cpu))


def measure_sqlite(on: DatabaseURI, scratch: Path, runs: int) -> None:
    url = make_sqlite(scratch / "mlflow.db", runs)
    with target(on) as uri:
        line(f"sqlite, {runs:,} runs x 48 points", runs, merge(uri, url)[0])
        line("sqlite again, nothing new", runs, merge(uri, url)[0])
    print(f"peak memory {peak_memory():,.0f} MB", file=sys.stderr)


def make_traces(path: Path, traces: int) -> str:
    """A sqlite file in which a trace of MLflow's was copied, with 10 spans of 1 kB each."""
    url = f"sqlite:///{path}"
    store = SqlAlchemyStore(url, str(path.parent / "mlartifacts"))
    place = TraceLocation.from_experiment_id(store.create_experiment("traces"))
    store.start_trace(TraceInfo("tr-0", place, 1, TraceState.OK, tags={"k": "1"}))
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TEMP TABLE copies (id TEXT)")
        names = [(f"tr-{number}",) for number in range(1, traces)]
        conn.executemany("INSERT INTO copies VALUES (?)", names)
        for table in ("trace_info", "trace_tags"):
            listed = [row[1] for row in conn.execute(f"PRAGMA table_info({table})")]
            columns = ", ".join(name for name in listed if name != "request_id")
            conn.execute(
                f"INSERT INTO {table} (request_id, {columns}) SELECT copies.id, {columns}"
                f" FROM {table}, copies WHERE request_id = 'tr-0'"
            )
        conn.execute(SPANS)
        conn.commit()
    return url


def measure_traces(on: DatabaseURI, scratch: Path, traces: int) -> None:
    url = make_traces(scratch / "traces.db", traces)
    with target(on) as uri:
        line(f"sqlite, {traces:,} traces of 10 spans", traces, merge(uri, url)[0])
        line("sqlite again, nothing new", traces, merge(uri, url)[0])
        with closing(sqlite3.connect(scratch / "traces.db")) as conn:
            conn.execute("UPDATE trace_tags SET value = '2' WHERE request_id = 'tr-0'")
            conn.commit()
        cost, merged = merge(uri, url)
        assert [*merged.rows] == ["trace_tags"]
        line("sqlite again, a tag of one trace is new", traces, cost)


if __name__ == "__main__":
    main()
