"""Does a feature follow the day, or an earlier one? Its changes beside those of other features.

Features of one market change together. A feature that is late by some sessions follows the changes
that the others had that many sessions ago; when it has caught up, it jumps over the sessions in
between, and then follows the changes of the day. Three regressions, fitted to sessions before it
was late, state how a feature moves in each case (late, catching up, in step); the ratio of their
likelihoods, in units of what a late feature shows, separates the cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .spread import ROUNDING

__all__ = ["CANDIDATES", "Company"]

Floats = NDArray[np.float64]
LEAST_NAMES = 5
LEAST_DAYS = 15
CANDIDATES = 4  # sessions, up to the present one, on which it may have caught up
CLEARLY = 4.25  # standard deviations of the evidence beyond what a late feature shows
HALF = 0.5  # of the way from late to in step
EACH = 1.5  # the least evidence of the last session alone
APART = 2.5  # standard deviations between in step and late, below which the others tell nothing
LARGEST = 4.0  # standard deviations across names
ROWS_PER_PARAMETER = 20


@dataclass(frozen=True)
class _Evidence:
    """For one way to move, against that of a late feature: coefficients of both regressions.

    `mean` and `deviation` are of the evidence that a late feature shows, `distance` is how many of
    these deviations a feature that moves this way lies beyond the mean.
    """

    move: Floats
    late: Floats
    mean: float
    deviation: float
    distance: float

    @classmethod
    def fit(
        cls, regressors: Floats, moves: Floats, late_regressors: Floats, late_moves: Floats
    ) -> _Evidence:
        """From moves of this kind, and from those that a late feature would have made."""
        move, late = _fit(regressors, moves), _fit(late_regressors, late_moves)
        of_late = _ratio(move, late, late_regressors, late_moves)
        mean = float(np.nanmean(of_late))
        deviation = max(float(np.nanstd(of_late, ddof=1)), ROUNDING)
        usual = float(np.nanmean(_ratio(move, late, regressors, moves)))
        return cls(move, late, mean, deviation, (usual - mean) / deviation)

    def of(self, regressors: Floats, moves: Floats) -> Floats:
        """In standard deviations beyond what a late feature shows, shape (sessions,)."""
        return (_ratio(self.move, self.late, regressors, moves) - self.mean) / self.deviation


class Company:
    """How a feature, late by `lag` sessions, moves with others, from sessions before it was late.

    Parameters
    ----------
    feature
        Shape (sessions, names): values of the sessions in order, NaN where there is none.
    others
        The same of each of the other features.
    lag
        The sessions by which the feature is late.

    Examples
    --------
    >>> daily = np.random.default_rng(0).normal(size=(43, 60)).cumsum(axis=0)
    >>> twin = daily + 0.3 * np.random.default_rng(1).normal(size=daily.shape)
    >>> late = np.concatenate([daily[:30], daily[29:35], daily[36:]])  # right from session 36 on
    >>> company = Company(daily[:30], [twin[:30]], 1)
    >>> [company.is_in_step(late[t - 6 : t + 1], [twin[t - 6 : t + 1]]) for t in (35, 37)]
    [False, True]
    """

    def __init__(self, feature: Floats, others: Sequence[Floats], lag: int) -> None:
        self.lag = lag
        self._chosen = _company(feature, others, lag)
        self._in_step: _Evidence | None = None
        if not self._chosen or _is_short(feature, lag):
            return
        own, company = _standard(feature), [_standard(others[n]) for n in self._chosen]
        at = np.arange(lag + 1, len(own))
        behind = _regressors(own[at - 1 - lag], company, at, lag)
        late = behind, own[at - lag] - own[at - 1 - lag]
        step = _regressors(own[at - 1], company, at, lag), own[at] - own[at - 1]
        self._in_step = _Evidence.fit(*step, *late)
        self._caught_up = _Evidence.fit(behind, own[at] - own[at - 1 - lag], *late)

    @property
    def tells(self) -> bool:
        """Whether the others can tell a late feature from one that is in step."""
        return self._in_step is not None and self._in_step.distance > APART

    def is_in_step(
        self, feature: Floats, others: Sequence[Floats], candidates: int = CANDIDATES
    ) -> bool:
        """Whether the feature, late before, is in step again; False where the others cannot tell.

        Parameters
        ----------
        feature, others
            The last sessions as served, shape (sessions, names), `lag + 2 + candidates` of them.
        candidates
            The sessions before the last one on which the feature may have caught up, beside the
            last one: those on which it was late already, not the one on which it became late.
        """
        if not self.tells or self._in_step is None or candidates < 0:
            return False
        own, company = _standard(feature), [_standard(others[n]) for n in self._chosen]
        at = np.arange(self.lag + 1, len(own))
        moves, regressors = own[at] - own[at - 1], _regressors(own[at - 1], company, at, self.lag)
        jumps = self._caught_up.of(regressors, moves)[-candidates - 1 :]
        steps = self._in_step.of(regressors, moves)[-candidates - 1 :]
        if jumps[-1] > self._limit(0):
            return True
        if not steps[-1] > EACH:
            return False
        return any(
            np.sum([jumps[first], *steps[first + 1 :]]) > self._limit(len(jumps) - 1 - first)
            for first in range(len(jumps) - 1)
        )

    def _limit(self, steps: int) -> float:
        """The least sum of evidence, of a session on which it caught up and `steps` more."""
        if self._in_step is None:
            return float("inf")
        usual = self._caught_up.distance + steps * self._in_step.distance
        return max(CLEARLY * float(np.sqrt(1 + steps)), HALF * usual)


def _company(feature: Floats, others: Sequence[Floats], lag: int) -> list[int]:
    """The others that change, as many as the rows allow parameters."""
    rows = np.isfinite(feature).sum()
    most = int((rows / ROWS_PER_PARAMETER - 1) // (lag + 2))
    changing = [n for n, other in enumerate(others) if np.nanmax(_spread(other), initial=0.0) > 0]
    return changing[: max(most, 0)]


def _is_short(feature: Floats, lag: int) -> bool:
    names = np.isfinite(feature).sum(axis=1)
    return int((names >= LEAST_NAMES).sum()) < LEAST_DAYS + lag


def _regressors(
    before: Floats, company: Sequence[Floats], at: NDArray[np.int64], lag: int
) -> Floats:
    """The feature's value before, the others' values before, and their changes back to the lag."""
    changes = [other[at - k] - other[at - k - 1] for other in company for k in range(lag + 1)]
    return np.stack([before, *(other[at - 1] for other in company), *changes], axis=-1)


def _fit(regressors: Floats, moves: Floats) -> Floats:
    """Least squares over all sessions and names; `regressors` has shape (sessions, names, k)."""
    complete = np.isfinite(regressors).all(axis=-1) & np.isfinite(moves)
    return np.asarray(np.linalg.lstsq(regressors[complete], moves[complete], rcond=None)[0])


def _ratio(move: Floats, late: Floats, regressors: Floats, moves: Floats) -> Floats:
    """The log ratio of likelihoods, a session's spread being its own: volatility is no evidence."""
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = [_mean((moves - regressors @ each) ** 2) for each in (late, move)]
        return np.asarray(np.log(squares[0]) - np.log(squares[1]))


def _standard(values: Floats) -> Floats:
    """Each session's values with mean 0 and deviation 1 across names; NaN where all are alike."""
    known = np.where(np.isfinite(values), values, np.nan)
    spread = _spread(values)
    scores = (known - _mean(known)[:, None]) / np.where(spread > 0, spread, np.nan)[:, None]
    return np.clip(scores, -LARGEST, LARGEST)


def _spread(values: Floats) -> Floats:
    """The standard deviation across names, 0 where it is rounding, shape (sessions,)."""
    known = np.where(np.isfinite(values), values, np.nan)
    mean = _mean(known)
    spread = np.sqrt(_mean((known - mean[:, None]) ** 2))
    return np.where(spread > ROUNDING * np.abs(mean), spread, 0.0)


def _mean(values: Floats) -> Floats:
    """Across names; NaN for fewer than five."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.where(count >= LEAST_NAMES, total / np.maximum(count, 1), np.nan)
