"""A healthy market with features made from prices, served to a feature store and a monitor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from drift import DriftMonitor
from feature_store import FeatureStore
from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.db.uri import DatabaseURI

FEATURES = ("ret_5d", "ret_20d", "rsi_14", "vol_20d")
SKILL, VOLATILITY = 0.06, 0.02
WARM_UP = 60
EVERYTHING = slice(None)


@dataclass
class Market:
    """Sessions x names: features by name as served, signals, the returns that follow them.

    `closes` and `delay` have one value per session: a feature's event time is their sum. The
    signals name `version` of the model `model`, where it has one.
    """

    days: Sequence[date]
    closes: np.ndarray
    features: dict[str, np.ndarray]
    signals: np.ndarray
    returns: np.ndarray
    delay: np.ndarray
    model: str = ""
    version: str = ""

    @property
    def names(self) -> list[str]:
        return [f"N{number:02d}" for number in range(self.signals.shape[1])]

    @property
    def profits(self) -> np.ndarray:
        """The return of the strategy that holds each name in proportion to its signal."""
        held = standard(self.signals)
        profits: np.ndarray = (held * self.returns).sum(axis=1) / np.abs(held).sum(axis=1)
        return profits


def market(
    seed: int | Sequence[int],
    calendar: TradingCalendar,
    days: Sequence[date],
    names: int,
    *,
    ranks: bool = False,
) -> Market:
    """A market in which the signal predicts the next return with an IC of about `SKILL`.

    With `ranks`, features are ranks across the names of a session.
    """
    generator = np.random.default_rng(seed)
    length = len(days) + WARM_UP
    common, own = generator.normal(0, 0.01, (length, 1)), generator.normal(0, 0.02, (length, names))
    features = {name: v[WARM_UP:] for name, v in _from_returns(common + own).items()}
    if ranks:
        features = {name: _ranks(values) for name, values in features.items()}
    signals = standard(features["rsi_14"]) - standard(features["ret_20d"])
    noise = generator.normal(size=signals.shape)
    returns = VOLATILITY * (SKILL * standard(signals) + noise)
    closes = calendar.session_closes(np.array(days, "M8[D]"))
    return Market(days, closes, features, signals, returns, np.zeros(len(days), "m8[us]"))


def _from_returns(daily: np.ndarray) -> dict[str, np.ndarray]:
    gains, losses = np.maximum(daily, 0), np.maximum(-daily, 0)
    up, down = _mean(gains, 14), _mean(losses, 14)
    return {
        "ret_5d": 5 * _mean(daily, 5),
        "ret_20d": 20 * _mean(daily, 20),
        "rsi_14": 100 * up / (up + down),
        "vol_20d": np.sqrt(_mean(daily**2, 20)),
    }


def _mean(values: np.ndarray, window: int) -> np.ndarray:
    sums = np.cumsum(values, axis=0)
    sums[window:] = sums[window:] - sums[:-window]
    means: np.ndarray = sums / window
    return means


def standard(values: np.ndarray) -> np.ndarray:
    """Each session's values with mean 0 and deviation 1 across names."""
    spread = values.std(axis=1, keepdims=True)
    scores: np.ndarray = (values - values.mean(axis=1, keepdims=True)) / spread
    return scores


def _ranks(values: np.ndarray) -> np.ndarray:
    ranks: np.ndarray = values.argsort(axis=1).argsort(axis=1) / values.shape[1]
    return ranks


# Into the database


def write_features(uri: DatabaseURI, served: Market, sessions: slice = EVERYTHING) -> None:
    """Write the features as the job of each evening would have."""
    with FeatureStore(uri, producer="job") as store:
        store.write_frame(_features(served, sessions), availability_lag=timedelta(minutes=20))


def correct_feature(
    uri: DatabaseURI, true: Market, feature: str, sessions: slice, known: np.datetime64
) -> None:
    """Write the true values of a feature on past sessions, known from one moment on."""
    frame = _features(true, sessions).select(["entity_key", "event_time", feature])
    times = pa.array(np.repeat(known, len(frame))).cast(pa.timestamp("us", "UTC"))
    with FeatureStore(uri, producer="job") as store:
        store.write_frame(frame.append_column("ingest_time", times), ingest_time="ingest_time")


def _features(served: Market, sessions: slice) -> pa.Table:
    times = np.repeat((served.closes + served.delay)[sessions], len(served.names))
    columns: dict[str, Any] = {
        "entity_key": served.names * len(served.days[sessions]),
        "event_time": pa.array(times).cast(pa.timestamp("us", "UTC")),
    }
    values = {name: pa.array(v[sessions].ravel()) for name, v in served.features.items()}
    return pa.table({**columns, **values})


def record_signals(monitor: DriftMonitor, served: Market, sessions: slice = EVERYTHING) -> None:
    """Record signals one hour after each close."""
    names, days = served.names, served.days[sessions]
    moments = np.repeat(served.closes[sessions] + np.timedelta64(1, "h"), len(names))
    frame: dict[str, Any] = {
        "entity_key": names * len(days),
        "signal_time": pa.array(moments).cast(pa.timestamp("us", "UTC")),
        "session": [day for day in days for _ in names],
        "signal": served.signals[sessions].ravel(),
    }
    if served.model:
        rows = len(days) * len(names)
        frame |= {
            "model_name": [served.model] * rows,
            "model_version": [served.version] * rows,
        }
    monitor.record_predictions(frame)


def record_returns(
    monitor: DriftMonitor, served: Market, sessions: slice = EVERYTHING, *, profits: bool = False
) -> None:
    """Record the returns that followed the signals; with `profits`, the strategy's own too."""
    names, days = served.names, served.days[sessions]
    monitor.record_returns(
        {
            "entity_key": names * len(days),
            "session": [day for day in days for _ in names],
            "value": served.returns[sessions].ravel(),
        }
    )
    if profits:
        monitor.record_strategy_returns(
            {"session": list(days), "value": served.profits[sessions].tolist()}
        )
