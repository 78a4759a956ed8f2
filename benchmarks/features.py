"""Measure the feature store beside a bare COPY, the seed design's table and SQL, and Feast.

    python benchmarks/features.py --rows 1000000
    python benchmarks/features.py --rows 10000000 --uri postgresql+timescaledb://...

Data: entities x 20 features x 1,000 daily events; first prints 4 h to 4 h 10 min late, 2 % revised
1 h to 30 d later. Spines: random (entity, as_of). A database is created on the server and dropped
afterwards. Methods that are compared alternate, medians are shown, and every table is vacuumed
first. The answers of all methods are compared, too.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
from psycopg import sql

from feature_store import FeatureStore
from feature_store.copying import copy_numbers, timestamps
from mlflow_timescale import db
from mlflow_timescale.cli.options import default_uri
from mlflow_timescale.db.uri import DatabaseURI

SESSIONS = 1_000
FEATURES = [f"f{i:02d}" for i in range(20)]
FIRST = pd.Timestamp("2020-01-01 21:00", tz="UTC")
DAY = 86_400_000_000
queries = db.load("features")


def frames(entities: int, rng: np.random.Generator) -> Iterator[pd.DataFrame]:
    """First prints in long layout, some entities at a time."""
    event = FIRST.value // 1000 + np.arange(SESSIONS) * DAY
    for first in range(0, entities, 50):
        count = min(50, entities - first)
        names = np.array([f"E{first + i:05d}" for i in range(count)])
        shape = (count, len(FEATURES), SESSIONS)
        ingest = event + 4 * 3_600_000_000 + rng.integers(0, 600_000_000, shape)
        yield pd.DataFrame(
            {
                "entity_key": pd.Categorical.from_codes(
                    np.repeat(np.arange(count), len(FEATURES) * SESSIONS), names
                ),
                "feature_name": pd.Categorical.from_codes(
                    np.tile(np.repeat(np.arange(len(FEATURES)), SESSIONS), count), FEATURES
                ),
                "event_time": _times(np.tile(event, count * len(FEATURES))),
                "ingest_time": _times(ingest.ravel()),
                "value": rng.normal(size=shape).ravel(),
            }
        )


def revised(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Revisions of two in a hundred."""
    chosen = frame.sample(frac=0.02, random_state=int(rng.integers(1 << 30)))
    late = pd.to_timedelta(rng.integers(3600, 30 * 86400, len(chosen)), unit="s").as_unit("us")
    return chosen.assign(
        ingest_time=chosen["ingest_time"] + late, value=rng.normal(size=len(chosen))
    )


