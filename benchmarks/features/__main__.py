"""Measure the feature store beside a bare COPY, the seed design's table and SQL, and Feast.

    python -m benchmarks.features --rows 1000000 --seed
    python -m benchmarks.features --rows 10000000 --uri postgresql+timescaledb://...

Data: entities x 20 features x 1,000 daily events; first prints 4 h to 4 h 10 min late, 2 % revised
1 h to 30 d later. Spines: random (entity, as_of). A database is created on the server and dropped
afterwards. Methods that are compared alternate, medians are shown, and every table is vacuumed
first. The answers of all methods are compared, too.
"""

from __future__ import annotations

import gc
import statistics
from datetime import datetime, timedelta, timezone

import numpy as np
import pandas as pd

from benchmarks import harness
from benchmarks.features.data import FEATURES, FIRST, SESSIONS, frames, load, spine
from benchmarks.harness import Cost, Meter, new_database, seconds
from feature_store import FeatureStore
from feature_store.write.copying import copy_numbers, timestamps
from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI

queries = db.load("features")


def writing(uri: DatabaseURI, rng: np.random.Generator, rounds: int, rows: int) -> None:
    """Rows into an empty table with its indexes: write_frame, and a COPY of ready arrays."""
    frame = next(frames(max(1, rows // (len(FEATURES) * SESSIONS)), rng))
    series = np.arange(len(frame), dtype=np.int32) // SESSIONS + 1
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
        meter = Meter(uri)

        def ours() -> int:
            return store.write_frame(frame, layout="long", ingest_time="ingest_time")

        def bare() -> None:
            copy_numbers(conn.cursor(), queries.copy_points, fields)

        costs: dict[str, list[Cost]] = {"bare COPY": [], "write_frame": []}
        for i in range(rounds + 1):
            for name, call in (("bare COPY", bare), ("write_frame", ours)):
                conn.execute("TRUNCATE mlops.feature_points")
                conn.execute("CHECKPOINT")
                cost = meter(call)
                costs[name] += [cost] if i else []
        print(f"\n| {len(frame):,} rows | s | CPU s |\n|---|---|---|")
        for name, taken in costs.items():
            print(f"| {name} | {Cost(*map(statistics.median, zip(*taken, strict=True)))} |")
        print(f"| write_frame, the same rows again | {meter(ours)} |")
        tables = "mlops.feature_points, mlops.feature_writes, mlops.feature_series"
        conn.execute(f"TRUNCATE {tables} RESTART IDENTITY")


def writing_wide(uri: DatabaseURI, rounds: int, entities: int = 1_000, features: int = 500) -> None:
    """A session of many features: a point for each of half a million series."""
    count = entities * features
    names = [f"E{i:05d}" for i in range(entities)]
    values = np.random.default_rng(5).normal(size=(entities, features))
    frame = pd.DataFrame(values, columns=[f"w{i:03d}" for i in range(features)])
    frame["entity_key"] = names
    costs: dict[str, list[Cost]] = {"first, all series new": [], "bare COPY": [], "write_frame": []}
    with FeatureStore(uri) as store, db.connect(uri, autocommit=True) as conn:
        meter = Meter(uri)

        def ours(event: pd.Timestamp) -> int:
            return store.write_frame(frame.assign(event_time=event), availability_lag=timedelta(0))

        def bare(event: pd.Timestamp) -> None:
            time_of = timestamps(np.full(count, event.value // 1000))
            write = np.full(count, 1, dtype=np.int64)
            fields = [series, time_of, time_of, write, values.ravel()]
            copy_numbers(conn.cursor(), queries.copy_points, fields)

        costs["first, all series new"].append(meter(lambda: ours(FIRST)))
        series = np.arange(1, count + 1, dtype=np.int32)
        for i in range(1, rounds + 1):
            for j, (name, call) in enumerate((("bare COPY", bare), ("write_frame", ours))):
                conn.execute("CHECKPOINT")
                day = FIRST + timedelta(days=2 * i + j)
                costs[name].append(meter(lambda c=call, d=day: c(d)))
        tables = "mlops.feature_points, mlops.feature_writes, mlops.feature_series"
        conn.execute(f"TRUNCATE {tables} RESTART IDENTITY")
    print(f"\n| {entities:,} x {features} values in one session | s | CPU s |\n|---|---|---|")
    for name, taken in costs.items():
        print(f"| {name} | {Cost(*map(statistics.median, zip(*taken, strict=True)))} |")


def reading(
    store: FeatureStore, entities: int, rng: np.random.Generator, rounds: int, spines: list[int]
) -> None:
    """Both plans, and which one is chosen, for spines of growing size."""
    print("\n| spine rows x 20 | plan | s | CPU s | cells/s |\n|---|---|---|---|---|")
    meter = Meter(store.uri)
    for rows in spines:
        frame = spine(entities, rows, rng)
        plans = ["stream", "chosen"] if rows > 10_000 else ["lookup", "stream", "chosen"]
        methods = {plan: lambda p=plan, f=frame: _training(store, f, p) for plan in plans}
        if rows == 10_000:
            methods["chosen, max_age 5 d"] = lambda f=frame: _bounded(store, f)
        for plan, cost in meter.alternate(methods, rounds).items():
            print(f"| {rows:,} | {plan} | {cost} | {rows * 20 / cost.wall:,.0f} |")
    peak = harness.peak_memory()
    print(f"\npeak memory of this process, loading included: {peak:,.0f} MB")


def _training(store: FeatureStore, frame: pd.DataFrame, plan: str) -> pd.DataFrame:
    return store.training_frame(frame, FEATURES, plan=None if plan == "chosen" else plan)


def _bounded(store: FeatureStore, frame: pd.DataFrame) -> pd.DataFrame:
    return store.training_frame(frame, FEATURES, max_age=timedelta(days=5))


def latest(store: FeatureStore, entities: int, rng: np.random.Generator) -> None:
    """One entity, 20 features, 2,000 calls each; and the same question to the seed's SQL."""

    def one(as_of: datetime | None) -> float:
        entity = f"E{rng.integers(entities):05d}"
        return seconds(lambda _: store.get_latest(entity, FEATURES, as_of=as_of), collect=False)

    gc.collect()
    for label, as_of in (("now", None), ("in 2021", datetime(2021, 6, 1, tzinfo=timezone.utc))):
        taken = sorted(one(as_of) for _ in range(2_000))
        low, high = taken[1_000] * 1e3, taken[1_980] * 1e3
        print(f"get_latest {label}: median {low:.2f} ms, p99 {high:.2f} ms")


def seed(store: FeatureStore, entities: int, rng: np.random.Generator, rows: int) -> None:
    """The seed design's table and SQL on the same data; its key has no room for revisions."""
    frame = spine(entities, rows, rng)
    with db.connect(store.uri, autocommit=True) as conn:
        for statement in SEED_TABLE:
            conn.execute(statement)
        conn.execute("VACUUM ANALYZE seed.feature_events")
        sizes = conn.execute(SEED_SIZES).fetchone() or ()
        pairs = frame.to_numpy().tolist()
        parameters = [item for pair in pairs for item in pair]
        query = SEED_QUERY.format(values=", ".join(["(%s::text, %s::timestamptz)"] * len(pairs)))
        methods = {
            "seed": lambda: conn.execute(query, [*parameters, FEATURES]).fetchall(),
            "ours": lambda: store.training_frame(frame, FEATURES),
        }
        cost = Meter(store.uri).alternate(methods, 1)
        ids = [frame["entity_key"].iloc[0], FEATURES]
        slow = sorted(
            seconds(lambda _: conn.execute(SEED_LATEST, ids).fetchall(), collect=False)
            for _ in range(50)
        )[25]
    print(f"\n| {rows:,} spine rows x 20 | s | CPU s |\n|---|---|---|")
    for name, taken in cost.items():
        print(f"| {name} | {taken} |")
    print(f"\nratio {cost['seed'].cpu / cost['ours'].cpu:,.0f} in CPU seconds")
    print(f"the seed's get_latest: median {slow * 1e3:.2f} ms")
    ours, seeds, count = map(float, sizes)
    print(
        f"storage with indexes: ours {ours / count:.0f} bytes a point, seed's {seeds / count:.0f}"
    )


SEED_TABLE = (
    "CREATE SCHEMA seed",
    """CREATE TABLE seed.feature_events (
        entity_key text NOT NULL, feature_name text NOT NULL,
        feature_version int NOT NULL DEFAULT 1, event_time timestamptz NOT NULL,
        value_double double precision, value_json jsonb,
        ingest_time timestamptz NOT NULL DEFAULT now(),
        producer text, producer_version text, run_id text,
        PRIMARY KEY (entity_key, feature_name, feature_version, event_time))""",
    """CREATE INDEX ON seed.feature_events
        (entity_key, feature_name, feature_version, event_time DESC)""",
    """INSERT INTO seed.feature_events (entity_key, feature_name, feature_version, event_time,
            value_double, value_json, ingest_time, producer, producer_version, run_id)
        SELECT * FROM mlops.feature_events ORDER BY ingest_time ON CONFLICT DO NOTHING""",
)
SEED_SIZES = """
    SELECT
        (SELECT sum(pg_total_relation_size(c)) FROM (
            SELECT 'mlops.feature_points'::regclass::oid
            UNION ALL SELECT inhrelid FROM pg_inherits
                WHERE inhparent = 'mlops.feature_points'::regclass
        ) AS parts (c)) + pg_total_relation_size('mlops.feature_series')
            + pg_total_relation_size('mlops.feature_writes'),
        pg_total_relation_size('seed.feature_events')
            * (SELECT count(*)::float8 FROM mlops.feature_points)
            / (SELECT count(*) FROM seed.feature_events),
        (SELECT count(*) FROM mlops.feature_points)::float8"""
SEED_QUERY = """
    WITH entity_times (entity_key, as_of_time) AS (VALUES {values})
    SELECT DISTINCT ON (et.entity_key, et.as_of_time, fe.feature_name)
        et.entity_key, et.as_of_time, fe.feature_name, fe.feature_version, fe.value_double,
        fe.event_time
    FROM entity_times et
    JOIN seed.feature_events fe ON fe.entity_key = et.entity_key
        AND fe.event_time <= et.as_of_time AND fe.ingest_time <= et.as_of_time
    WHERE fe.feature_version = 1 AND fe.feature_name = ANY(%s)
    ORDER BY et.entity_key, et.as_of_time, fe.feature_name, fe.event_time DESC"""
SEED_LATEST = """
    SELECT DISTINCT ON (feature_name, feature_version)
        feature_name, feature_version, value_double, event_time
    FROM seed.feature_events
    WHERE entity_key = %s AND feature_version = 1 AND feature_name = ANY(%s)
    ORDER BY feature_name, feature_version, event_time DESC"""


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--write-rows", type=int, default=1_000_000)
    parser.add_argument("--wide", type=int, default=1_000, help="entities of 500 features each")
    parser.add_argument("--spines", type=int, nargs="+", default=[100, 1_000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", action="store_true", help="also the first design's table and SQL")
    options = parser.parse_args()
    entities = max(1, options.rows // (len(FEATURES) * SESSIONS))
    with harness.server(options.uri) as server, new_database(server) as uri:
        writing(uri, np.random.default_rng(1), options.rounds, options.write_rows)
        writing_wide(uri, options.rounds, options.wide)
        with FeatureStore(uri, producer="benchmark") as store:
            rng = np.random.default_rng(2)
            load(store, entities, rng)
            latest(store, entities, rng)
            reading(store, entities, rng, options.rounds, options.spines)
            if options.seed:
                seed(store, entities, rng, 1_000)


if __name__ == "__main__":
    main()
