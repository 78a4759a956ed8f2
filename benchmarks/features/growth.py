"""How the feature store's costs grow: with the rows it holds, the rows it reads, and the spine.

    python -m benchmarks.features.growth --sizes 1000000 10000000 100000000

One database grows from size to size, by COPY of ready arrays (13 GB for 100M rows); the same
questions are asked at each. Data as in `features.py`: entities x 20 features x 1,000 daily events,
2 % revised.
"""

from __future__ import annotations

import gc
from datetime import datetime, timezone
from functools import partial

import numpy as np

from benchmarks import harness
from benchmarks.features import data as common
from feature_store import FeatureStore
from feature_store.write.copying import copy_numbers, timestamps
from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI

AT_ONCE = 50  # entities: a million rows
PER_ENTITY = len(common.FEATURES) * common.SESSIONS
SPINES = (1_000, 10_000, 100_000)
HOUR = 3_600_000_000
_queries = db.load("features")
SERIES = """
    INSERT INTO mlops.feature_series (entity_key, feature_name, feature_version)
    SELECT 'E' || lpad(e::text, 5, '0'), f, 1
    FROM generate_series(%s::int, %s::int) AS e CROSS JOIN unnest(%s::text[]) AS f
    ORDER BY e, f"""
WRITE = """
    INSERT INTO mlops.feature_writes (written_at, producer, points)
    VALUES (clock_timestamp(), 'benchmark', 0) RETURNING write_id"""
SIZE = """
    SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
    WHERE oid IN ('mlops.feature_points'::regclass, 'mlops.feature_series'::regclass)
        OR oid IN (SELECT inhrelid FROM pg_inherits
                   WHERE inhparent = 'mlops.feature_points'::regclass)"""
POINTS = "SELECT count(*) FROM mlops.feature_points"


def grow(conn: db.Connection, first: int, last: int, rng: np.random.Generator) -> None:
    """Store the entities numbered `first` to `last` (excluded)."""
    conn.execute(SERIES, [first, last - 1, common.FEATURES])
    write = conn.execute(WRITE).fetchone()
    assert write is not None
    event = common.FIRST.value // 1000 + np.arange(common.SESSIONS) * common.DAY
    for start in range(first, last, AT_ONCE):
        entities = np.arange(start, min(start + AT_ONCE, last))
        series = np.arange(entities[0] * 20, (entities[-1] + 1) * 20, dtype=np.int32) + 1
        prints = 1 + (rng.random(len(series) * common.SESSIONS) < 0.02)
        repeat = np.arange(len(prints)).repeat(prints)
        revised = np.append(repeat[1:] == repeat[:-1], False)
        happened = np.tile(event, len(series))[repeat]
        known = happened + 4 * HOUR + rng.integers(0, HOUR // 6, len(repeat))
        known[1:][revised[:-1]] += rng.integers(HOUR, 720 * HOUR, int(revised.sum()))
        fields = [
            series.repeat(common.SESSIONS)[repeat],
            timestamps(happened),
            timestamps(known),
            np.full(len(repeat), write[0], dtype=np.int64),
            rng.normal(size=len(repeat)),
        ]
        copy_numbers(conn.cursor(), _queries.copy_points, fields)


def latest(store: FeatureStore, entities: int, rng: np.random.Generator) -> str:
    """Milliseconds of get_latest of one entity's 20 features: median and p99, now and in 2021."""
    gc.collect()
    cells = []
    for as_of in (None, datetime(2021, 6, 1, tzinfo=timezone.utc)):
        taken = []
        for number in rng.integers(entities, size=2_000).tolist():
            entity = f"E{number:05d}"
            call = partial(store.get_latest, entity, common.FEATURES, as_of=as_of)
            taken.append(harness.seconds(lambda _: call(), collect=False))  # noqa: B023
        low, high = np.quantile(taken[200:], [0.5, 0.99]) * 1e3
        cells.append(f"{low:.2f} / {high:.2f}")
    return " | ".join(cells)


def training(store: FeatureStore, entities: int, spines: list[int]) -> str:
    """CPU seconds (this process and the database) of `training_frame`, by size of the spine."""
    meter = harness.Meter(store.uri)
    cells = []
    for rows in spines:
        frame = common.spine(entities, rows, np.random.default_rng(rows))
        rounds = 3 if rows <= 10_000 else 1
        costs = [
            meter(lambda f=frame: store.training_frame(f, common.FEATURES)) for _ in range(rounds)
        ]
        cost = min(costs, key=lambda c: c.cpu)
        cells.append(f"{cost.wall:.2f} / {cost.cpu:.2f}")
    return " | ".join(cells)


def run(uri: DatabaseURI, sizes: list[int], spines: list[int]) -> None:
    rng = np.random.default_rng(3)
    titles = " | ".join(f"{rows:,} rows s / CPU s" for rows in spines)
    print(f"| points | load, points/s | bytes a point | get_latest now | in 2021 | {titles} |")
    print("|---" * (5 + len(spines)) + "|")
    with FeatureStore(uri) as store, db.connect(uri, autocommit=True) as conn:
        store.features()
        held = stored = 0
        for size in sizes:
            entities = max(1, size // PER_ENTITY)
            taken = harness.seconds(lambda _: grow(conn, held, entities, rng))  # noqa: B023
            held = entities
            conn.execute("VACUUM (ANALYZE) mlops.feature_points")
            conn.execute("VACUUM (ANALYZE) mlops.feature_series")
            (count,) = conn.execute(POINTS).fetchone() or (0,)
            (size_now,) = conn.execute(SIZE).fetchone() or (0,)
            rate, stored = (count - stored) / taken, count
            row = f"| {count:,} | {rate:,.0f} | {size_now / count:.0f} |"
            row = f"{row} {latest(store, entities, rng)} | {training(store, entities, spines)} |"
            print(row, flush=True)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--spines", type=int, nargs="*", default=list(SPINES))
    options = parser.parse_args()
    with harness.server(options.uri) as server, harness.new_database(server) as uri:
        run(uri, sorted(options.sizes), options.spines)


if __name__ == "__main__":
    main()
