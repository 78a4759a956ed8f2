"""A daily run and a backfill, end to end.

    python -m benchmarks.drift.daily daily     # 200 signals, 500 features of 5,000 names, MLflow
    python -m benchmarks.drift.daily backfill  # 250 sessions, 500 names, 20 features, MLflow runs

Times are wall clock; CPU is this process's. Rows are written as the jobs of each evening would.
"""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd

from benchmarks import harness
from benchmarks.harness import stopwatch
from drift import DriftMonitor
from feature_store import FeatureStore
from mlflow_timescale.db import DatabaseURI


def settle(monitor: DriftMonitor) -> None:
    """What autovacuum does within minutes of a bulk load: without it plans are made blindly."""
    with monitor.connect() as conn:
        conn.execute("VACUUM ANALYZE")


def write_features(monitor: DriftMonitor, day: date, names: np.ndarray, features: int) -> None:
    generator = np.random.default_rng(day.toordinal())
    frame = pd.DataFrame(
        generator.normal(size=(len(names), features)),
        columns=[f"f{i:03d}" for i in range(features)],
    )
    frame["entity_key"] = names
    frame["event_time"] = pd.Timestamp(monitor.calendar.session_close(day))
    FeatureStore(monitor.uri).write_frame(frame, availability_lag=timedelta(0))


def write_signals(monitor: DriftMonitor, day: date, names: np.ndarray, signals: int) -> None:
    generator = np.random.default_rng(day.toordinal())
    returns = generator.normal(size=len(names))
    said = 0.05 * returns + generator.normal(size=(signals, len(names)))
    labels = ["signal", *(f"signal{i}" for i in range(1, signals))]
    frame = {
        "entity_key": np.tile(names, signals),
        "session": np.full(said.size, day),
        "signal": said.ravel(),
        "signal_name": np.repeat(labels, len(names)),
    }
    monitor.record_predictions(pd.DataFrame(frame))
    monitor.record_returns(pd.DataFrame({"entity_key": names, "session": day, "value": returns}))


def daily(uri: DatabaseURI, signals: int, features: int, n: int) -> None:
    """A reference of 60 sessions of a tenth of the names (it is stored as edges and counts, so its
    size is no cost of the daily run), then one session of all of them.
    """
    monitor = DriftMonitor(uri, "daily", notify=())
    quiet = DriftMonitor(uri, "daily", notify=(), tracking_uri=False)
    *past, today = monitor.configure().calendar.sessions_in_range(
        date(2024, 1, 2), date(2024, 4, 30)
    )[:61]
    names = np.array([f"N{i:05d}" for i in range(n)])
    with stopwatch("write 60 sessions of a tenth of the names"):
        for day in past:
            write_signals(monitor, day, names[: n // 10], signals)
            write_features(monitor, day, names[: n // 10], features)
    settle(monitor)
    with stopwatch("backfill and accept them"):
        quiet.backfill(past[0], past[-1])
        quiet.accept(past[0], past[-1], "benchmark", min_sessions=50)
    with stopwatch("their MLflow runs"):
        monitor.backfill(past[-1], past[-1])
    with stopwatch(f"write {signals} signals of {n} names"):
        write_signals(monitor, today, names, signals)
    with stopwatch(f"write {features} features of {n} names"):
        write_features(monitor, today, names, features)
    settle(monitor)
    with stopwatch("run_daily, MLflow and report included"):
        monitor.run_daily(today)
    with stopwatch("run_daily again, nothing new"):
        quiet.run_daily(today)


def backfill(uri: DatabaseURI, sessions: int, features: int, n: int) -> None:
    monitor = DriftMonitor(uri, "backfill", notify=())
    quiet = DriftMonitor(uri, "backfill", notify=(), tracking_uri=False)
    days = monitor.configure().calendar.sessions_in_range(date(2023, 1, 3), date(2024, 12, 31))[
        : sessions + 60
    ]
    names = np.array([f"N{i:05d}" for i in range(n)])
    for day in days:
        write_signals(monitor, day, names, 1)
        write_features(monitor, day, names, features)
    settle(monitor)
    quiet.backfill(days[0], days[59])
    quiet.accept(days[0], days[59], "benchmark", min_sessions=50)
    with stopwatch(f"backfill of {sessions} sessions"):
        quiet.backfill(days[60], days[-1])
    with stopwatch("their MLflow runs"):
        monitor.run_daily(days[-1])


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("what", choices=["daily", "backfill"])
    parser.add_argument("--names", type=int)
    parser.add_argument("--features", type=int)
    parser.add_argument("--signals", type=int, default=200)
    parser.add_argument("--sessions", type=int, default=250)
    given = parser.parse_args()
    with harness.server(given.uri) as server, harness.new_database(server) as uri:
        if given.what == "daily":
            daily(uri, given.signals, given.features or 500, given.names or 5000)
        else:
            backfill(uri, given.sessions, given.features or 20, given.names or 500)


if __name__ == "__main__":
    main()