def spine(entities: int, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Random (entity, as_of) in the time that the data cover."""
    as_of = FIRST.value // 1000 + rng.integers(10 * DAY, SESSIONS * DAY, rows)
    names = np.array([f"E{i:05d}" for i in range(entities)])
    return pd.DataFrame(
        {"entity_key": names[rng.integers(0, entities, rows)], "as_of": _times(as_of)}
    )


def _times(micros: np.ndarray) -> pd.Series:
    return pd.Series(micros.view("M8[us]")).dt.tz_localize("UTC")


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    gc.collect()
    start = time.perf_counter()
    found = call()
    return time.perf_counter() - start, found


def alternate(methods: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The median seconds of each, taken in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, call in methods.items():
            seconds[name].append(timed(call)[0])
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def load(store: FeatureStore, entities: int, rng: np.random.Generator) -> None:
    rows, seconds = 0, 0.0
    for frame in frames(entities, rng):
        for part in (frame, revised(frame, rng)):
            taken, written = timed(
                lambda part=part: store.write_frame(part, layout="long", ingest_time="ingest_time")
            )
            rows, seconds = rows + written, seconds + taken
    print(f"loaded {rows:,} rows at {rows / seconds:,.0f} rows/s")
    with db.connect(store.uri, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE mlops.feature_points")
        conn.execute("VACUUM ANALYZE mlops.feature_series")


def writing(uri: DatabaseURI, rng: np.random.Generator, rounds: int) -> None:
    """1M rows into an empty table with its indexes: write_frame, and a COPY of ready arrays."""
    frame = next(frames(50, rng))
    series = np.arange(1, 1001, dtype=np.int32).repeat(SESSIONS)
    event, ingest = (
        frame[name].astype("int64").to_numpy() for name in ("event_time", "ingest_time")
    )
    fields = [
        series,
        timestamps(event),
        timestamps(ingest),
        np.full(len(series), 1, dtype=np.int64),
        frame["value"].to_numpy(),
    ]
    with FeatureStore(uri) as store, db.connect(uri, autocommit=True) as conn:
        store.features()

        def truncate() -> None:
            conn.execute("TRUNCATE mlops.feature_points")
            conn.execute("CHECKPOINT")

        def ours() -> float:
            truncate()
            return timed(
                lambda: store.write_frame(frame, layout="long", ingest_time="ingest_time")
            )[0]

        def bare() -> float:
            truncate()
            return timed(lambda: copy_numbers(conn.cursor(), queries.copy_points, fields))[0]

        ours()
        taken = [(bare(), ours()) for _ in range(rounds)]
        bare_s, ours_s = (statistics.median(times) for times in zip(*taken, strict=True))
        again = timed(lambda: store.write_frame(frame, layout="long", ingest_time="ingest_time"))
        print(f"write 1M rows: bare COPY {bare_s:.2f} s, write_frame {ours_s:.2f} s", end=" ")
        print(f"= {ours_s / bare_s:.2f}x; the same rows again {again[0]:.2f} s ({again[1]} new)")
        truncate()
        conn.execute("TRUNCATE mlops.feature_writes, mlops.feature_series RESTART IDENTITY")


def reading(store: FeatureStore, entities: int, rng: np.random.Generator, rounds: int) -> None:
    print("| spine rows x 20 | plan | s | cells/s |\n|---|---|---|---|")
    for rows in (100, 1_000, 10_000, 100_000):
        frame = spine(entities, rows, rng)
        for plan in ("lookup", "stream", None):
            if plan == "lookup" and rows > 10_000:
                continue
            taken = alternate(
                {"ours": lambda p=plan, f=frame: store.training_frame(f, FEATURES, plan=p)},
                rounds if rows < 100_000 else max(1, rounds - 1),
            )["ours"]
            print(f"| {rows:,} | {plan or 'chosen'} | {taken:.3f} | {rows * 20 / taken:,.0f} |")
        if rows == 10_000:
            taken = alternate({"bounded": lambda f=frame: _bounded(store, f)}, rounds)["bounded"]
            print(f"| {rows:,} | chosen, max_age 5 d | {taken:.3f} | {rows * 20 / taken:,.0f} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process so far: {peak:,.0f} MB")


def _bounded(store: FeatureStore, frame: pd.DataFrame) -> pd.DataFrame:
    return store.training_frame(frame, FEATURES, max_age=timedelta(days=5))


def latest(store: FeatureStore, entities: int, rng: np.random.Generator) -> None:
    def one(as_of: datetime | None) -> float:
        entity = f"E{rng.integers(entities):05d}"
        return timed_quickly(lambda: store.get_latest(entity, FEATURES, as_of=as_of))

    gc.collect()
    for label, as_of in (("now", None), ("in 2021", datetime(2021, 6, 1, tzinfo=timezone.utc))):
        taken = sorted(one(as_of) for _ in range(2_000))
        print(
            f"get_latest {label}: median {taken[1000] * 1e3:.2f} ms, p99 {taken[1980] * 1e3:.2f} ms"
        )


def timed_quickly(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--uri", default=None, help="a server on which a database may be created")
    options = parser.parse_args()
    server = DatabaseURI.parse(options.uri) if options.uri else default_uri()
    server = server.with_database("postgres")
    name = f"benchmark_{uuid.uuid4().hex[:8]}"
    entities = max(1, options.rows // (len(FEATURES) * SESSIONS))
    with db.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            uri = server.with_database(name)
            writing(uri, np.random.default_rng(1), options.rounds)
            with FeatureStore(uri, producer="benchmark") as store:
                rng = np.random.default_rng(2)
                load(store, entities, rng)
                latest(store, entities, rng)
                reading(store, entities, rng, options.rounds)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


if __name__ == "__main__":
    main()
