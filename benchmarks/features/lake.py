"""Measure snapshots, the lake and the engines on it, beside the database on the same data.

    python -m benchmarks.features.lake --rows 1000000
    python -m benchmarks.features.lake --rows 10000000 --uri postgresql+timescaledb://...

The data and the spines are those of `benchmarks.features`. All engines must give the same
answers.
"""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl

from benchmarks import harness
from benchmarks.features.data import DAY, FEATURES, FIRST, SESSIONS, load, spine
from benchmarks.harness import Meter
from feature_store import FeatureStore, Lake, load_snapshot
from feature_store.files.distributed import daft_training_frame
from feature_store.files.fingerprint import fingerprint
from feature_store.files.snapshots import rebuild


def by_polars(lake: Lake, rows: pd.DataFrame) -> pl.DataFrame:
    """One as-of join on (entity, feature), then wide."""
    right = pl.read_parquet(
        lake.files(), columns=["entity_key", "feature_name", "known_at", "value"]
    )
    left = pl.from_pandas(rows).with_row_index()
    long = left.join(pl.DataFrame({"feature_name": FEATURES}), how="cross").sort("as_of")
    joined = long.join_asof(
        right.sort("known_at"),
        left_on="as_of",
        right_on="known_at",
        by=["entity_key", "feature_name"],
        check_sortedness=False,
    )
    wide = joined.pivot("feature_name", index="index", values="value").sort("index")
    return left.drop("index").hstack(wide.select(FEATURES))


def by_duckdb(lake: Lake, rows: pd.DataFrame) -> Any:
    """The same in SQL."""
    with duckdb.connect() as conn:
        conn.register("spine", rows.reset_index())
        conn.register("lake", conn.read_parquet(lake.files()))
        conn.register("names", pd.DataFrame({"feature_name": FEATURES}))
        return conn.execute(
            """
            SELECT s.index, n.feature_name, l.value
            FROM spine AS s CROSS JOIN names AS n ASOF LEFT JOIN lake AS l
                ON l.entity_key = s.entity_key AND l.feature_name = n.feature_name
                AND s.as_of >= l.known_at
            """
        ).fetchnumpy()


def engines(store: FeatureStore, lake: Lake, rows: pd.DataFrame, meter: Meter, rounds: int) -> None:
    methods = {
        "database": lambda: store.training_frame(rows, FEATURES),
        "lake, numpy": lambda: lake.training_frame(rows, FEATURES),
        "lake, polars": lambda: by_polars(lake, rows),
        "lake, DuckDB": lambda: by_duckdb(lake, rows),
        "lake, Daft": lambda: daft_training_frame(lake, rows, FEATURES).to_arrow(),
    }
    answers = {fingerprint(call()) for name, call in methods.items() if "Duck" not in name}
    assert len(answers) == 1, answers
    print("| 100,000 x 20 cells from | wall s | cpu s |")
    for name, cost in meter.alternate(methods, rounds).items():
        print(f"| {name} | {cost} |")


def next_day(store: FeatureStore, entities: int, rng: np.random.Generator) -> int:
    """One more day of all entities, as it comes live: after the last revision of the rest."""
    event = pd.Timestamp(FIRST.value // 1000 + (SESSIONS + 40) * DAY, unit="us", tz="UTC")
    frame = pd.DataFrame({"entity_key": [f"E{i:05d}" for i in range(entities)]})
    frame = frame.assign(event_time=event, ingest_time=event + timedelta(hours=4))
    for name in FEATURES:
        frame[name] = rng.normal(size=entities)
    return store.write_frame(frame, ingest_time="ingest_time")


def size(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*.parquet")) / 1e6


def run(store: FeatureStore, rows: int, rounds: int, spine_rows: int, folder: Path) -> None:
    rng = np.random.default_rng(1)
    entities = rows // (SESSIONS * len(FEATURES))
    load(store, entities, rng)
    meter = Meter(store.uri)
    print("| step | wall s | cpu s |")
    cost = meter(lambda: store.export(folder / "lake"))
    print(f"| first export of {rows:,} points, {size(folder):.0f} MB | {cost} |")
    written = next_day(store, entities, rng)
    cost = meter(lambda: store.export(folder / "lake"))
    print(f"| export of the next day, {written:,} points | {cost} |")
    wanted = spine(entities, spine_rows, rng)
    cost = meter(lambda: store.snapshot(wanted, FEATURES, folder / "snapshot"))
    print(f"| snapshot of {spine_rows:,} x 20, {size(folder / 'snapshot'):.0f} MB | {cost} |")
    print(f"| load and verify it | {meter(lambda: load_snapshot(folder / 'snapshot'))} |")
    made = load_snapshot(folder / "snapshot")
    print(f"| rebuild it from the database | {meter(lambda: rebuild(store.database, made))} |")
    engines(store, Lake(folder / "lake"), wanted, meter, rounds)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--spine", type=int, default=100_000, help="rows of the training set")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with (
        harness.server(options.uri) as server,
        harness.new_database(server) as uri,
        tempfile.TemporaryDirectory() as folder,
        FeatureStore(uri) as store,
    ):
        run(store, options.rows, options.rounds, options.spine, Path(folder))


if __name__ == "__main__":
    main()
