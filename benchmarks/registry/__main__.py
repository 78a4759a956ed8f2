"""Searching the model registry and deleting an experiment, ours and MLflow's, same server.

    python -m benchmarks.registry [--uri URI] [--models 1000] [--versions 20] [--points 100000]

Creates two databases on the server, writes the same data to both, and prints a Markdown table:
median milliseconds of alternating calls, and the ratio. benchmarks/registry.md has the latest one.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking
from psycopg import sql

from benchmarks import harness
from benchmarks.databases import vanilla_url
from benchmarks.harness import alternating, new_database, seconds
from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.registry.store import TimescaleRegistryStore
from mlflow_timescale.tracking.store import TimescaleTrackingStore

FILL = (
    "INSERT INTO registered_models (name, creation_time, last_updated_time)"
    " SELECT 'm' || i, i, i FROM generate_series(1, %(models)s) AS i",
    "INSERT INTO registered_model_tags (name, key, value)"
    " SELECT 'm' || i, 'k' || k, 'v' FROM generate_series(1, %(models)s) AS i,"
    " generate_series(1, 3) AS k",
    "INSERT INTO model_versions (name, version, creation_time, last_updated_time, current_stage,"
    " source, run_id, status) SELECT 'm' || i, v, v, v, 'None', 's3://x', 'r', 'READY'"
    " FROM generate_series(1, %(models)s) AS i, generate_series(1, %(versions)s) AS v",
    "INSERT INTO model_version_tags (name, version, key, value) SELECT 'm' || i, v, 'k' || k, 'v'"
    " FROM generate_series(1, %(models)s) AS i, generate_series(1, %(versions)s) AS v,"
    " generate_series(1, 5) AS k",
    "INSERT INTO registered_model_aliases (name, version, alias)"
    " SELECT 'm' || i, %(versions)s, 'champion' FROM generate_series(1, %(models)s) AS i",
)
POINTS = (
    "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan)"
    " SELECT %(run)s, 'm' || i %% 10, i, 1700000000000 + i * 1000, i, false"
    " FROM generate_series(1, %(points)s) AS i"
)
SEARCHES: dict[str, Callable[[Any], object]] = {
    "search_model_versions, 1,000": lambda s: s.search_model_versions(max_results=1000),
    "search_model_versions, 100": lambda s: s.search_model_versions(max_results=100),
    "search_model_versions, 1,000, by tag": lambda s: s.search_model_versions(
        "tags.k1 = 'v'", max_results=1000
    ),
    "search_model_versions, of one model": lambda s: s.search_model_versions("name = 'm7'"),
    "search_registered_models, 100": lambda s: s.search_registered_models(max_results=100),
    "search_registered_models, 1,000": lambda s: s.search_registered_models(max_results=1000),
}


def fill(uri: DatabaseURI, sizes: dict[str, int]) -> None:
    with db.connect(uri, autocommit=True) as conn:
        for table in ("model_versions", "model_version_tags"):  # the history is not the subject
            conn.execute(
                sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(sql.Identifier(table))
            )
        for statement in FILL:
            conn.execute(statement, sizes)
        conn.execute("VACUUM ANALYZE")


def delete(store: Any, uri: DatabaseURI, points: int) -> float:
    """Milliseconds that deleting an experiment of one long run takes, for good."""
    experiment = store.create_experiment("long")
    run = store.create_run(experiment, "me", 1, [], "run").info.run_id
    with db.connect(uri, autocommit=True) as conn:
        conn.execute(POINTS, {"run": run, "points": points})
    store.delete_experiment(experiment)
    return seconds(lambda _: store._hard_delete_experiment(experiment)) * 1000


def compare(call: Callable[[Any], object], stores: list[Any], repeats: int) -> list[float]:
    times: list[list[float]] = [[], []]
    for turn in range(repeats):
        for side in alternating(turn):
            times[side].append(seconds(lambda _: call(stores[side])) * 1000)  # noqa: B023
    return [statistics.median(taken) for taken in times]


def row(name: str, ours: float, theirs: float) -> None:
    print(f"| {name} | {ours:,.1f} | {theirs:,.1f} | {theirs / ours:,.1f} |")


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--versions", type=int, default=20)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    with (
        harness.server(given.uri) as server,
        new_database(server) as ours,
        new_database(server, "mlflow") as theirs,
    ):
        uris = [ours, theirs]
        tracking = [
            TimescaleTrackingStore(uris[0].url, "/artifacts"),
            Tracking(vanilla_url(uris[1]), "/artifacts"),
        ]
        registries = [TimescaleRegistryStore(uris[0].url), Registry(vanilla_url(uris[1]))]
        for uri in uris:
            fill(uri, {"models": given.models, "versions": given.versions})
        print("| call | ours ms | SqlAlchemyStore ms | ratio |\n|---|--:|--:|--:|")
        for name, call in SEARCHES.items():
            row(name, *compare(call, registries, given.repeats))
        both = zip(tracking, uris, strict=True)
        row(
            f"delete an experiment of {given.points:,} points",
            *(delete(store, uri, given.points) for store, uri in both),
        )
        for store in (*tracking, *registries):
            store.engine.dispose()


if __name__ == "__main__":
    main()
