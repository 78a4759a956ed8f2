"""A strategy on real prices: its features, the model's output, and when each becomes known.

Twenty S&P 500 stocks of skfolio, 1990 to 2022. Five features are computed from the prices; the
sixth, `alpha`, is the rank of the next session's real return with noise, so that the strategy has
skill that can be lost on a known day. A feature of session t describes its close, is known twenty
minutes later, and the decision is made an hour after the close; the return begins with the close.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlflow_timescale.common.calendars import TradingCalendar

Floats = NDArray[np.float64]
WEIGHTS = {
    "ret_5d": -0.2,
    "ret_20d": 0.1,
    "mom_12_1": 0.2,
    "vol_20d": -0.1,
    "rsi_14": -0.3,
    "alpha": 1.0,
}
FEATURES = tuple(WEIGHTS)
SKILL = 0.5  # of `alpha`: its correlation with the next return, across names
UNDEFINED = 0.2  # share of names without a value of `mom_12_1`
KNOWN, DECIDED = timedelta(minutes=20), timedelta(hours=1)
EARLIEST = date(1995, 1, 3)


@dataclass(frozen=True)
class Market:
    """`days` sessions of one strategy; arrays have the shape (days, names)."""

    calendar: TradingCalendar
    days: Sequence[date]
    names: list[str]
    features: dict[str, Floats]
    returns: Floats

    def close(self, day: int) -> datetime:
        return self.calendar.session_close(self.days[day])

    def event(self, day: int) -> datetime:
        """The time that the features of a session describe."""
        return self.close(day)

    def known(self, day: int) -> datetime:
        return self.event(day) + KNOWN

    def decision(self, day: int) -> datetime:
        return self.close(day) + DECIDED

    def without_skill(self, start: int) -> Market:
        """The same market in which `alpha` is of other names from a session on."""
        alpha = self.features["alpha"].copy()
        generator = np.random.default_rng(start)
        for row in alpha[start:]:
            row[:] = row[generator.permutation(len(row))]
        return replace(self, features={**self.features, "alpha": alpha})


def output(features: dict[str, Floats], weights: dict[str, float] = WEIGHTS) -> Floats:
    """The model: a weighted sum of the features' ranks across the names of a session."""
    ranks = {name: _ranks(values) for name, values in features.items()}
    total: Floats = np.sum([weights[name] * ranks[name] for name in weights], axis=0)
    return total


def market(seed: int, length: int) -> Market:
    """A window of real prices that starts on a session chosen by the seed."""
    calendar = TradingCalendar("XNYS")
    closes = prices()
    generator = np.random.default_rng((seed, 17))
    first = int(generator.integers(closes.index.searchsorted(str(EARLIEST)), len(closes) - length))
    rows = slice(first, first + length)
    days = [day.date() for day in closes.index[rows]]
    features = {name: frame.to_numpy()[rows].copy() for name, frame in computed()}
    shape = (length, closes.shape[1])
    features["mom_12_1"][generator.random(shape) < UNDEFINED] = np.nan
    returns = closes.pct_change().shift(-1).to_numpy()[rows]
    noise = generator.normal(size=shape)
    features["alpha"] = SKILL * _scores(returns) + np.sqrt(1 - SKILL**2) * noise
    return Market(calendar, days, list(closes.columns), features, returns)


@cache
def prices() -> pd.DataFrame:
    from skfolio.datasets import load_sp500_dataset

    return load_sp500_dataset()


@cache
def computed() -> tuple[tuple[str, pd.DataFrame], ...]:
    """The features of all sessions, as they are known at each close."""
    from examples.demo import compute_features

    return tuple(compute_features(prices()).items())


def _ranks(values: Floats) -> Floats:
    frame = pd.DataFrame(values).rank(axis=1, pct=True) - 0.5
    return frame.fillna(0.0).to_numpy()


def _scores(values: Floats) -> Floats:
    ranks = pd.DataFrame(values).rank(axis=1).to_numpy()
    scores: Floats = (ranks - ranks.mean(axis=1, keepdims=True)) / ranks.std(axis=1, keepdims=True)
    return scores
