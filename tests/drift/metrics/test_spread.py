"""A spread that is only rounding is no spread, wherever one divides by it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import pytest

from drift.alerts.simulation import simulate
from drift.computation.history import _level
from drift.metrics import calculate_sharpe, cusum, distances, ic, psi, sharpe
from drift.results.references import NotAcceptable, References, accept

CONSTANTS = [0.1, 0.05, 1.0, -0.3, 1e-3, 1e200, 1e-200]
SCALES = [1e200, 1e-200, 1e300, 1e-300, 1e150, 2.0**-1000]


def noisy(value: float, n: int = 150) -> np.ndarray:
    """One value, computed in several ways: neighbouring doubles."""
    steps = np.random.default_rng(0).integers(-2, 3, n)
    return value + steps * np.spacing(abs(value))


def same(value: float, n: int = 150) -> np.ndarray:
    return np.full(n, value)


@pytest.mark.parametrize("value", CONSTANTS)
@pytest.mark.parametrize("make", [same, noisy])
def test_a_constant_series_has_no_ratio(value: float, make: Callable[[float], Any]) -> None:
    series = make(value)
    found = ic.summary(series)
    assert (found.sd, found.icir, found.t, found.t_newey_west) == (0.0, None, None, None)
    assert sharpe.sharpe(series).status == "zero_variance"
    assert np.isnan(sharpe.rolling(series, 20)).all()
    assert sharpe.probabilistic(series) is None
    assert sharpe.minimum_track_record(series) is None
    assert sharpe.deflated(series, 10) is None
    with pytest.raises(ValueError, match="no spread"):
        cusum.Baseline.fit(series)


@pytest.mark.parametrize("value", CONSTANTS)
def test_a_level_without_spread_judges_nothing(value: float) -> None:
    with pytest.raises(ValueError, match="no spread"):
        cusum.Baseline(value, 1e-16 * abs(value)).shortfall([0.0])


@pytest.mark.parametrize("value", CONSTANTS)
def test_a_signal_of_rounding_has_no_ranks(value: float) -> None:
    returns = np.random.default_rng(1).normal(size=150)
    assert ic.rank_ic(noisy(value), returns).status == "constant"
    assert ic.rank_ic(returns, noisy(value)).status == "constant"


def test_a_perfect_correlation_has_no_t_of_rounding() -> None:
    ties = np.repeat(np.arange(7.0), 3)
    for found in (ic.rank_ic(ties, ties), ic.rank_ic(ties, -ties)):
        assert (found.t, found.p) == (None, 0.0)
        assert abs(found.value or 0) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("scale", SCALES)
def test_a_sharpe_ratio_does_not_depend_on_the_unit(scale: float) -> None:
    returns = np.random.default_rng(0).normal(0.1, 1, 100)
    plain, scaled = sharpe.sharpe(returns), sharpe.sharpe(returns * scale)
    assert scaled.value == pytest.approx(plain.value, rel=1e-9)
    assert scaled.autocorrelation_corrected == pytest.approx(plain.autocorrelation_corrected)
    assert calculate_sharpe(returns * scale) == scaled.value
    rolled = sharpe.rolling(np.stack([returns, returns * scale]), 20)
    np.testing.assert_allclose(rolled[1], rolled[0], rtol=1e-9)
    assert sharpe.probabilistic(returns * scale) == pytest.approx(sharpe.probabilistic(returns))
    assert sharpe.deflated(returns * scale, 9) == pytest.approx(sharpe.deflated(returns, 9))


def test_a_track_record_for_the_difference_of_rounding_does_not_exist() -> None:
    returns = np.random.default_rng(0).normal(0.1, 1, 100)
    ratio = sharpe.sharpe(returns).per_period or 0.0
    assert sharpe.minimum_track_record(returns, np.nextafter(ratio, -1)) is None


def test_a_distance_is_raw_where_the_reference_has_no_spread() -> None:
    raw = distances.wasserstein(noisy(0.1), same(0.2), scaled=False)
    assert distances.wasserstein(noisy(0.1), same(0.2)) == raw


def test_another_rounding_of_a_constant_is_no_drift() -> None:
    reference = psi.fit(noisy(0.1), days=np.repeat(np.arange(15), 10))
    assert psi.psi(reference, same(np.nextafter(0.1, 1), 50)).value == pytest.approx(0, abs=0.02)
    moved = psi.psi(reference, same(0.1001, 50))
    assert (moved.ratio or 0) > 1


def test_days_that_all_have_the_same_psi_are_as_many_as_they_are() -> None:
    assert psi._effective(same(0.05, 40)) == psi._effective(noisy(0.05, 40)) == 40


def test_a_constant_history_can_be_simulated() -> None:
    assert simulate([], {"ic": noisy(0.1)}) == []


def test_a_window_whose_ics_are_all_equal_is_not_acceptable() -> None:
    window = date(2024, 1, 2), date(2024, 12, 31)
    with pytest.raises(NotAcceptable, match=r"every IC .* is 0.1"):
        accept(None, "s", window, noisy(0.1), [], reason="calm")  # type: ignore[arg-type]


def test_a_stored_spread_of_rounding_is_no_level() -> None:
    """Windows accepted by older versions may hold one."""

    class Stored(References):
        def __init__(self) -> None:
            self.windows = ()

        def at(self, session: date) -> Any:
            return type("W", (), {"window_end": date(1, 1, 1), "ic_mean": 0.1, "ic_sd": 1e-17})()

    assert _level(Stored(), date(2024, 1, 2)) is None
