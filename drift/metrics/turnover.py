"""How much of a book that follows a signal's ranks changes from one session to the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Floats
from .labels import require_same
from .ranks import average_ranks

__all__ = ["rank_return", "rank_weights", "turnover"]


def rank_weights(signals: ArrayLike) -> Floats:
    """Weights of a long-short book that is linear in the ranks, shape (names,); NaN signals have 0.

    Their absolute values add up to 1, long and short to a half each.

    >>> rank_weights([0.1, 0.3, 0.2]).tolist()
    [-0.5, 0.5, 0.0]
    """
    values = np.asarray(signals, dtype=np.float64)
    known = np.isfinite(values)
    weights = np.zeros(values.shape)
    if known.sum() > 1:
        order = np.argsort(values[known], kind="stable")
        ranks = average_ranks(values[known][order], order)
        ranks -= ranks.mean()
        size = np.abs(ranks).sum()
        weights[known] = ranks / size if size else 0.0
    return weights


def turnover(before: ArrayLike, now: ArrayLike) -> float:
    """The share of a rank book that is traded: half of the weights' changes; NaN without a book.

    `before` and `now` are the signals of the same names, shape (names,), NaN where there is none. 0
    for the same ranks, 1 for a book that is sold and bought as a whole.

    >>> turnover([1, 2, 3], [1, 2, 3]), turnover([1, 2, 3], [3, 2, 1])
    (0.0, 1.0)
    """
    require_same(before=before, now=now)
    old, new = rank_weights(before), rank_weights(now)
    if not old.any() or not new.any():
        return float("nan")
    return float(np.abs(new - old).sum() / 2)


def rank_return(signals: ArrayLike, returns: ArrayLike) -> float:
    """The return of a rank book, of the names with a signal and a return; NaN without a book.

    Parameters
    ----------
    signals, returns
        Of the same names, shape (names,); NaN or infinite where missing.

    Returns
    -------
    float
        As a fraction of the book's size, long and short together.

    Examples
    --------
    >>> rank_return([0.1, 0.3, 0.2, np.nan], [-0.01, 0.03, 0.07, 0.5])
    0.02
    """
    require_same(signals=signals, returns=returns)
    a, b = np.asarray(signals, dtype=np.float64), np.asarray(returns, dtype=np.float64)
    both = np.isfinite(a) & np.isfinite(b)
    weights = rank_weights(a[both])
    return float(weights @ b[both]) if weights.any() else float("nan")
