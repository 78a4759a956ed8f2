"""Searching the model registry and deleting an experiment, ours and MLflow's, same server.

    python benchmarks/registry.py [URI] [--models 1000] [--versions 20] [--points 100000]

Makes two databases on the server that URI names (an embedded one without), fills both alike, and
prints a table in Markdown: median milliseconds, interleaved, and the ratio. The last table is in
benchmarks/registry.md.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking
from psycopg import sql
from tracking_sides import vanilla_url

from mlflow_timescale import db
from mlflow_timescale.db.embedded import temporary
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.registry.store import TimescaleRegistryStore
from mlflow_timescale.tracking.store import TimescaleTrackingStore

NAMES = ("bench_registry_ours", "bench_registry_mlflow")
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


@contextmanager
def databases(server: DatabaseURI) -> Iterator[list[DatabaseURI]]:
    """Two databases of the benchmark's own."""
    with db.connect(server, autocommit=True) as admin:
        try:
            for name in NAMES:
                admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            yield [server.with_database(name) for name in NAMES]
        finally:
            for name in NAMES:
                drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
                admin.execute(drop.format(sql.Identifier(name)))


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
    return timed(store._hard_delete_experiment, experiment)


def timed(call: Callable[[Any], object], argument: Any) -> float:
    gc.collect()
    started = time.perf_counter()
    call(argument)
    return (time.perf_counter() - started) * 1000


def compare(call: Callable[[Any], object], stores: list[Any], repeats: int) -> list[float]:
    times: list[list[float]] = [[], []]
    for turn in range(repeats):
        for side in (0, 1) if turn % 2 else (1, 0):
            times[side].append(timed(call, stores[side]))
    return [statistics.median(one) for one in times]


def row(name: str, ours: float, theirs: float) -> None:
    print(f"| {name} | {ours:,.1f} | {theirs:,.1f} | {theirs / ours:,.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("uri", nargs="?")
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--versions", type=int, default=20)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    with ExitStack() as until_done:
        server = (
            DatabaseURI.parse(given.uri) if given.uri else until_done.enter_context(temporary())
        )
        uris = until_done.enter_context(databases(server))
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
