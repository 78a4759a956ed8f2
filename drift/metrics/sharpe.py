"""Sharpe ratio: standard error, significance after many trials, and breaks.

Sharpe = mean(r) / sd(r, ddof=1) * sqrt(periods per year), r being returns over the risk-free rate.
A 5-day value, annualised, has a standard deviation of 10 where nothing changed, a 60-day one 2.1.

References
----------
.. [1] A. W. Lo, "The Statistics of Sharpe Ratios", Financial Analysts Journal 58 (2002).
.. [2] D. H. Bailey, M. Lopez de Prado, "The Sharpe Ratio Efficient Frontier", J. Risk 15 (2012).
.. [3] D. H. Bailey, M. Lopez de Prado, "The Deflated Sharpe Ratio", J. Portf. Manag. 40 (2014).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from .arrays import Floats
from .spread import ROUNDING, is_rounding, mean_and_sd, unit

__all__ = [
    "Drawdown",
    "SharpeResult",
    "calculate_sharpe",
    "deflated",
    "drawdown",
    "expected_maximum",
    "minimum_track_record",
    "probabilistic",
    "rolling",
    "sharpe",
]

# Beyond this, or below its inverse, squares of returns lose digits; such windows are scaled.
EXTREME = 1e100
# Doubles worked on at once: what stays in a core's cache takes a third of the time.
CACHED = 1 << 14
EULER_GAMMA = 0.5772156649015329


@dataclass(frozen=True)
class SharpeResult:
    """An annualised Sharpe ratio and what it is worth.

    Attributes
    ----------
    value
        None where `status` is not "ok".
    n
        Returns used.
    status
        "ok", "too_few" (fewer than two) or "zero_variance".
    per_period
        The ratio before annualising, which the tests of this module work on.
    standard_error
        sqrt((1 + per_period^2 / 2) / n), annualised: independent returns [1]_.
    interval
        value -+ 1.96 standard errors at the default confidence.
    autocorrelation_corrected
        Annualised by Lo's eta(q) in place of sqrt(q) [1]_.
    """

    value: float | None
    n: int
    status: str
    per_period: float | None = None
    standard_error: float | None = None
    interval: tuple[float, float] | None = None
    autocorrelation_corrected: float | None = None


@dataclass(frozen=True)
class Drawdown:
    """The deepest fall of the compounded returns: depth (0.2 is 20%) and where it lay.

    `start` is the index of the last return before the fall (-1: the very beginning), `trough` that
    of its lowest point, `recovered` of the first return back at the old high, None if not yet.
    """

    depth: float
    start: int
    trough: int
    recovered: int | None


def sharpe(
    returns: ArrayLike, periods_per_year: float = 252, confidence: float = 0.95
) -> SharpeResult:
    """Sharpe ratio of returns, shape (periods,), per period and as fractions; NaN is left out.

    Examples
    --------
    >>> result = sharpe([0.01, -0.005, 0.02, 0.0, 0.003])
    >>> round(result.value, 2), round(result.standard_error, 2)
    (9.15, 7.67)
    >>> sharpe([0.001] * 10).status
    'zero_variance'
    """
    data = _finite(returns)
    ratio = _ratio(data)
    if np.isnan(ratio):
        return SharpeResult(None, len(data), "too_few" if len(data) < 2 else "zero_variance")
    scale = periods_per_year**0.5
    error = scale * ((1 + ratio * ratio / 2) / len(data)) ** 0.5
    reach = float(ndtri((1 + confidence) / 2)) * error
    value = ratio * scale
    corrected = ratio * _eta(data, periods_per_year)
    return SharpeResult(
        value, len(data), "ok", ratio, error, (value - reach, value + reach), corrected
    )


def rolling(returns: ArrayLike, window: int, periods_per_year: float = 252) -> Floats:
    """Sharpe ratio of each run of `window` returns, along the last axis.

    NaN before the first full window, and where a window has a gap or no variance: a gap is never
    bridged.

    >>> rolling([0.01, 0.02, 0.03, np.nan, 0.02], window=2).round(1).tolist()
    [nan, 33.7, 56.1, nan, nan]
    """
    data = np.asarray(returns, dtype=np.float64)
    result = np.full(data.shape, np.nan)
    if window < 2 or data.shape[-1] < window:
        return result
    rows, ratios = data.reshape(-1, data.shape[-1]), result.reshape(-1, data.shape[-1])
    step = max(1, CACHED // data.shape[-1])
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        ratios[block, window - 1 :] = _window_ratios(rows[block], window)
    result *= periods_per_year**0.5
    return result


def _window_ratios(rows: Floats, window: int) -> Floats:
    """mean / sd of every window of each row; one pass per offset, as a view of all windows would
    need `window` times the memory.
    """
    ends = rows.shape[1] - window + 1
    shifted = [rows[:, offset : offset + ends] for offset in range(window)]
    mean = sum(shifted[1:], shifted[0]) / window
    variance, largest = np.zeros(mean.shape), np.zeros(mean.shape)
    with np.errstate(over="ignore"):  # such windows are computed again below
        for values in shifted:
            variance += (values - mean) ** 2
            np.maximum(largest, np.abs(values), out=largest)
    sd = np.sqrt(variance / (window - 1))
    ratio = np.full(mean.shape, np.nan)
    np.divide(mean, sd, out=ratio, where=sd > ROUNDING * largest)
    extreme = (largest > EXTREME) | ((largest > 0) & (largest < 1 / EXTREME))
    for row, start in np.argwhere(extreme & np.isfinite(mean)):
        ratio[row, start] = _ratio(_finite(rows[row, start : start + window]))
    return ratio


def probabilistic(returns: ArrayLike, benchmark_per_period: float = 0.0) -> float | None:
    """Probability that the true Sharpe ratio exceeds `benchmark_per_period` [2]_.

    PSR = Phi((SR - SR*) sqrt(n - 1) / sqrt(1 - g3 SR + (g4 - 1)/4 SR^2)) with skewness g3 and
    kurtosis g4 (3 for a normal law). None where there is no Sharpe ratio, or its variance is zero.
    The benchmark is a ratio per period (of one return): an annual one of 1.0 is 1.0 / sqrt(252) for
    daily returns.

    >>> round(probabilistic([0.01, -0.005, 0.02, 0.0, 0.003]), 3)
    0.903
    """
    data = _finite(returns)
    ratio = _ratio(data)
    if np.isnan(ratio):
        return None
    factor = _shape_factor(data, ratio)
    if factor <= ROUNDING:
        return None
    return float(ndtr((ratio - benchmark_per_period) * ((len(data) - 1) / factor) ** 0.5))


def minimum_track_record(
    returns: ArrayLike, benchmark_per_period: float = 0.0, confidence: float = 0.95
) -> float | None:
    """Periods needed before such a Sharpe ratio beats a benchmark with `confidence` [2]_.

    MinTRL = 1 + (1 - g3 SR + (g4 - 1)/4 SR^2) (z / (SR - SR*))^2. None where the ratio is not above
    the benchmark, a ratio per period as in `probabilistic`: no length would do.

    >>> round(minimum_track_record([0.01, -0.005, 0.02, 0.0, 0.003]), 1)
    7.4
    """
    data = _finite(returns)
    ratio, target = _ratio(data), benchmark_per_period
    if np.isnan(ratio) or is_rounding(ratio - target, ratio, target):
        return None
    z = float(ndtri(confidence))
    return 1 + _shape_factor(data, ratio) * (z / (ratio - target)) ** 2


def expected_maximum(trials: int, variance: float) -> float:
    """The Sharpe ratio (per period) that the best of `trials` worthless strategies shows [3]_.

    sqrt(V) ((1 - g) Phi^-1(1 - 1/N) + g Phi^-1(1 - 1/(N e))), g the Euler-Mascheroni constant and V
    the variance of the trials' ratios. Zero for one trial.

    >>> round(expected_maximum(100, 1 / 252), 4)
    0.1594
    """
    if trials < 2:
        return 0.0
    quantiles = ndtri(1 - 1 / trials), ndtri(1 - 1 / (trials * np.e))
    return float(variance**0.5 * ((1 - EULER_GAMMA) * quantiles[0] + EULER_GAMMA * quantiles[1]))


def deflated(returns: ArrayLike, trials: int, variance: float | None = None) -> float | None:
    """Probability that the Sharpe ratio is no product of having tried `trials` times [3]_.

    `variance` is that of the trials' ratios, per period; 1/n, that of an honest zero, if not given.

    >>> returns = np.random.default_rng(3).normal(0.001, 0.01, 500)
    >>> round(deflated(returns, trials=1), 3), round(deflated(returns, trials=100), 3)
    (1.0, 0.821)
    """
    data = _finite(returns)
    if len(data) < 2:
        return None
    spread = 1 / len(data) if variance is None else variance
    return probabilistic(data, expected_maximum(trials, spread))


def drawdown(returns: ArrayLike) -> Drawdown | None:
    """The deepest fall of returns, shape (periods,), compounded; a NaN counts as no return.

    None where there are no returns.

    >>> drawdown([0.10, -0.50, 0.20, 1.0])
    Drawdown(depth=0.5, start=0, trough=1, recovered=3)
    """
    data = np.asarray(returns, dtype=np.float64)
    if not np.isfinite(data).any():
        return None
    wealth = np.concatenate([[1.0], np.cumprod(1 + np.where(np.isfinite(data), data, 0.0))])
    high = np.maximum.accumulate(wealth)
    trough = int(np.argmax(1 - wealth / high))
    start = int(np.flatnonzero(wealth[: trough + 1] == high[trough])[-1])
    back = np.flatnonzero(wealth[trough:] >= high[trough])
    recovered = trough + int(back[0]) - 1 if len(back) and trough else None
    return Drawdown(float(1 - wealth[trough] / high[trough]), start - 1, trough - 1, recovered)


def _finite(returns: ArrayLike) -> Floats:
    """The finite returns, scaled to at most 1: a Sharpe ratio does not depend on the unit."""
    data = np.asarray(returns, dtype=np.float64).ravel()
    return unit(data[np.isfinite(data)])[0]


def _ratio(data: Floats) -> float:
    """mean / sd, NaN for fewer than two returns or no variance."""
    if len(data) < 2:
        return float("nan")
    mean, sd = mean_and_sd(data)
    return mean / sd if sd > 0 else float("nan")


def _shape_factor(data: Floats, ratio: float) -> float:
    """1 - g3 SR + (g4 - 1)/4 SR^2: n times the variance of the estimated ratio."""
    centred = data - data.mean()
    variance = float(np.mean(centred**2))
    skewness = float(np.mean(centred**3)) / variance**1.5
    kurtosis = float(np.mean(centred**4)) / variance**2
    return float(1 - skewness * ratio + (kurtosis - 1) / 4 * ratio * ratio)


def _eta(data: Floats, periods: float) -> float:
    """Lo's q / sqrt(q + 2 sum_k (q - k) rho_k) over the first floor(4 (n/100)^(2/9)) lags."""
    centred = data - data.mean()
    total = float(np.dot(centred, centred))
    lags = min(int(4 * (len(data) / 100) ** (2 / 9)), len(data) - 1)
    weighted = sum(
        (periods - k) * float(np.dot(centred[k:], centred[:-k])) / total for k in range(1, lags + 1)
    )
    variance = periods + 2 * weighted
    return float("nan") if is_rounding(variance, periods) else float(periods / variance**0.5)


def calculate_sharpe(returns: ArrayLike, periods_per_year: int = 252) -> float:
    """Annualised Sharpe ratio; NaN for fewer than two returns, or returns that are all equal.

    Parameters
    ----------
    returns
        Shape (periods,), as fractions (0.01 is 1%); NaN where missing.
    periods_per_year
        252 for trading days, 365 for crypto, 12 for months.

    Returns
    -------
    float
        mean / standard deviation (ddof 1) * sqrt(periods_per_year).

    Examples
    --------
    >>> round(calculate_sharpe([0.01, -0.005, 0.02, 0.0, 0.003]), 2)
    9.15
    """
    value = sharpe(returns, periods_per_year).value
    return float("nan") if value is None else value
