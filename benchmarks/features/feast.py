"""Feast's postgres offline store beside ours: the same data, the same spine, the same database.

    python -m benchmarks.features.feast --uri postgresql+timescaledb://user:pw@host:5432/postgres \
        --feast /path/to/an/environment/with/feast/bin/python

Feast 0.67 needs an environment of its own (pandas 2). It gets its fastest layout, one wide row for
all 20 features of an entity and event, a TTL of 5 days, and its knowledge-time filter switched on;
so its first prints are all known 4 h 10 min after the event, in this data also ours. Seconds on
the clock of one run, taken in turns; answers are compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import harness
from benchmarks.features import data as common
from feature_store import FeatureStore
from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI

MAX_AGE = timedelta(days=5)

# What runs in Feast's environment: one line of JSON in (where, features), then one path of a spine
# a line, answered by its seconds and the sum of its values.
WORKER = """
import json, sys, time, tempfile
from datetime import timedelta
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource)
from feast.types import Float64

given = json.loads(sys.stdin.readline())
folder = tempfile.mkdtemp()
store = FeatureStore(config=RepoConfig(
    project="bench", provider="local", registry=folder + "/registry.db",
    offline_store={"type": "postgres", "sslmode": "prefer", **given["server"]},
    online_store={"type": "sqlite", "path": folder + "/online.db"},
    entity_key_serialization_version=3))
entity = Entity(name="entity", join_keys=["entity_key"])
view = FeatureView(
    name="wide", entities=[entity], ttl=timedelta(days=5),
    schema=[Field(name=name, dtype=Float64) for name in given["features"]],
    source=PostgreSQLSource(name="wide", query="SELECT * FROM feast_wide",
        timestamp_field="event_time", created_timestamp_column="created"))
store.apply([entity, view])
print("ready", flush=True)
for path in sys.stdin:
    spine = pd.read_parquet(path.strip()).rename(columns={"as_of": "event_timestamp"})
    start = time.perf_counter()
    names = ["wide:" + name for name in given["features"]]
    frame = store.get_historical_features(
        spine, names, filter_by_created_timestamp=True).to_df()
    taken = time.perf_counter() - start
    print(json.dumps([taken, float(frame[given["features"]].sum().sum())]), flush=True)
"""


def wide_frame(points: pd.DataFrame) -> pd.DataFrame:
    """A row for every (entity, event, ingest): what was known of all features then."""
    wide = points.pivot_table(
        index=["entity_key", "event_time", "ingest_time"],
        columns="feature_name",
        values="value",
        observed=True,
    )
    wide = wide.groupby(level=["entity_key", "event_time"], observed=True).ffill()
    return wide.reset_index().rename(columns={"ingest_time": "created"})


def make_points(entities: int, rng: np.random.Generator) -> pd.DataFrame:
    """The data of the other benchmark, with first prints that are all equally late."""
    parts = []
    for frame in common.frames(entities, rng):
        first = frame.assign(ingest_time=frame["event_time"] + timedelta(hours=4, minutes=10))
        parts += [first, common.revised(first, rng)]
    points = pd.concat(parts)
    return points.assign(
        entity_key=points["entity_key"].astype(str), feature_name=points["feature_name"].astype(str)
    )


def load_wide(conn: db.Connection, wide: pd.DataFrame) -> None:
    columns = ", ".join(f"{name} float8" for name in common.FEATURES)
    conn.execute(
        f"CREATE TABLE feast_wide (entity_key text, event_time timestamptz, created timestamptz, "
        f"{columns}, PRIMARY KEY (entity_key, event_time, created))"
    )
    names = ", ".join(common.FEATURES)
    copy_in = f"COPY feast_wide (entity_key, event_time, created, {names}) FROM STDIN (FORMAT csv)"
    order = ["entity_key", "event_time", "created", *common.FEATURES]
    with conn.cursor().copy(copy_in) as copy:
        copy.write(wide[order].to_csv(index=False, header=False))
    conn.execute("VACUUM ANALYZE feast_wide")


def start_feast(python: str, uri: DatabaseURI, conn: db.Connection) -> subprocess.Popen[str]:
    info = conn.info
    server = {
        "host": info.host, "port": info.port, "database": info.dbname, "user": info.user,
        "password": uri.password, "db_schema": "public",
    }  # fmt: skip
    feast = subprocess.Popen(
        [python, "-W", "ignore", "-c", WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    ask(feast, json.dumps({"server": server, "features": common.FEATURES}), until="ready")
    return feast


def ask(feast: subprocess.Popen[str], line: str, until: str = "[") -> str:
    assert feast.stdin is not None
    assert feast.stdout is not None
    feast.stdin.write(line + "\n")
    feast.stdin.flush()
    for answer in feast.stdout:
        if answer.startswith(until):
            return answer
    raise SystemExit("Feast's process ended; run its part separately to see why")


def compare(store: FeatureStore, feast: subprocess.Popen[str], rows: int, options: Any) -> None:
    rng = np.random.default_rng(rows)
    frame = common.spine(options.entities, rows, rng).drop_duplicates()
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/spine.parquet"
        frame.to_parquet(path)
        for _ in range(options.rounds):
            call = partial(store.training_frame, frame, common.FEATURES, max_age=MAX_AGE)
            ours.append(harness.seconds(lambda _: call(), collect=False))  # noqa: B023
            taken, total = json.loads(ask(feast, path))
            theirs.append(taken)
    mine = store.training_frame(frame, common.FEATURES, max_age=MAX_AGE)
    same = abs(float(mine[common.FEATURES].sum().sum()) - total) < 1e-6
    us, them = (sorted(taken)[len(taken) // 2] for taken in (ours, theirs))
    print(f"| {rows:,} | {us:.3f} | {them:.3f} | {them / us:.1f} | {'yes' if same else 'NO'} |")


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--feast", required=True, help="the python of Feast's environment")
    parser.add_argument("--entities", type=int, default=50, help="of 20 x 1,000 rows each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spines", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    options = parser.parse_args()
    with harness.server(options.uri) as server, harness.new_database(server) as uri:
        run(uri, options)


def run(uri: DatabaseURI, options: argparse.Namespace) -> None:
    points = make_points(options.entities, np.random.default_rng(7))
    with FeatureStore(uri) as store, db.connect(uri, autocommit=True) as conn:
        print(f"{store.write_frame(points, layout='long', ingest_time='ingest_time'):,} points")
        wide = wide_frame(points)
        load_wide(conn, wide)
        print(f"{len(wide):,} wide rows for Feast\n")
        conn.execute("VACUUM ANALYZE mlops.feature_points")
        conn.execute("VACUUM ANALYZE mlops.feature_series")
        feast = start_feast(options.feast, uri, conn)
        print("| spine rows x 20, max_age 5 d | ours s | Feast s | ratio | same sum |")
        print("|---|---|---|---|---|")
        for rows in options.spines:
            compare(store, feast, rows, options)
        assert feast.stdin is not None
        feast.stdin.close()
        feast.wait()


if __name__ == "__main__":
    main()
