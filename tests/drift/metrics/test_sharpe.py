"""Sharpe ratio and its inference against golden values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from drift.metrics import calculate_sharpe, sharpe

GOLDEN = Path(__file__).parents[1] / "golden"
RETURNS = pd.read_csv(GOLDEN / "sharpe_returns.csv")
EXPECTED = json.loads((GOLDEN / "sharpe_expected.json").read_text())
ROLLING = pd.read_csv(GOLDEN / "sharpe_rolling_expected.csv")
TOLERANCE = 1e-9


@pytest.mark.parametrize("series", sorted(EXPECTED))
def test_every_series_equals_the_golden_value(series: str) -> None:
    expected, returns = EXPECTED[series], RETURNS[series].to_numpy()
    found = sharpe.sharpe(returns)
    assert (found.status, found.n) == (expected["status"], expected["n_valid"])
    if expected["sharpe_ann"] is None:
        assert found.value is None
        assert np.isnan(calculate_sharpe(returns))
        return
    assert found.value == pytest.approx(expected["sharpe_ann"], rel=TOLERANCE)
    assert found.per_period == pytest.approx(expected["sr_daily"], rel=TOLERANCE)
    assert found.standard_error == pytest.approx(expected["se_ann_lo_iid"], rel=TOLERANCE)
    corrected = found.autocorrelation_corrected
    assert corrected == pytest.approx(expected["sharpe_ann_lo"], rel=TOLERANCE)
    assert calculate_sharpe(returns) == found.value


@pytest.mark.parametrize("series", ["iid", "ar1_0_3", "left_skew", "with_nan"])
def test_probabilistic_and_deflated_equal_the_golden_values(series: str) -> None:
    expected, returns = EXPECTED[series], RETURNS[series].to_numpy()
    deflated = expected["dsr_N100_varSR_1_over_T"]
    n = expected["n_valid"]
    assert sharpe.probabilistic(returns) == pytest.approx(expected["psr_vs_0"], rel=TOLERANCE)
    assert sharpe.deflated(returns, 100) == pytest.approx(deflated["dsr"], rel=TOLERANCE)
    benchmark = sharpe.expected_maximum(100, 1 / n)
    assert benchmark == pytest.approx(deflated["sr0_daily"], rel=TOLERANCE)
    track_record = sharpe.minimum_track_record(returns)
    if expected["min_trl_95_vs_0"] is None:
        assert track_record is None
    else:
        assert track_record == pytest.approx(expected["min_trl_95_vs_0"], rel=TOLERANCE)


@pytest.mark.parametrize("series", sorted(EXPECTED))
@pytest.mark.parametrize("window", [5, 20])
def test_rolling_equals_the_golden_values_gaps_included(series: str, window: int) -> None:
    rows = ROLLING[(ROLLING.series == series) & (ROLLING.window == window)]
    found = sharpe.rolling(RETURNS[series].to_numpy(), window)
    expected = rows.sharpe_ann.to_numpy()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE)


def test_rolling_takes_many_series_at_once() -> None:
    returns = np.random.default_rng(0).normal(size=(3, 60))
    found = sharpe.rolling(returns, 20)
    for row, expected in zip(found, (sharpe.rolling(r, 20) for r in returns), strict=True):
        np.testing.assert_allclose(row, expected)
    assert np.isnan(sharpe.rolling(returns, 61)).all()


def test_a_constant_loss_of_any_size_has_no_ratio() -> None:
    for level in (1e-14, 0.001, 1e6):
        assert sharpe.sharpe(np.full(50, level) * (1 + 0.0)).status == "zero_variance"


def test_returns_of_any_scale_have_the_same_ratio() -> None:
    returns = np.random.default_rng(1).normal(0.001, 0.01, 100)
    assert calculate_sharpe(returns * 1e-12) == pytest.approx(calculate_sharpe(returns))


def test_one_return_is_too_few() -> None:
    assert sharpe.sharpe([0.01, np.nan]).status == "too_few"
    assert sharpe.deflated([0.01], 10) is None
    assert sharpe.probabilistic([]) is None


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    truth = 1.5
    samples = generator.normal(truth / 252**0.5, 1.0, size=(600, 250))
    hits = 0
    for row in samples:
        low, high = sharpe.sharpe(row).interval or (0, 0)
        hits += low < truth < high
    assert 0.92 < hits / 600 < 0.98


def test_other_calendars_annualise_by_their_own_year() -> None:
    returns = [0.01, -0.02, 0.03]
    assert calculate_sharpe(returns, 365) == pytest.approx(calculate_sharpe(returns, 1) * 365**0.5)


def test_a_drawdown_knows_where_it_started_and_whether_it_is_over() -> None:
    fallen = sharpe.drawdown([0.1, -0.2, np.nan, 0.05, -0.1])
    assert fallen is not None
    assert (fallen.start, fallen.trough, fallen.recovered) == (0, 4, None)
    assert fallen.depth == pytest.approx(1 - 0.8 * 1.05 * 0.9)
    risen = sharpe.drawdown([0.1, 0.2])
    assert risen is not None
    assert (risen.depth, risen.trough, risen.recovered) == (0.0, -1, None)
    assert sharpe.drawdown([np.nan]) is None
    from_the_start = sharpe.drawdown([-0.5, 1.0])
    assert from_the_start is not None
    assert (from_the_start.start, from_the_start.recovered) == (-1, 1)
