"""What remembering a prediction costs: one call, a bulk, and bytes, beside psycopg by hand.

    python -m benchmarks.drift.serving                    # 20 features, 50,000 predictions

One call is one prediction of 20 features: `get_latest`, the model (which returns at once), and the
record of it, committed. By hand is what a desk would write: a table with a row for each value, one
transaction for each prediction, COPY for the bulk. Both commit to disk; "commit of one row" is the
floor of either. On a busy machine only the processor's time (client and server) is reliable.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

from benchmarks import harness
from drift import Serving
from drift.serving import live as live_module
from drift.serving.models import LoadedModel
from feature_store import FeatureStore
from mlflow_timescale import db
from mlflow_timescale.db import DatabaseURI

CREATE = """
CREATE TABLE served (
    served_at timestamptz NOT NULL, entity text NOT NULL, model text NOT NULL, output float8,
    feature text NOT NULL, value float8, event_time timestamptz,
    PRIMARY KEY (served_at, entity, feature)
)
"""
INSERT = "INSERT INTO served VALUES (%s, %s, %s, %s, %s, %s, %s)"
COPY = "COPY served FROM STDIN (FORMAT binary)"
TYPES = ["timestamptz", "text", "text", "float8", "text", "float8", "timestamptz"]
LATEST = """
SELECT s.feature_name, p.value_double, p.event_time
FROM mlops.feature_series AS s CROSS JOIN LATERAL (
    SELECT value_double, event_time FROM mlops.feature_points AS p
    WHERE p.series_id = s.series_id AND p.event_time <= now() AND p.ingest_time <= now()
    ORDER BY event_time DESC, ingest_time DESC LIMIT 1
) AS p
WHERE s.entity_key = %s
"""
SIZE = "SELECT pg_total_relation_size(%s)"
HYPERTABLE_SIZE = "SELECT hypertable_size(%s)"


class Instant:
    """A model that takes no time: what is measured is everything beside it."""

    def predict(self, frame: Any) -> Any:
        return np.zeros(len(frame))


def milliseconds(call: Callable[[int], object], calls: int) -> list[float]:
    taken = []
    for number in range(calls):
        begin = time.perf_counter()
        call(number)
        taken.append((time.perf_counter() - begin) * 1000)
    return taken


def median(values: list[float]) -> str:
    ordered = sorted(values)
    return f"{statistics.median(ordered):.2f} | {ordered[int(len(ordered) * 0.99)]:.2f}"


def size(conn: db.Connection, *tables: str) -> int:
    [[is_timescale]] = conn.execute("SELECT to_regproc('hypertable_size') IS NOT NULL").fetchall()
    query = HYPERTABLE_SIZE if is_timescale else SIZE
    total = 0
    for table in tables:
        try:
            [[each]] = conn.execute(query, [table]).fetchall()
        except db.Error:
            each = None
        if each is None:
            [[each]] = conn.execute(SIZE, [table]).fetchall()
        total += each
    return total


def one_call(uri: DatabaseURI, names: list[str], calls: int) -> None:
    served = LoadedModel(Instant(), "model", "1", "models:/model/1", None)
    live = Serving(uri, "one", model="models:/model/1", features=names, spool=False)
    row = dict(zip(names, np.random.default_rng(1).normal(size=len(names)).tolist(), strict=True))
    own = Serving(uri, "own", model_name="model", model_version="1", spool=False)
    with (
        patch.object(live_module, "load_verified", lambda *_: served),
        db.connect(uri, autocommit=True) as conn,
    ):

        def by_hand(number: int) -> None:
            with conn.transaction():
                found = conn.execute(LATEST, ["N00000"]).fetchall()
                now = datetime.now(timezone.utc)
                rows = [(now, "N00000", "model/1", 0.0, name, v, e) for name, v, e in found]
                conn.cursor().executemany(INSERT, rows)

        def commit(number: int) -> None:
            conn.execute("INSERT INTO committed VALUES (%s)", [number])

        conn.execute("CREATE TABLE committed (number integer)")
        methods: dict[str, Callable[[int], object]] = {
            "Serving.predict": lambda _: live.predict("N00000"),
            "Serving.record": lambda _: own.record("N00000", features=row, output=0.0),
            "psycopg by hand (read and write)": by_hand,
            "commit of one row": commit,
        }
        taken: dict[str, list[float]] = {name: [] for name in methods}
        processor = dict.fromkeys(methods, 0.0)
        meter = harness.Meter(uri)
        for call in methods.values():
            milliseconds(call, 10)
        for _ in range(10):  # in turns
            for name, call in methods.items():
                cost = meter(partial(_extend, taken[name], call, max(1, calls // 10)))
                processor[name] += cost.cpu * 1000
    print("| one prediction | median ms | p99 ms | processor ms |\n|---|---|---|---|")
    for name, values in taken.items():
        print(f"| {name} | {median(values)} | {processor[name] / len(values):.2f} |")


def _extend(taken: list[float], call: Callable[[int], object], calls: int) -> None:
    taken += milliseconds(call, calls)


def bulk(uri: DatabaseURI, names: list[str], count: int) -> None:
    generator = np.random.default_rng(2)
    frame = pd.DataFrame(generator.normal(size=(count, len(names))), columns=names)
    entities = [f"N{i:05d}" for i in range(count)]
    close = datetime(2024, 4, 18, 19, 55, tzinfo=timezone.utc)
    live = Serving(uri, "bulk", model_name="model", model_version="1", spool=False)
    outputs = generator.normal(size=count)
    live.record(entities, output=outputs, as_of=close - timedelta(days=1))  # numbers the entities
    tables = ("mlops.served_blocks", "mlops.drift_prediction_points", "mlops.requests")
    with db.connect(uri, autocommit=True) as conn:
        before = size(conn, *tables)
        begin = time.perf_counter()
        live.record(entities, features=frame, output=outputs, as_of=close, event_times=close)
        ours = time.perf_counter() - begin
        our_bytes = size(conn, *tables) - before
        before = size(conn, "served")
        begin = time.perf_counter()
        with conn.transaction(), conn.cursor().copy(COPY) as copy:
            copy.set_types(TYPES)
            values = frame.to_numpy().tolist()
            for entity, output, row in zip(entities, outputs.tolist(), values, strict=True):
                for name, value in zip(names, row, strict=True):
                    copy.write_row((close, entity, "model/1", output, name, value, close))
        by_hand = time.perf_counter() - begin
        hand_bytes = size(conn, "served") - before
    print(f"\n| {count:,} predictions of {len(names)} features | s | bytes per prediction |")
    print("|---|---|---|")
    print(f"| Serving.record | {ours:.2f} | {our_bytes / count:.0f} |")
    print(f"| psycopg by hand, COPY | {by_hand:.2f} | {hand_bytes / count:.0f} |")


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--features", type=int, default=20)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--predictions", type=int, default=50_000)
    options = parser.parse_args()
    names = [f"f{i:02d}" for i in range(options.features)]
    with harness.server(options.uri) as server, harness.new_database(server) as uri:
        with FeatureStore(uri) as store:
            now = pd.Timestamp.now(tz="UTC")
            times = pd.date_range(now - pd.Timedelta(days=250), now, periods=250)
            history = pd.DataFrame({"entity_key": "N00000", "event_time": times})
            for number, name in enumerate(names):
                history[name] = np.random.default_rng(number).normal(size=len(times))
            store.write_frame(history, availability_lag=timedelta(0))
        with db.connect(uri, autocommit=True) as conn:
            conn.execute(CREATE)
            conn.execute("VACUUM ANALYZE")
        one_call(uri, names, options.calls)
        bulk(uri, names, options.predictions)


if __name__ == "__main__":
    main()
