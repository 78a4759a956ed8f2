"""Forward returns: the definition of alphalens, and the time at which each becomes known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from support.bitemporal import at

from feature_store import FeatureStore, InvalidFrame, InvalidValue, forward_returns

DATES = pd.bdate_range("2024-01-02 21:00", periods=12, tz="UTC")
NAMES = ["AAPL", "JPM", "XOM"]


def prices() -> pd.DataFrame:
    walk = np.random.default_rng(3).normal(0, 0.02, size=(12, 3)).cumsum(axis=0)
    frame = pd.DataFrame(100 * np.exp(walk), index=DATES, columns=NAMES)
    frame.iloc[4, 1] = np.nan  # JPM has no price on one day
    frame.iloc[9:, 2] = np.nan  # XOM is delisted
    return frame


def of_alphalens(wide: pd.DataFrame, horizon: int) -> pd.Series:
    """`prices.pct_change(period).shift(-period)`, as alphalens computes it, without filling."""
    returns = wide.pct_change(horizon, fill_method=None).shift(-horizon)
    return returns.stack().rename("value")


def long() -> pd.DataFrame:
    frame = prices().rename_axis(index="event_time", columns="entity_key")
    return frame.stack().rename("close").reset_index()


@pytest.mark.parametrize("horizon", [1, 2, 5, 11])
def test_the_returns_are_those_of_alphalens(horizon: int) -> None:
    ours = forward_returns(prices(), horizon).set_index(["event_time", "entity_key"])["value"]
    theirs = of_alphalens(prices(), horizon).dropna()
    assert len(ours) == len(theirs) > 0
    ours.index = ours.index.set_names([None, None])
    np.testing.assert_allclose(
        ours.sort_index().to_numpy(), theirs.sort_index().to_numpy(), rtol=1e-12
    )


@pytest.mark.parametrize(
    "source", [prices, long, lambda: pl.from_pandas(long()), lambda: long().sample(frac=1)]
)
def test_wide_and_long_frames_in_any_order_give_the_same(source: Any) -> None:
    first = forward_returns(prices(), [1, 5])
    pd.testing.assert_frame_equal(forward_returns(source(), [1, 5]), first)


def test_a_return_becomes_known_with_its_last_price() -> None:
    returns = forward_returns(prices(), 5)
    row = returns[(returns.entity_key == "AAPL") & (returns.event_time == DATES[0])].iloc[0]
    assert row["known_at"] == DATES[5]
    later = forward_returns(prices(), 5, availability_lag="15m")
    assert ((later["known_at"] - returns["known_at"]) == pd.Timedelta(minutes=15)).all()


def test_stored_returns_do_not_leak_into_a_training_set(store: FeatureStore) -> None:
    returns = forward_returns(prices(), [1, 5])
    assert store.write_frame(returns, layout="long", ingest_time="known_at") == len(returns)
    spine = pd.DataFrame({"entity_key": "AAPL", "as_of": DATES})
    train = store.training_frame(spine, ["fwd_ret_5"])
    assert train["fwd_ret_5"].isna().tolist() == [True] * 5 + [False] * 7
    value = returns.query("entity_key == 'AAPL' and horizon == 5")["value"].iloc[0]
    assert train["fwd_ret_5"].iloc[5] == value


@pytest.mark.parametrize("horizons", [0, [], [1, -5]])
def test_a_horizon_is_one_or_more(horizons: Any) -> None:
    with pytest.raises(InvalidValue, match="rows from 1"):
        forward_returns(prices(), horizons)


def test_two_prices_at_one_time_and_no_price_are_refused() -> None:
    twice = pd.concat([long(), long().head(1)])
    with pytest.raises(InvalidFrame, match="two prices"):
        forward_returns(twice, 1)
    with pytest.raises(InvalidValue, match=r"0\.0, not a price"):
        forward_returns({"entity_key": ["A"], "event_time": [at(0)], "close": [0.0]}, 1)


def test_a_horizon_beyond_the_prices_gives_no_row() -> None:
    assert len(forward_returns(prices(), 12)) == 0


@pytest.mark.parametrize("horizons", ["5d", 1.5, [1, "5"], None, 0])
def test_a_horizon_that_is_no_number_of_rows_is_refused(horizons):
    with pytest.raises(InvalidValue, match="give numbers of rows from 1"):
        forward_returns(prices(), horizons)
