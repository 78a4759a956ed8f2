"""Points as one Arrow table, beside MLflow's own history calls on the same database.

    python -m benchmarks.bringing.metrics [--uri URI] [--runs 100] [--points 100000]

`mlflow_timescale.metrics` reads all runs. MLflow's calls, which return an object for each point,
read `--sampled` runs, and are extended to all by the number of points. benchmarks/bringing.md has
the latest table.
"""

from __future__ import annotations

import gc

from mlflow import MlflowClient

import mlflow_timescale
from benchmarks import harness
from benchmarks.harness import Cost, Meter, new_database, peak_memory
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
        gc.collect()
        ours = meter(lambda: mlflow_timescale.metrics(uri, ids))
        least = ours.cpu / total
        line("mlflow_timescale.metrics", total, ours, least)
        print(f"\npeak memory {peak_memory():,.0f} MB\n")
        sampled = ids[: args.sampled]
        histories = meter(
            lambda: [
                client.get_metric_history(run, f"metric_{key}")
                for run in sampled
                for key in range(KEYS)
            ]
        )
        line("get_metric_history", len(sampled) * args.points, histories, least)


if __name__ == "__main__":
    main()
