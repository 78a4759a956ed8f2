"""Many tests at once: Bonferroni, Holm, Benjamini-Hochberg, Benjamini-Yekutieli.

A NaN p-value (nothing could be tested) is never rejected and does not count as a test.

References
----------
.. [1] S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scand. J. Stat. 6 (1979).
.. [2] Y. Benjamini, Y. Hochberg, "Controlling the False Discovery Rate", JRSS B 57 (1995).
.. [3] Y. Benjamini, D. Yekutieli, "The Control of the False Discovery Rate in Multiple Testing
   under Dependency", Ann. Statist. 29 (2001).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import Floats


class Multiplicity(NamedTuple):
    """Which tests are rejected, and the adjusted p-values, in the order given."""

    rejected: NDArray[np.bool_]
    adjusted: Floats


def bonferroni(p_values: ArrayLike, level: float = 0.05) -> Multiplicity:
    """Family-wise error at most `level`: p times the number of tests.

    >>> bonferroni([0.01, 0.04, 0.30]).adjusted.round(2).tolist()
    [0.03, 0.12, 0.9]
    """
    return _adjust(p_values, level, lambda p: p * len(p))


def holm(p_values: ArrayLike, level: float = 0.05) -> Multiplicity:
    """Family-wise error at most `level`, never weaker than Bonferroni [1]_.

    >>> holm([0.01, 0.04, 0.30]).adjusted.round(2).tolist()
    [0.03, 0.08, 0.3]
    """
    return _adjust(p_values, level, lambda p: np.maximum.accumulate(p * np.arange(len(p), 0, -1)))


def benjamini_hochberg(p_values: ArrayLike, level: float = 0.05) -> Multiplicity:
    """False discovery rate at most `level` for independent or positively dependent tests [2]_.

    >>> benjamini_hochberg([0.01, 0.04, 0.30, np.nan]).adjusted.round(2).tolist()
    [0.03, 0.06, 0.3, nan]
    """
    return _adjust(p_values, level, _step_up)


def benjamini_yekutieli(p_values: ArrayLike, level: float = 0.05) -> Multiplicity:
    """False discovery rate at most `level` under any dependence [3]_.

    >>> benjamini_yekutieli([0.01, 0.04, 0.30]).adjusted.round(3).tolist()
    [0.055, 0.11, 0.55]
    """
    return _adjust(p_values, level, lambda p: _step_up(p) * (1 / np.arange(1, len(p) + 1)).sum())


def _step_up(p: Floats) -> Floats:
    scaled = p * len(p) / np.arange(1, len(p) + 1)
    smallest: Floats = np.minimum.accumulate(scaled[::-1])[::-1]
    return smallest


def _adjust(
    p_values: ArrayLike, level: float, of_increasing: Callable[[Floats], Floats]
) -> Multiplicity:
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    if len(order):
        adjusted[order] = np.minimum(of_increasing(p[order]), 1.0)
    return Multiplicity(adjusted <= level, adjusted)
