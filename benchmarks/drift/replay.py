"""Real prices, replayed: reference to 2015, false alarms 2016-2019, and the break of 2020.

    python -m benchmarks.drift.replay [--uri URI] [--report FILE]

Twenty S&P 500 stocks of skfolio, a ridge regression on four price features fitted to 2015, its
predictions, returns and features recorded as they became known, and every session judged by both
presets. Prints which alerts opened; `--report FILE` writes the page of 2020-03-31.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import harness
from drift import Alert, DriftMonitor
from feature_store import FeatureStore
from mlflow_timescale.db import DatabaseURI

FEATURES = ("ret_5d", "ret_20d", "vol_20d", "rsi_14")
START, TRAINED_TO, LAST = "2010-01-01", "2015-12-31", "2022-12-28"
QUIET = (date(2016, 1, 1), date(2019, 12, 31))


@dataclass(frozen=True)
class Market:
    """Frames of shape (sessions, names) by feature, the signal, and the next session's return."""

    features: dict[str, pd.DataFrame]
    signal: pd.DataFrame
    forward: pd.DataFrame


def market() -> Market:
    """Compute the features of real prices, and fit the model to what was known in 2015."""
    from skfolio.datasets import load_sp500_dataset

    prices = load_sp500_dataset()
    daily = prices.pct_change()
    features = {
        "ret_5d": prices.pct_change(5),
        "ret_20d": prices.pct_change(20),
        "vol_20d": daily.rolling(20).std(),
        "rsi_14": _rsi(daily, 14),
    }
    features = {name: frame.loc[START:LAST] for name, frame in features.items()}
    forward = daily.shift(-1).loc[START:LAST]
    stacked = np.stack([_ranked(frame) for frame in features.values()], axis=-1)
    weights = _ridge(stacked, _ranked(forward), forward.index <= TRAINED_TO)
    signal = pd.DataFrame(stacked @ weights, index=forward.index, columns=forward.columns)
    return Market(features, signal, forward)


def _rsi(daily: pd.DataFrame, window: int) -> pd.DataFrame:
    up = daily.clip(lower=0).rolling(window).mean()
    down = (-daily.clip(upper=0)).rolling(window).mean()
    return 100 * up / (up + down)


def _ranked(frame: pd.DataFrame) -> np.ndarray:
    return (frame.rank(axis=1, pct=True) - 0.5).to_numpy()


def _ridge(x: np.ndarray, y: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    a, b = x[chosen].reshape(-1, x.shape[-1]), y[chosen].ravel()
    known = np.isfinite(a).all(axis=1) & np.isfinite(b)
    a, b = a[known], b[known]
    return np.linalg.solve(a.T @ a + np.eye(a.shape[1]), a.T @ b)


def record(monitor: DriftMonitor, found: Market) -> None:
    """Tell the monitor all of it: it sees of each session only what was known by its close."""
    said = found.signal.reset_index(names="session").melt(
        "session", var_name="entity_key", value_name="signal"
    )
    monitor.record_predictions(said.assign(model_name="ridge", model_version="1"))
    returned = found.forward.reset_index(names="session").melt("session", var_name="entity_key")
    monitor.record_returns(returned)
    held = found.signal.sub(found.signal.mean(axis=1), axis=0)
    book = held.div(held.abs().sum(axis=1), axis=0)
    own = (book * found.forward).sum(axis=1).shift(1).dropna()
    monitor.record_strategy_returns({"session": list(own.index.date), "value": own.to_list()})


def write_features(uri: DatabaseURI, monitor: DriftMonitor, found: Market) -> None:
    """Write the features as the job of each evening would have."""
    calendar = monitor.configure().calendar
    closes = {day: calendar.session_close(day.date()) for day in found.forward.index}
    stacked = {name: frame.stack() for name, frame in found.features.items()}
    frame = pd.DataFrame(stacked).reset_index(names=["session", "entity_key"])
    frame["event_time"] = frame.pop("session").map(closes)
    FeatureStore(uri, producer="replay").write_frame(frame, availability_lag=timedelta(0))


def replay(uri: DatabaseURI, preset: str, found: Market, *, mlflow: bool = False) -> DriftMonitor:
    """Judge 2016-2022 by what was accepted in 2015."""
    monitor = DriftMonitor(
        uri, f"replay-{preset}", rules=preset, notify=(), tracking_uri=None if mlflow else False
    )
    record(monitor, found)
    days = [day.date() for day in found.forward.index]
    trained = [day for day in days if day <= date.fromisoformat(TRAINED_TO)]
    monitor.backfill(trained[0], trained[-1])
    monitor.accept(date(2013, 1, 2), trained[-1], "the last three years the model was fitted on")
    monitor.backfill(date(2016, 1, 4), days[-2])
    return monitor


def false_alarms(monitor: DriftMonitor) -> list[Alert]:
    """Alerts of the quiet years that would have sent a message."""
    return [a for a in monitor.alerts() if QUIET[0] <= a.session <= QUIET[1] and not a.inhibited]


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--mlflow", action="store_true")
    arguments = parser.parse_args()
    with harness.server(arguments.uri) as server, harness.new_database(server) as uri:
        report(uri, arguments.report, mlflow=arguments.mlflow)


def report(uri: DatabaseURI, page: Path | None, *, mlflow: bool) -> None:
    """Replay both presets and print the alerts that opened."""
    found = market()
    write_features(uri, DriftMonitor(uri, "replay-default", tracking_uri=False), found)
    print("preset   alert                severity   2016-2019 2020-2022  first from 2020 on")
    for preset in ("default", "classic"):
        monitor = replay(uri, preset, found, mlflow=mlflow)
        for rule in monitor.rules:
            opened = [a for a in monitor.alerts() if a.rule == rule.name]
            quiet = sum(QUIET[0] <= a.session <= QUIET[1] for a in opened)
            since = [a.session for a in opened if a.session > QUIET[1]]
            first = min(since).isoformat() if since else ""
            print(f"{preset:8} {rule.name:20} {rule.severity:10} {quiet:9} {len(since):9}  {first}")
        if page and preset == "default":
            page.write_text(monitor.report(date(2020, 3, 31)), encoding="utf-8")


if __name__ == "__main__":
    main()
