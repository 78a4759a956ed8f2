"""Distances between a reference sample and a current one, for the report beside the PSI.

References
----------
.. [1] J. L. Hodges, "The Significance Probability of the Smirnov Two-Sample Test", Arkiv för
   Matematik 3 (1958).
.. [2] J. Lin, "Divergence Measures Based on the Shannon Entropy", IEEE Trans. Inf. Th. 37 (1991).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from .arrays import Floats
from .buckets import Reference, count
from .spread import mean_and_sd

__all__ = ["Distances", "distances", "jensen_shannon", "kolmogorov_smirnov", "wasserstein"]


@dataclass(frozen=True)
class Distances:
    """Distances of one feature; None where either sample has no finite value.

    `wasserstein` is in units of the reference's standard deviation (raw where that is zero),
    `jensen_shannon` in [0, 1], on the reference's buckets.
    """

    ks: float | None
    ks_p: float | None
    wasserstein: float | None
    jensen_shannon: float | None


def kolmogorov_smirnov(reference: ArrayLike, current: ArrayLike) -> tuple[float, float]:
    """Largest difference of the two empirical distributions, and its p [1]_; NaN if one is empty.

    >>> statistic, p = kolmogorov_smirnov([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])
    >>> round(statistic, 4), round(p, 4)
    (0.3333, 1.0)
    """
    a, b = _finite(reference), _finite(current)
    if not len(a) or not len(b):
        return float("nan"), float("nan")
    test = stats.ks_2samp(a, b)
    return float(test.statistic), float(test.pvalue)


def wasserstein(reference: ArrayLike, current: ArrayLike, *, scaled: bool = True) -> float:
    """Mean distance mass has to move, in standard deviations (ddof 1) of the reference if `scaled`.

    >>> round(wasserstein([0.0, 1.0], [5.0, 6.0], scaled=False), 1)
    5.0
    """
    a, b = _finite(reference), _finite(current)
    if not len(a) or not len(b):
        return float("nan")
    distance = float(stats.wasserstein_distance(a, b))
    _, spread = mean_and_sd(a)
    return distance / spread if scaled and spread > 0 else distance


def jensen_shannon(reference: Reference, counts: ArrayLike) -> float:
    """Jensen-Shannon distance, base 2, of bucket shares [2]_: 0 for equal, 1 for disjoint ones.

    >>> reference = Reference.fit([1.0, 2.0])
    >>> jensen_shannon(reference, [7, 7, 0, 0]), jensen_shannon(reference, [0, 0, 4, 0])
    (0.0, 1.0)
    """
    p, q = np.array(reference.counts, dtype=float), np.asarray(counts, dtype=float)
    if not p.sum() or not q.sum():
        return float("nan")
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    divergence = (
        sum(float((x[x > 0] * np.log2(x[x > 0] / middle[x > 0])).sum()) for x in (p, q)) / 2
    )
    return float(max(divergence, 0.0) ** 0.5)


def distances(reference: Reference, values: ArrayLike, current: ArrayLike) -> Distances:
    """All of them, of the window's `values` and the `current` ones, shape (m,) and (n,).

    >>> distances(Reference.fit([1.0, 2.0, 3.0]), [1.0, 2.0, 3.0], []).ks is None
    True
    """
    ks, p = kolmogorov_smirnov(values, current)
    results = (
        ks,
        p,
        wasserstein(values, current),
        jensen_shannon(reference, count(reference, current)),
    )
    return Distances(*(None if np.isnan(x) else x for x in results))


def _finite(values: ArrayLike) -> Floats:
    data = np.asarray(values, dtype=np.float64).ravel()
    finite: Floats = data[np.isfinite(data)]
    return finite
