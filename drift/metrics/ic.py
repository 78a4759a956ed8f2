"""Rank information coefficient: how well signals rank the returns that follow.

IC = Pearson correlation of the average ranks of signals and returns (Spearman's rho), over the
pairs in which both are finite; ranks are taken after the others are dropped, which matters: ranking
first gives another number. An infinity is a missing value.

References
----------
.. [1] R. C. Grinold, R. N. Kahn, "Active Portfolio Management", 2nd ed., McGraw-Hill, 2000, ch. 6.
.. [2] W. K. Newey, K. D. West, "A Simple, Positive Semi-definite, Heteroskedasticity and
   Autocorrelation Consistent Covariance Matrix", Econometrica 55 (1987).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr

from .arrays import Floats
from .labels import align, align_table
from .ranks import rank_correlation
from .spread import ROUNDING, is_constant, is_rounding, mean_and_sd, unit

__all__ = [
    "ICMatrix",
    "ICResult",
    "ICSummary",
    "calculate_ic",
    "decay",
    "moving_average",
    "rank_ic",
    "rank_ic_by_group",
    "rank_ic_matrix",
    "summary",
]

MIN_N = 20
MIN_GROUP_N = 10


@dataclass(frozen=True)
class ICResult:
    """The IC of one cross-section.

    Attributes
    ----------
    value
        The IC; None where `status` is not "ok".
    n
        Pairs with both values finite.
    status
        "ok"; "no_returns_yet" (no return is known); "too_few" (n < min_n); "constant" (all
        signals, or all returns, are equal).
    t, p
        t = IC sqrt((n - 2) / (1 - IC^2)) and its two-sided p with n - 2 degrees of freedom, which
        take names as independent: they are not, so use them to compare, not to decide.
    """

    value: float | None
    n: int
    status: str
    t: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class ICMatrix:
    """ICs of many cross-sections, arrays of shape (rows,); `value` NaN where not computable."""

    value: Floats
    n: NDArray[np.int64]
    status: tuple[str, ...]

    def result(self, row: int) -> ICResult:
        """One row, with its t and p."""
        value, n = float(self.value[row]), int(self.n[row])
        if np.isnan(value):
            return ICResult(None, n, self.status[row])
        return ICResult(value, n, "ok", *_t_and_p(value, n))


@dataclass(frozen=True)
class ICSummary:
    """A series of ICs in a few numbers; None where there are too few sessions.

    Attributes
    ----------
    n
        Sessions with an IC.
    mean, sd
        Of those (ddof 1).
    icir
        mean / sd, not annualised [1]_.
    hit_rate
        Share of sessions with IC > 0.
    t, p
        icir sqrt(n), as if sessions were independent. For overlapping horizons they are not.
    lag
        Autocovariances used by `t_newey_west`.
    t_newey_west, p_newey_west, se_newey_west
        Bartlett-weighted [2]_, without a small-sample factor; p from t with n - 1 degrees.
    """

    n: int
    mean: float | None
    sd: float | None
    icir: float | None
    hit_rate: float | None
    t: float | None
    p: float | None
    lag: int
    t_newey_west: float | None
    p_newey_west: float | None
    se_newey_west: float | None


def rank_ic(signals: ArrayLike, returns: ArrayLike, min_n: int = MIN_N) -> ICResult:
    """The IC of one cross-section.

    Parameters
    ----------
    signals, returns
        Shape (names,); NaN or infinite where missing. pandas Series are aligned by their index,
        all else by position. Raises ValueError if they cannot be aligned.
    min_n
        Fewer pairs than this are "too_few"; at least 3.

    Examples
    --------
    >>> signals = np.arange(30.0)
    >>> rank_ic(signals, signals**3).value
    1.0
    >>> rank_ic(signals[:5], signals[:5])
    ICResult(value=None, n=5, status='too_few', t=None, p=None)
    >>> rank_ic(np.ones(30), signals).status
    'constant'
    """
    returns = align(returns, signals, "returns and signals")
    rows = np.asarray(signals, dtype=np.float64).ravel()[None, :]
    return rank_ic_matrix(rows, np.asarray(returns, dtype=np.float64).ravel(), min_n).result(0)


def rank_ic_matrix(signals: ArrayLike, returns: ArrayLike, min_n: int = MIN_N) -> ICMatrix:
    """ICs of many cross-sections.

    Parameters
    ----------
    signals
        Shape (rows, names): many signals of one session, or one signal over many sessions.
    returns
        Shape (names,), the same for all rows (sorted once), or (rows, names). pandas frames are
        aligned by index and columns.

    Examples
    --------
    >>> generator = np.random.default_rng(1)
    >>> ics = rank_ic_matrix(generator.normal(size=(3, 50)), generator.normal(size=50))
    >>> ics.value.shape, ics.n.tolist()
    ((3,), [50, 50, 50])
    """
    returns = align_table(returns, signals, "returns and signals")
    a, b = np.asarray(signals, dtype=np.float64), np.asarray(returns, dtype=np.float64)
    if a.ndim != 2 or b.shape not in (a.shape, a.shape[1:]):
        raise ValueError(f"signals {a.shape} and returns {b.shape}: want (rows, names) of both")
    targets = _Targets(b)
    rows = [targets.correlate(i, a[i], max(min_n, 3)) for i in range(len(a))]
    values, counts, status = zip(*rows, strict=True) if rows else ((), (), ())
    return ICMatrix(np.array(values, dtype=float), np.array(counts, dtype=np.int64), tuple(status))


class _Targets:
    """Returns with their finite mask and sort order, computed once for a shared row."""

    def __init__(self, returns: Floats) -> None:
        self._returns = returns
        self._shared = returns.ndim == 1
        if self._shared:
            self._load(returns)

    def _load(self, row: Floats) -> None:
        self._row, self._finite = row, np.isfinite(row)
        order = np.argsort(row, kind="stable")
        self._order = order[self._finite[order]]

    def correlate(self, i: int, signal: Floats, min_n: int) -> tuple[float, int, str]:
        if not self._shared:
            self._load(self._returns[i])
        both = self._finite & np.isfinite(signal)
        n = int(np.count_nonzero(both))
        if n < min_n:
            has_returns = bool(self._finite.any()) or n == len(signal)
            return float("nan"), n, "too_few" if has_returns else "no_returns_yet"
        a, b = signal[both], self._row[both]
        if is_constant(a) or is_constant(b):  # the ranks of rounding are noise
            return float("nan"), n, "constant"
        return rank_correlation(a, b, self._positions(both, n)), n, "ok"

    def _positions(self, both: NDArray[np.bool_], n: int) -> NDArray[np.intp]:
        """The sort order of `row[both]`, derived from that of the whole row."""
        if n == len(both):
            return self._order
        order = self._order[both[self._order]]
        return (np.cumsum(both) - 1)[order]


def rank_ic_by_group(
    signals: ArrayLike, returns: ArrayLike, groups: ArrayLike, min_n: int = MIN_GROUP_N
) -> dict[str, ICResult]:
    """The IC within each group (sector, country, size bucket), by name.

    >>> x = np.arange(24.0)
    >>> by_group = rank_ic_by_group(x, -x, ["TECH"] * 12 + ["FIN"] * 12)
    >>> {name: result.value for name, result in by_group.items()}
    {'FIN': -1.0, 'TECH': -1.0}
    """
    a = np.asarray(signals, dtype=np.float64)
    b = np.asarray(align(returns, signals, "returns and signals"), dtype=np.float64)
    given = np.asarray(align(groups, signals, "groups and signals"), dtype=object)
    has_group = np.array([group is not None and group == group for group in given], dtype=bool)
    labels = given.astype(str)
    return {
        str(name): rank_ic(a[chosen], b[chosen], min_n)
        for name in np.unique(labels[has_group])
        for chosen in [has_group & (labels == name)]
    }


def moving_average(series: ArrayLike, window: int = 5) -> Floats:
    """Mean of the last `window` ICs that exist, at each session (the last axis).

    NaN before there are that many.

    Sessions without an IC are passed over: at one, the value is the last one known.

    >>> moving_average([0.1, np.nan, 0.3, 0.2], window=2).round(2).tolist()
    [nan, nan, 0.2, 0.25]
    """
    data = np.asarray(series, dtype=np.float64)
    if data.ndim > 1 and not np.isfinite(data).all():
        return np.apply_along_axis(moving_average, -1, data, window)
    known = np.isfinite(data) if data.ndim == 1 else np.ones(data.shape[-1], dtype=bool)
    result = np.full(data.shape, np.nan)
    means = _window_means(data[..., known], window)
    age = np.cumsum(known) - window
    result[..., age >= 0] = means[..., age[age >= 0]]
    return result


def _window_means(data: Floats, window: int) -> Floats:
    ends = data.shape[-1] - window + 1
    if ends < 1:
        return np.empty((*data.shape[:-1], 0))
    # One pass per offset: a view of all windows would need `window` times the memory.
    total = data[..., :ends].copy()
    for offset in range(1, window):
        total += data[..., offset : offset + ends]
    return total / window


def summary(series: ArrayLike, lag: int | None = None, horizon: int = 1) -> ICSummary:
    """Mean, ICIR, hit rate, naive and Newey-West t of a series of ICs, shape (sessions,).

    Parameters
    ----------
    lag
        Autocovariances for Newey-West; by default floor(4 (n/100)^(2/9)), and `horizon` - 1 at
        least, since returns over h sessions overlap in h - 1.

    Examples
    --------
    >>> result = summary([0.05, 0.01, np.nan, 0.03, -0.01], lag=0)
    >>> result.n, round(result.icir, 4), result.hit_rate
    (4, 0.7746, 0.75)
    """
    data = np.asarray(series, dtype=np.float64)
    data = data[np.isfinite(data)]
    n = len(data)
    used = lag if lag is not None else max(horizon - 1, int(4 * (n / 100) ** (2 / 9)))
    if n < 2:
        mean = float(data[0]) if n else None
        return ICSummary(n, mean, None, None, None, None, None, used, None, None, None)
    mean, sd = mean_and_sd(data)
    icir = mean / sd if sd > 0 else None
    t = None if icir is None else icir * n**0.5
    se = _newey_west_se(data, used) if sd > 0 else 0.0
    t_nw = mean / se if not is_rounding(se, sd) else None
    hits = float((data > 0).mean())
    p, p_nw = _two_sided(t, n - 1), _two_sided(t_nw, n - 1)
    return ICSummary(n, mean, sd, icir, hits, t, p, used, t_nw, p_nw, se)


def decay(
    signals: ArrayLike, returns: Mapping[int, ArrayLike], min_n: int = MIN_N
) -> dict[int, ICSummary]:
    """How the IC fades with the horizon.

    Parameters
    ----------
    signals
        Shape (sessions, names).
    returns
        By horizon h, the returns from each session to h sessions later, of the signals' shape.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> signals = generator.normal(size=(50, 40))
    >>> noise = generator.normal(size=(50, 40))
    >>> faded = decay(signals, {1: signals + noise, 5: signals + 5 * noise})
    >>> {h: round(s.mean, 2) for h, s in faded.items()}
    {1: 0.66, 5: 0.17}
    """
    return {
        horizon: summary(rank_ic_matrix(signals, forward, min_n).value, horizon=horizon)
        for horizon, forward in returns.items()
    }


def _newey_west_se(data: Floats, lag: int) -> float:
    """Standard error of the mean, of a series that is not constant."""
    scaled, exponent = unit(data)
    centred = scaled - scaled.mean()
    variance = float(np.dot(centred, centred))
    for k in range(1, min(lag, len(data) - 1) + 1):
        variance += 2 * (1 - k / (lag + 1)) * float(np.dot(centred[k:], centred[:-k]))
    return float(np.ldexp(np.sqrt(max(variance, 0.0)) / len(data), exponent))


def _t_and_p(value: float, n: int) -> tuple[float | None, float | None]:
    if 1 - abs(value) <= ROUNDING:
        return None, 0.0
    t = value * ((n - 2) / (1 - value * value)) ** 0.5
    return t, _two_sided(t, n - 2)


def _two_sided(t: float | None, df: int) -> float | None:
    return None if t is None else float(2 * stdtr(df, -abs(t)))


def calculate_ic(signals: ArrayLike, returns: ArrayLike) -> float:
    """Rank IC of signals and the returns that followed; NaN where it cannot be computed.

    Three pairs are enough here; `rank_ic` requires 20 and reports the number of pairs. An IC above
    0.05 is called excellent, 0.02 to 0.05 good; below 0 the model may be wrong.

    Parameters
    ----------
    signals, returns
        Shape (names,); NaN or infinite where missing. pandas Series are aligned by their index, all
        else by position.

    Returns
    -------
    float
        Spearman's rank correlation, from -1 to 1.

    Raises
    ------
    ValueError
        The lengths differ, or labelled series have no label in common, or repeat one.

    Examples
    --------
    >>> calculate_ic([0.2, -0.1, 0.4, np.nan], [0.01, -0.02, 0.03, 0.05])
    1.0
    >>> calculate_ic([1.0, 1.0, 1.0], [0.1, 0.2, 0.3])
    nan
    """
    value = rank_ic(signals, returns, min_n=3).value
    return float("nan") if value is None else value
