"""Prices of 20 stocks, the features that are computed from them, and the returns to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property

import pandas as pd

from mlflow_timescale.features import forward_returns

from .. import demo
from .settings import FEATURES, LABEL, Settings

DECISION = timedelta(hours=2)  # after the close: an hour after the features are known


@dataclass(frozen=True)
class Market:
    """Adjusted closes: a row for each session's close (UTC), a column for each stock."""

    prices: pd.DataFrame

    @cached_property
    def names(self) -> list[str]:
        """The stocks."""
        return list(self.prices.columns)

    @cached_property
    def closes(self) -> dict[date, datetime]:
        """The close of every session."""
        return {close.date(): close.to_pydatetime() for close in self.prices.index}

    def decision_time(self, session: date) -> datetime:
        """When the strategy decides: two hours after the close of a session."""
        return self.closes[session] + DECISION

    def sessions(self, first: date, last: date) -> Sequence[date]:
        """The sessions from one date to another, both included."""
        return [day for day in self.closes if first <= day <= last]

    @cached_property
    def features(self) -> pd.DataFrame:
        """A row for each close and stock: momentum, volatility and RSI as known at the close."""
        columns = demo.compute_features(self.prices)
        frame = pd.concat({name: columns[name].stack() for name in FEATURES}, axis=1).dropna()
        return frame.rename_axis(["event_time", "entity_key"]).reset_index()

    @cached_property
    def labels(self) -> pd.DataFrame:
        """The return that a decision earns: it is traded at the next close, and held for a session.

        Columns: entity_key, session (of the decision), event_time (its close), label, and known_at,
        the close at which the return is known, two sessions after the decision.
        """
        returns = forward_returns(self.prices.rename_axis(columns=None), 1)
        closes = self.prices.index
        decided = dict(zip(closes[1:], closes[:-1], strict=True))
        returns["event_time"] = returns["event_time"].map(decided)
        returns = returns.dropna(subset="event_time").rename(columns={"value": LABEL})
        returns["session"] = returns["event_time"].dt.date
        return returns[["entity_key", "session", "event_time", LABEL, "known_at"]]


def load(settings: Settings) -> Market:
    """The prices that come with skfolio, from a year before the first session: for momentum."""
    start = settings.first_session.replace(year=settings.first_session.year - 2)
    prices = demo.load_prices(demo.Settings(first_session=start.isoformat()))
    return Market(prices.loc[: pd.Timestamp(settings.end, tz="UTC") + pd.Timedelta(days=6)])
