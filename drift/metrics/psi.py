"""Population stability index against a stored reference: value, null law, critical values.

    PSI = sum_b (q_b - p_b) ln(q_b / p_b)

with p the reference's share of bucket b and q the current one. Every bucket gets 0.5 added, so that
an empty one is finite; buckets empty on both sides are left out. Where nothing drifted,
PSI ~ chi2(B - 1) * (1/n + 1/m) for n current and m reference values [1]_: with 50 names a PSI of
0.10 is noise, with 5,000 it is not; therefore `null_mean`, the critical values and `p_value`.

Buckets are made in `drift.metrics.buckets` and kept in a `Reference`, so that a day costs one pass.

References
----------
.. [1] B. Yurdakul, "Statistical Properties of Population Stability Index", Western Michigan
   University, 2018, chapter 3.
.. [2] J. N. K. Rao, A. J. Scott, "On Chi-Squared Tests for Multiway Contingency Tables with Cell
   Proportions Estimated from Survey Data", Ann. Statist. 12 (1984): the second-order correction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, chdtri, fdtrc

from .arrays import Counts, Floats
from .buckets import Reference, Variation, count, count_batch
from .categories import category_codes, is_categorical
from .labels import require_same
from .multiplicity import benjamini_hochberg
from .spread import is_constant

__all__ = [
    "PSIResult",
    "Reference",
    "SessionPSI",
    "calculate_psi",
    "fit",
    "leave_one_day_out",
    "psi",
    "psi_batch",
    "psi_from_counts",
    "psi_of_sessions",
    "session_psi",
]

SMOOTHING = 0.5
CONVENTIONAL_LIMIT = 0.10
POOLED_SESSIONS = 5
BREAK = 2.5  # in units of the limit: what a feature that did not jump counts as at most
SHARED = 3  # features that jump in one session, and half of all: a move that they have in common


@dataclass(frozen=True)
class PSIResult:
    """One feature's PSI and what it is worth.

    Attributes
    ----------
    value
        The PSI; None where `status` is not "ok".
    n
        Current values, non-finite ones included.
    status
        "ok", "no_data" (no current value) or "no_reference" (none in the reference).
    null_mean, critical_95, critical_999, p_value
        The chi2 law of no drift; critical values and p are None with a single bucket.
    p_robust
        p under the law of the reference's own days: an F law with their mean and variance [2]_, as
        common shocks move all names together. `p_value` where it was fitted without days.
    limit
        max(0.10, 99% point of the reference days' own PSI, `critical_999`): alert above it.
    counts
        Current values per bucket, as `Reference.labels` names them.
    rise
        The largest rise of the square root of PSI from one of the reference's days to the next.
    """

    value: float | None
    n: int
    status: str
    null_mean: float | None = None
    critical_95: float | None = None
    critical_999: float | None = None
    p_value: float | None = None
    p_robust: float | None = None
    limit: float = CONVENTIONAL_LIMIT
    counts: tuple[int, ...] = ()
    rise: float = field(default=0.0, repr=False)

    @property
    def ratio(self) -> float | None:
        """`value` in units of `limit`; above 1 is an alert."""
        return None if self.value is None else self.value / self.limit

    @property
    def n_present(self) -> int:
        """Current values that are finite."""
        return self.n - (self.counts[-1] if self.counts else 0)

    def jumped(self, before: PSIResult | None) -> bool:
        """Whether it rose from the session `before` by more than on any day of the reference.

        A market moves in steps that the reference has seen, a broken feed moves at once. True where
        there is no PSI before to compare with.

        >>> before, now = (PSIResult(v, 60, "ok", limit=0.1, rise=0.3) for v in (0.09, 0.25))
        >>> now.jumped(before), PSIResult(0.49, 60, "ok", rise=0.3).jumped(before)
        (False, True)
        """
        if before is None or before.value is None or self.value is None:
            return self.value is not None
        return bool(np.sqrt(self.value) - np.sqrt(before.value) > self.rise)


@dataclass(frozen=True)
class SessionPSI:
    """All features of one session: the worst value, and which features drifted.

    `ratio` is the largest value in units of its limit; a feature that Benjamini-Hochberg over the
    session's features does not reject counts as 1 at most, so `ratio > 1` is the controlled alert.
    Where the session before is known, a feature that did not jump counts as 2.5 at most, and so do
    all if three or more, and at least half of them, jumped at once: `ratio > 2.5` is one feature
    that broke. `shared` is the same for what they have in common: its values are above 2.5 only
    where features jumped together.
    """

    value: float | None
    feature: str | None
    ratio: float | None
    drifted: tuple[str, ...]
    n_features: int
    shared: float | None = field(default=None, repr=False)


def fit(
    values: ArrayLike,
    bins: int = 10,
    days: ArrayLike | None = None,
    *,
    names: Mapping[float, str] | None = None,
) -> Reference:
    """The reference of an accepted window.

    Parameters
    ----------
    values
        Shape (m,), every value of the window, non-finite ones included.
    bins
        Quantile buckets; at most this many distinct values become a bucket each.
    days
        Shape (m,), the session of each value. With it the reference knows how much its own days
        differ from each other, which the chi2 law, made for independent names, cannot.
    names
        The text of each code, where the values are codes of categories: each is a bucket.

    Examples
    --------
    >>> reference = fit(np.arange(100.0))
    >>> reference.kind, len(reference.edges), reference.counts[:3]
    ('quantiles', 9, (10, 10, 10))
    >>> Reference.from_json(reference.to_json()) == reference
    True
    """
    reference = (
        Reference.fit(values, bins) if names is None else Reference.fit_categories(values, names)
    )
    if days is None:
        return reference
    return with_days(reference, count_days(reference, values, days))


def count_days(reference: Reference, values: ArrayLike, days: ArrayLike) -> NDArray[np.int64]:
    """Bucket counts per day, shape (days, buckets), days in sorted order."""
    require_same(values=values, days=days)
    data = np.asarray(values, dtype=np.float64)
    labels, inverse = np.unique(np.asarray(days), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    ends = np.cumsum(np.bincount(inverse, minlength=len(labels)))[:-1]
    return np.stack([count(reference, part) for part in np.split(data[order], ends)])


def with_days(reference: Reference, daily_counts: NDArray[np.int64]) -> Reference:
    """The reference with the day-to-day variation of `daily_counts`, shape (days, buckets)."""
    daily, pooled = (_leave_out(daily_counts, pool) for pool in (1, POOLED_SESSIONS))
    # Of pooled days, whose sampling noise no longer hides how long a common shock lasts.
    days = _effective(pooled[0] if len(pooled[0]) > 1 else daily[0])
    return replace(reference, daily=_variation(*daily, days), pooled=_variation(*pooled, days))


def _variation(own: Floats, df: Floats, scale: Floats, days: float) -> Variation | None:
    if len(own) < 2:
        return None
    chance_mean, chance_variance = (df * scale).mean(), (2 * df * scale**2).mean()
    return Variation(
        float(np.quantile(own, 0.99)),
        max(0.0, float(own.mean() - chance_mean)),
        max(0.0, float(own.var(ddof=1) - chance_variance)),
        days,
        float(np.diff(np.sqrt(own)).max()),
    )


def _effective(series: Floats) -> float:
    """Length of an independent series worth as much: n / (1 + 2 sum of the autocorrelations up to
    the first that is not positive).
    """
    if len(series) < 2:
        return 1.0
    if is_constant(series):
        return float(len(series))
    centred = series - series.mean()
    products = np.correlate(centred, centred, mode="full")[len(series) - 1 :]
    lags = products[1 : len(series) // 4 + 1] / products[0]
    positive = np.logical_and.accumulate(lags > 0)
    return float(len(series) / (1 + 2 * lags[positive].sum()))


def leave_one_day_out(daily_counts: ArrayLike, pool: int = 1) -> Floats:
    """PSI of each run of `pool` consecutive reference days against all the other days.

    Parameters
    ----------
    daily_counts
        Shape (days, buckets), as `count_days` gives.

    Returns
    -------
    Shape (days - pool + 1,); empty where no day would be left over.

    Examples
    --------
    >>> leave_one_day_out([[5, 5], [5, 5], [9, 1]]).round(2).tolist()
    [0.15, 0.15, 0.67]
    """
    return _leave_out(np.asarray(daily_counts, dtype=np.int64), pool)[0]


def _leave_out(daily_counts: NDArray[np.int64], pool: int) -> tuple[Floats, Floats, Floats]:
    """PSI of each run of days, and its chi2 law: degrees of freedom and scale."""
    if len(daily_counts) <= pool:
        return np.empty(0), np.empty(0), np.empty(0)
    windows = np.lib.stride_tricks.sliding_window_view(daily_counts, pool, axis=0).sum(axis=-1)
    total = daily_counts.sum(axis=0)
    left_out = windows[(windows.sum(axis=1) > 0) & (windows.sum(axis=1) < total.sum())]
    remaining = total - left_out
    value, buckets = _index(remaining, left_out)
    scale = np.asarray(1 / remaining.sum(axis=1) + 1 / left_out.sum(axis=1), dtype=np.float64)
    return value, (buckets - 1).astype(np.float64), scale


def psi(reference: Reference, current: ArrayLike, *, sessions: int = 1) -> PSIResult:
    """PSI of the current values, shape (n,), pooled over `sessions` sessions.

    Examples
    --------
    >>> reference = fit(np.arange(1000.0))
    >>> moved = psi(reference, np.arange(1000.0) + 300)
    >>> round(moved.value, 2), moved.value > moved.limit
    (2.0, True)
    >>> psi(reference, []).status
    'no_data'
    """
    return psi_from_counts(reference, count(reference, current), sessions=sessions)


def psi_from_counts(reference: Reference, counts: ArrayLike, *, sessions: int = 1) -> PSIResult:
    """PSI of bucket counts made elsewhere, for instance in the database or summed over sessions."""
    return _results([reference], np.asarray(counts, dtype=np.int64)[None, :], sessions)[0]


def psi_of_sessions(
    reference: Reference, counts: ArrayLike, *, sessions: int = 1
) -> list[PSIResult]:
    """PSI of many sessions against one reference, all at once.

    Parameters
    ----------
    reference
        Of an accepted window.
    counts
        Shape (n, buckets), as `count_days` gives, or sums of neighbouring rows of that.
    sessions
        How many sessions each row is pooled from.

    Returns
    -------
    list of PSIResult
        One for each row.

    Examples
    --------
    >>> reference = fit(np.arange(1000.0))
    >>> counts = [count(reference, np.arange(1000.0)), count(reference, np.arange(1000.0) + 300)]
    >>> [round(result.value, 2) for result in psi_of_sessions(reference, counts)]
    [0.0, 2.0]
    """
    rows = np.asarray(counts, dtype=np.int64).reshape(-1, reference.buckets)
    return _results([reference] * len(rows), rows, sessions)


def psi_batch(
    references: Sequence[Reference], current: ArrayLike, *, sessions: int = 1
) -> list[PSIResult]:
    """PSI of many features at once.

    Parameters
    ----------
    references
        One per row of `current`.
    current
        Shape (features, names); NaN where a name has no value. A name that is not expected to have
        the feature belongs in no row: here a NaN counts as a missing value, which is a drift too.

    Examples
    --------
    >>> reference = fit(np.arange(1000.0))
    >>> results = psi_batch([reference] * 2, [np.arange(0, 1000, 2.0), np.full(500, np.nan)])
    >>> [round(r.value, 4) for r in results]
    [0.0, 12.0852]
    """
    return _results(references, count_batch(references, current), sessions)


def _results(references: Sequence[Reference], current: Counts, sessions: int) -> list[PSIResult]:
    width = current.shape[1]
    expected = np.zeros((len(references), width), dtype=np.int64)
    for row, reference in enumerate(references):
        expected[row, : len(reference.counts)] = reference.counts
    n, m = current.sum(axis=1), expected.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        value, buckets = _index(expected, current)
        scale = 1 / n + 1 / m
        law = _null_law(value, buckets - 1, scale, _extra(references, sessions))
    return [
        _result(reference, current[i], int(n[i]), float(value[i]), law[i], sessions)
        for i, reference in enumerate(references)
    ]


def _index(expected: Counts, current: Counts) -> tuple[Floats, NDArray[np.int64]]:
    """Row-wise PSI of two (rows, buckets) tables of counts, and the number of buckets in use."""
    used = (expected + current) > 0
    buckets = used.sum(axis=1)
    pad = SMOOTHING * buckets[:, None]
    p = (expected + SMOOTHING) / (expected.sum(axis=1, keepdims=True) + pad)
    q = (current + SMOOTHING) / (current.sum(axis=1, keepdims=True) + pad)
    return np.where(used, (q - p) * np.log(q / p), 0.0).sum(axis=1), buckets


def _extra(references: Sequence[Reference], sessions: int) -> Floats:
    """Day-to-day variation of the references, shape (3, references): mean and variance beyond
    chance, and the effective number of days.
    """
    variations = [_own(reference, sessions) or Variation(0.0) for reference in references]
    rows = [(v.extra_mean, v.extra_variance, v.effective_days) for v in variations]
    return np.array(rows, dtype=np.float64).reshape(-1, 3).T


def _own(reference: Reference, sessions: int) -> Variation | None:
    return reference.daily if sessions == 1 else reference.pooled


def _null_law(value: Floats, df: NDArray[np.int64], scale: Floats, extra: Floats) -> Floats:
    """Columns: null mean, 95% and 99.9% points, p, and p with the day-to-day variation."""
    mean = df * scale + extra[0]
    variance = 2 * df * scale**2 + extra[1]
    matched = 2 * mean**2 / variance
    # The extra mean is estimated from few days; its uncertainty turns the chi2 law into an F law.
    days = np.minimum(extra[2] / np.maximum(extra[0] / mean, 1e-4) ** 2, 1e9)
    return np.column_stack(
        [
            df * scale,
            chdtri(df, 0.05) * scale,
            chdtri(df, 0.001) * scale,
            chdtrc(df, value / scale),
            fdtrc(matched, days, value / mean),
        ]
    )


def _result(
    reference: Reference, counts: Counts, n: int, value: float, law: Floats, sessions: int
) -> PSIResult:
    in_use = tuple(counts[: len(reference.counts)].tolist())
    if n == 0 or reference.n == 0:
        return PSIResult(None, n, "no_data" if n == 0 else "no_reference", counts=in_use)
    # A single bucket on both sides leaves nothing to test: zero degrees of freedom.
    c95, c999, p, robust = (None if law[0] == 0 else float(x) for x in law[1:])
    variation = _own(reference, sessions)
    limit = max(CONVENTIONAL_LIMIT, variation.quantile_99 if variation else 0.0, c999 or 0.0)
    rise = variation.rise if variation else 0.0
    return PSIResult(value, n, "ok", float(law[0]), c95, c999, p, robust, limit, in_use, rise)


def session_psi(
    results: Mapping[str, PSIResult],
    level: float = 0.01,
    *,
    before: Mapping[str, PSIResult] | None = None,
) -> SessionPSI:
    """The PSI of a session over all features, at false discovery rate `level`.

    `before` holds the results of the session before; without it any rise counts as a jump.

    Examples
    --------
    >>> calm = PSIResult(0.02, 500, "ok", p_robust=0.6, limit=0.10)
    >>> moved = PSIResult(0.40, 500, "ok", p_robust=1e-9, limit=0.10)
    >>> session_psi({"rsi_14": calm, "momentum_5d": moved})
    SessionPSI(value=0.4, feature='momentum_5d', ratio=4.0, drifted=('momentum_5d',), n_features=2)
    >>> session_psi({"momentum_5d": moved}, before={"momentum_5d": moved}).ratio
    2.5
    """
    computed = {name: r for name, r in results.items() if r.value is not None}
    if not computed:
        return SessionPSI(None, None, None, (), 0)
    p = [np.nan if r.p_robust is None else r.p_robust for r in computed.values()]
    rejected = benjamini_hochberg(p, level).rejected
    ratio = [r.ratio or 0.0 for r in computed.values()]
    controlled = np.where(rejected, ratio, np.minimum(ratio, 1.0))
    drifted = [name for name, c in zip(computed, controlled, strict=True) if c > 1]
    worst = max(computed, key=lambda name: computed[name].value or 0.0)
    alone, together = _alone_and_together(computed, controlled, before)
    return SessionPSI(
        computed[worst].value, worst, alone, tuple(drifted), len(computed), shared=together
    )


def _alone_and_together(
    computed: Mapping[str, PSIResult], controlled: Floats, before: Mapping[str, PSIResult] | None
) -> tuple[float, float | None]:
    """The largest controlled ratio, of features that jumped alone, and of those together."""
    if before is None:
        return float(controlled.max()), None
    jumped = np.array([result.jumped(before.get(name)) for name, result in computed.items()])
    known = np.array([name in before and r.n_present > 0 for name, r in computed.items()])
    rose = int((jumped & known).sum())
    together = rose >= SHARED and 2 * rose >= known.sum()
    stepwise = np.minimum(controlled, BREAK)
    of_jumps = float(np.where(jumped, controlled, stepwise).max())
    most = float(stepwise.max())
    return (most, of_jumps) if together else (of_jumps, most)


def calculate_psi(expected: ArrayLike, actual: ArrayLike, bins: int = 10) -> float:
    """Population stability index of `actual` against `expected`; NaN where either is empty.

    Below 0.10 is called stable, above 0.25 a significant shift. Both depend on the sample size;
    `psi` gives the limit that chance alone would exceed.

    Parameters
    ----------
    expected, actual
        Samples of shape (n,) and (m,), of numbers or of texts; a missing value (NaN, None) has a
        separate bin. Of texts each has a bin, and those that `expected` lacks share one.
    bins
        Quantile bins of `expected`.

    Returns
    -------
    float
        In nats, 0 or more.

    Raises
    ------
    ValueError
        There are fewer than two bins, or one sample has texts and the other numbers.

    Examples
    --------
    >>> calculate_psi(np.arange(100.0), np.arange(100.0))
    0.0
    >>> round(calculate_psi(["TECH", "FIN"] * 50, ["TECH", "FIN", "FIN"] * 30), 2)
    0.11
    >>> calculate_psi([1.0, 2.0], [])
    nan
    """
    if is_categorical(expected) or is_categorical(actual):
        value = _psi_of_texts(np.asarray(expected, dtype=object), np.asarray(actual, dtype=object))
    else:
        value = psi(Reference.fit(expected, bins), actual).value
    return float("nan") if value is None else value


def _psi_of_texts(expected: NDArray[np.object_], actual: NDArray[np.object_]) -> float | None:
    for sample in (expected, actual):
        number = next((v for v in sample if isinstance(v, (int, float)) and v == v), None)
        if number is not None:
            raise ValueError(f"texts and numbers cannot be compared: one sample holds {number!r}")
    codes, names = category_codes(expected)
    return psi(Reference.fit_categories(codes, names), category_codes(actual)[0]).value
