"""Does a feature follow the day, or an earlier one? Its changes beside those of other features.

Features of one market change together: across names, the change of one is correlated with the
changes of others on the same day, and not with those of another day. A feature that is late by some
sessions has lost that correlation, and has it again when it has caught up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .spread import is_constant

__all__ = ["changes_together", "is_in_step"]

Floats = NDArray[np.float64]
LEAST_NAMES = 5
LEAST_DAYS = 15
CLEARLY = 3.0  # standard deviations beyond what a late feature shows: once in 700 sessions
APART = 1.5  # standard deviations between in step and late, below which the others tell nothing


def changes_together(first: Floats, second: Floats, lag: int = 0) -> Floats:
    """The correlation across names of the changes of two features, shape (sessions,).

    `first` and `second` have shape (sessions, names). With `lag`, the changes of the first that
    many sessions earlier. NaN for fewer than five names, and where nothing changes.
    """
    left = np.full(first.shape, np.nan)
    left[1 + lag :] = np.diff(first, axis=0)[: len(first) - 1 - lag]
    right = np.full(second.shape, np.nan)
    right[1:] = np.diff(second, axis=0)
    return np.array([_correlation(a, b) for a, b in zip(left, right, strict=True)])


def is_in_step(
    feature: Floats, others: Sequence[Floats], today: Sequence[Floats], lag: int
) -> bool:
    """Whether a feature that was late by `lag` sessions changes together with others again.

    `feature` and each of `others` have shape (sessions, names): sessions before it was late.
    `today` holds the last two sessions of the feature, then of each of the others, shape (2,
    names). False where the others could not tell.

    >>> daily = np.random.default_rng(0).normal(size=(33, 60)).cumsum(axis=0)
    >>> twin = daily + 0.3 * np.random.default_rng(1).normal(size=daily.shape)
    >>> is_in_step(daily[:30], [twin[:30]], [daily[31:], twin[31:]], 1)
    True
    >>> is_in_step(daily[:30], [twin[:30]], [daily[30:32], twin[31:]], 1)
    False
    """
    usual = np.array([changes_together(feature, other) for other in others])
    late = np.array([changes_together(feature, other, lag) for other in others])
    now = np.array([changes_together(today[0], other)[1] for other in today[1:]])
    told = np.isfinite(now) & ((np.isfinite(usual) & np.isfinite(late)).sum(axis=1) >= LEAST_DAYS)
    if not told.any():
        return False
    usual, late, now = usual[told], late[told], now[told]
    gain = np.nanmean(usual, axis=1) - np.nanmean(late, axis=1)
    weights = gain / np.maximum(np.nanvar(late, axis=1, ddof=1), 1e-9)
    in_step, behind = weights @ usual, weights @ late
    mean, sd = float(np.nanmean(behind)), float(np.nanstd(behind, ddof=1))
    spread = sd + float(np.nanstd(in_step, ddof=1))
    if not spread or (np.nanmean(in_step) - mean) / spread < APART:
        return False
    return bool(weights @ now > mean + CLEARLY * sd)


def _correlation(left: Floats, right: Floats) -> float:
    both = np.isfinite(left) & np.isfinite(right)
    if both.sum() < LEAST_NAMES or is_constant(left[both]) or is_constant(right[both]):
        return float("nan")
    return float(np.corrcoef(left[both], right[both])[0, 1])
