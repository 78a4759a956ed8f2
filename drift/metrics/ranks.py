"""Average ranks and correlations of them, row by row, several times faster than scipy's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .arrays import Floats


def average_ranks(ordered: Floats, order: NDArray[np.intp]) -> Floats:
    """Ranks from 1, ties averaged, of values whose sorting is known.

    `ordered` are the values in increasing order, `order` the positions they came from.

    >>> values = np.array([0.3, 0.1, 0.3])
    >>> order = np.argsort(values)
    >>> average_ranks(values[order], order).tolist()
    [2.5, 1.0, 2.5]
    """
    ranks = np.empty(len(order))
    is_new = np.empty(len(order), dtype=bool)
    is_new[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
    starts = np.flatnonzero(is_new)
    if len(starts) == len(order):
        ranks[order] = np.arange(1.0, len(order) + 1)
        return ranks
    lengths = np.diff(starts, append=len(order))
    ranks[order] = np.repeat(starts + (lengths + 1) / 2, lengths)
    return ranks


def cross_sectional(values: Floats) -> Floats:
    """Ranks between 0 and 1 of a row of values, ties averaged; NaN for values that are not finite.

    >>> cross_sectional(np.array([10.0, np.nan, 30.0, 10.0])).round(2).tolist()
    [0.33, nan, 0.83, 0.33]
    """
    result = np.full(len(values), np.nan)
    finite = np.isfinite(values)
    known = values[finite]
    if len(known):
        order = np.argsort(known, kind="stable")
        result[finite] = (average_ranks(known[order], order) - 0.5) / len(known)
    return result


def rank_correlation(signal: Floats, target: Floats, target_order: NDArray[np.intp]) -> float:
    """Spearman correlation of two finite rows; NaN where one is constant.

    `target_order` sorts `target`; a caller with many signals for one target sorts it once.
    """
    order = np.argsort(signal)
    a = average_ranks(signal[order], order)
    b = average_ranks(target[target_order], target_order)
    mean = (len(a) + 1) / 2
    a -= mean
    b -= mean
    scale = float(np.dot(a, a)) * float(np.dot(b, b))
    return float(np.dot(a, b)) / scale**0.5 if scale > 0 else float("nan")
