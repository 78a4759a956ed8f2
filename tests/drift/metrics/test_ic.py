"""Rank IC against golden values, scipy, and the traps of real cross-sections."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from drift.metrics import calculate_ic, ic

GOLDEN = Path(__file__).parents[1] / "golden"
PANEL = pd.read_csv(GOLDEN / "ic_panel.csv")
DAILY = pd.read_csv(GOLDEN / "ic_daily_expected.csv")
SUMMARY = json.loads((GOLDEN / "ic_summary_expected.json").read_text())


def day(date: str, horizon: str, sector: str = "ALL") -> tuple[np.ndarray, np.ndarray]:
    rows = PANEL[PANEL.date == date]
    rows = rows if sector == "ALL" else rows[rows.sector == sector]
    return rows.signal.to_numpy(), rows[f"fwd_{horizon}"].to_numpy()


@pytest.mark.parametrize("horizon", ["1d", "5d"])
def test_every_day_and_sector_equals_the_golden_value(horizon: str) -> None:
    for row in DAILY[DAILY.horizon == horizon].itertuples():
        found = ic.rank_ic(*day(row.date, horizon, row.sector), min_n=3)
        ours = "ok" if row.status == "below_min_n" else row.status
        assert (found.n, found.status) == (row.n_valid, ours), row
        if ours == "ok":
            assert found.value == pytest.approx(row.rank_ic, abs=1e-12), row
            if abs(row.rank_ic) < 1:
                assert found.t == pytest.approx(row.t, rel=1e-12, abs=1e-12)
                assert found.p == pytest.approx(row.p, rel=1e-9, abs=1e-12)
        else:
            assert found.value is None


@pytest.mark.parametrize("horizon", ["1d", "5d"])
def test_the_summary_equals_the_golden_one(horizon: str) -> None:
    days = DAILY[(DAILY.horizon == horizon) & (DAILY.sector == "ALL")]
    series = np.where(days.status == "ok", days.rank_ic, np.nan)
    expected = SUMMARY[horizon]
    for lag in (0, 3, 4, 8):
        if f"nw_L{lag}" not in expected:
            continue
        found = ic.summary(series, lag=lag)
        newey_west = expected[f"nw_L{lag}"]
        assert found.t_newey_west == pytest.approx(newey_west["t"], rel=1e-10)
        assert found.se_newey_west == pytest.approx(newey_west["se"], rel=1e-10)
    assert found.n == expected["T"]
    assert found.mean == pytest.approx(expected["mean"], rel=1e-10)
    assert found.sd == pytest.approx(expected["std_ddof1"], rel=1e-10)
    assert found.icir == pytest.approx(expected["icir"], rel=1e-10)
    assert found.hit_rate == pytest.approx(expected["hit_rate"], rel=1e-10)
    assert found.t == pytest.approx(expected["t_naive"], rel=1e-10)
    assert found.p == pytest.approx(expected["p_naive"], rel=1e-9)
    assert ic.summary(series).lag == expected["L_auto_4(T/100)^(2/9)"]
    average = ic.moving_average(series)[-1]
    assert average == pytest.approx(expected["ic_5d_avg_last_over_computable_days"], rel=1e-10)


def test_overlapping_horizons_use_at_least_their_overlap() -> None:
    series = np.random.default_rng(0).normal(size=50)
    assert ic.summary(series, horizon=20).lag == 19
    assert ic.summary(series, horizon=1).lag == 3


def test_a_matrix_gives_what_scipy_gives_row_by_row() -> None:
    generator = np.random.default_rng(1)
    signals = generator.normal(size=(30, 200)).round(1)
    returns = generator.normal(size=200).round(2)
    signals[:15, ::7] = np.nan
    returns[3] = np.inf
    found = ic.rank_ic_matrix(signals, returns)
    for row, value, n in zip(signals, found.value, found.n, strict=True):
        both = np.isfinite(row) & np.isfinite(returns)
        assert n == both.sum()
        expected = stats.spearmanr(row[both], returns[both]).statistic
        assert value == pytest.approx(expected, abs=1e-12)


def test_returns_may_differ_by_row() -> None:
    generator = np.random.default_rng(2)
    signals, returns = generator.normal(size=(2, 5, 80))
    returns[1, 5] = np.nan
    found = ic.rank_ic_matrix(signals, returns)
    singly = [ic.rank_ic(a, b) for a, b in zip(signals, returns, strict=True)]
    assert found.value.tolist() == pytest.approx([r.value for r in singly], abs=1e-15)
    assert found.result(1) == singly[1]


def test_ranks_are_taken_after_missing_pairs_are_dropped() -> None:
    signals, returns = day("2024-01-05", "1d")
    golden = DAILY[(DAILY.date == "2024-01-05") & (DAILY.horizon == "1d")].rank_ic.iloc[0]
    ranked_first = stats.rankdata(np.where(np.isnan(signals), -np.inf, signals))
    both = np.isfinite(signals) & np.isfinite(returns)
    wrong = np.corrcoef(ranked_first[both], stats.rankdata(returns)[both])[0, 1]
    assert calculate_ic(signals, returns) == pytest.approx(golden, abs=1e-12)
    assert abs(wrong - golden) > 1e-3


def test_nothing_known_yet_is_not_the_same_as_too_few() -> None:
    signals = np.arange(50.0)
    assert ic.rank_ic(signals, np.full(50, np.nan)).status == "no_returns_yet"
    assert ic.rank_ic(np.full(50, np.nan), signals).status == "too_few"
    assert ic.rank_ic(signals[:19], signals[:19]).status == "too_few"
    assert ic.rank_ic(signals[:20], signals[:20]).status == "ok"


def test_shapes_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match=r"signals \(1, 3\) and returns \(2,\)"):
        ic.rank_ic([1.0, 2.0, 3.0], [1.0, 2.0])


def test_a_moving_average_passes_over_sessions_without_a_value() -> None:
    series = [0.1, np.nan, 0.3, 0.5, np.nan]
    found = ic.moving_average(series, window=3)
    assert found.tolist() == pytest.approx([np.nan, np.nan, np.nan, 0.3, 0.3], nan_ok=True)
    both = ic.moving_average([series, [0.2] * 5], window=3)
    assert both[0].tolist() == pytest.approx(found.tolist(), nan_ok=True)
    assert np.isnan(ic.moving_average([0.1], window=3)).all()


def test_a_summary_of_nothing_is_none() -> None:
    found = ic.summary([np.nan])
    assert (found.n, found.mean, found.icir, found.t_newey_west) == (0, None, None, None)
    assert ic.summary([0.1, 0.1]).icir is None


def test_groups_are_judged_by_their_own_minimum() -> None:
    found = ic.rank_ic_by_group(np.arange(21.0), np.arange(21.0), ["A"] * 11 + ["B"] * 10)
    assert {name: r.status for name, r in found.items()} == {"A": "ok", "B": "ok"}
    assert ic.rank_ic_by_group([1.0], [1.0], ["A"])["A"].status == "too_few"


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=40))
def test_ties_are_ranked_as_scipy_ranks_them(pairs: list[tuple[int, int]]) -> None:
    signals, returns = np.array(pairs, dtype=float).T
    found = calculate_ic(signals, returns)
    if np.ptp(signals) == 0 or np.ptp(returns) == 0:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(stats.spearmanr(signals, returns).statistic, abs=1e-12)
