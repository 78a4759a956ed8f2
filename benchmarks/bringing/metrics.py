"""Points as one Arrow table, beside MLflow's own history calls on the same database.

    python -m benchmarks.bringing.metrics [--uri URI] [--runs 100] [--points 100000]

`mlflow_timescale.metrics` reads all runs. MLflow's calls, which return an object for each point,
read `--sampled` runs; the column of processor time a point compares them. benchmarks/bringing.md
has the latest table.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

import mlflow_timescale
from benchmarks import harness
from benchmarks.harness import Cost, Meter, new_database
from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.schema import prepare

KEYS = 10
RUN = (
    "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan)"
    " SELECT %(run)s, 'metric_' || i %% 10, random(), 1700000000000 + i / 10 * 1000, i / 10, false"
    " FROM generate_series(0, %(points)s - 1) AS i"
)
LATEST = (
    "INSERT INTO latest_metrics (run_uuid, key, value, timestamp, step, is_nan)"
    " SELECT %(run)s, 'metric_' || i, 0, 0, 0, false FROM generate_series(0, 9) AS i"
)


def fill(uri: DatabaseURI, runs: int, points: int) -> list[str]:
    client = MlflowClient(uri.url, uri.url)
    experiment = client.create_experiment("points")
    ids = [client.create_run(experiment).info.run_id for _ in range(runs)]
    with db.connect(uri, autocommit=True) as conn:
        for run in ids:
            conn.execute(RUN, {"run": run, "points": points})
            conn.execute(LATEST, {"run": run})
        conn.execute("VACUUM (ANALYZE) metrics")
    return ids


def line(name: str, points: int, cost: Cost, least: float) -> None:
    ratio = cost.cpu / points / least
    rate = points / cost.wall
    print(
        f"| {name} | {points:,} | {cost.wall:.2f} | {cost.cpu:.2f} | {rate:,.0f} | {ratio:.1f} |",
        flush=True,
    )


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--sampled", type=int, default=1)
    args = parser.parse_args()
    with harness.server(args.uri, durable=False) as on, new_database(on) as uri:
        prepare(uri.url)
        ids = fill(uri, args.runs, args.points)
        client = MlflowClient(uri.url, uri.url)
        meter, total = Meter(uri), args.runs * args.points
        print("| | points | wall s | cpu s | points/s | cpu a point |\n|---|--:|--:|--:|--:|--:|")
        peaks = []
        with peak(peaks):
            ours = meter(lambda: mlflow_timescale.metrics(uri, ids))
        least = ours.cpu / total
        line("mlflow_timescale.metrics", total, ours, least)
        sampled = ids[: args.sampled]
        for name, call in mlflows_calls(client, args.points).items():
            with peak(peaks):
                cost = meter(lambda call=call: [kept for run in sampled for kept in call(run)])
            line(name, len(sampled) * args.points, cost, least)
        extremes = meter(lambda: mlflow_timescale.metric_extremes(uri, ids))
        print(f"\nextremes of {args.runs * KEYS:,} series: {extremes.cpu:.2f} s of processor time")
        print(f"memory above the start, MB: {', '.join(f'{each:,.0f}' for each in peaks)}")


def mlflows_calls(client: MlflowClient, points: int) -> dict[str, Callable[[str], list[Any]]]:
    """MLflow's calls that return all points of a run, each as objects."""
    store = client._tracking_client.store
    keys = [f"metric_{key}" for key in range(KEYS)]
    return {
        "get_metric_history": lambda run: [client.get_metric_history(run, key) for key in keys],
        "get_metric_history_bulk": lambda run: [
            store.get_metric_history_bulk([run], key, points) for key in keys
        ],
        "get_metric_history_bulk_interval": lambda run: [
            store.get_metric_history_bulk_interval([run], key, points, None, None) for key in keys
        ],
    }


@contextmanager
def peak(peaks: list[float]) -> Iterator[None]:
    """Add the greatest memory of this process in the block to a list, above that at its start."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    start = memory("VmRSS:")
    yield
    peaks.append(memory("VmHWM:") - start)


def memory(field: str) -> float:
    """A figure of this process, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(field)[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
