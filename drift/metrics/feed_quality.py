"""Detection of broken feeds: three shares of the names of a session.

Tests of distributions need many names; these shares work for five. A broken feed shows in each
name: its value is *missing*, equal to most other names' (*repeated*), or equal to the value of the
session before (*unchanged*: frozen, or late by a session, which repeats one session at its start).
The days of the reference define what is normal: a flag repeats, and a quarterly figure does not
change, without being faults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .labels import require_same

__all__ = [
    "KINDS",
    "Habits",
    "Prints",
    "Shares",
    "excess",
    "magnitude",
    "prints",
    "repeated",
    "shares",
    "unchanged",
    "unit_shift",
]

Prints = NDArray[np.int32]
KINDS = ("missing", "repeated", "unchanged")
GROUPS = 64
_LEAST_ROOM = 0.2
_LEAST_DAYS = 5
_MIX = np.uint64(0x9E3779B97F4A7C15)
_MIX_MORE = np.uint64(0xBF58476D1CE4E5B9)


@dataclass(frozen=True)
class Shares:
    """The three shares of one feature in one session, between 0 and 1; NaN if unknown.

    `magnitude` is log10 of the median size of its values.
    """

    missing: float
    repeated: float = float("nan")
    unchanged: float = float("nan")
    magnitude: float = float("nan")


@dataclass(frozen=True)
class Habits:
    """The 99% points of the shares over the days of a reference; 1 where no day has one.

    `magnitude` is the median of the days' magnitudes, `magnitude_reach` the largest distance from
    it; None where too few days have one.
    """

    missing: float
    repeated: float
    unchanged: float
    magnitude: float | None = field(default=None, repr=False)
    magnitude_reach: float = field(default=0.0, repr=False)

    @classmethod
    def fit(cls, days: Sequence[Shares]) -> Habits:
        """The normal shares, from the days of a window; with fewer than a hundred, the largest.

        >>> Habits.fit([Shares(0.0), Shares(0.05)])
        Habits(missing=0.05, repeated=1.0, unchanged=1.0)
        """
        missing, repeated, unchanged = (
            _high([getattr(day, kind) for day in days]) for kind in KINDS
        )
        magnitudes = np.array([day.magnitude for day in days])
        magnitudes = magnitudes[np.isfinite(magnitudes)]
        if len(magnitudes) < _LEAST_DAYS:
            return cls(missing, repeated, unchanged)
        center = float(np.median(magnitudes))
        reach = float(np.abs(magnitudes - center).max())
        return cls(missing, repeated, unchanged, center, reach)


def excess(share: float, habit: float) -> float:
    """How much of the room above a habit is taken: 0 as usual, 1 all names; NaN without room.

    Of twenty names with a rare flag one day none has it: a fifth of the names is the least room in
    which to see anything.

    >>> excess(0.3, 0.0), excess(1.0, 0.5), excess(0.02, 0.05)
    (0.3, 1.0, 0.0)
    >>> excess(1.0, 0.95)
    nan
    """
    if not (np.isfinite(share) and habit <= 1.0 - _LEAST_ROOM):
        return float("nan")
    return max(0.0, (share - habit) / (1.0 - habit))


def shares(values: ArrayLike, own: Prints, before: Prints | None) -> Shares:
    """The shares of one session: `values` of all names, shape (names,), NaN where one is missing.

    `own` and `before` are the prints of this session and of the one before, None if not known.

    >>> shares([1.0, 1.0, 2.0, np.nan], prints([1, 2, 3], [1.0, 1.0, 2.0]), None).missing
    0.25
    """
    data = np.asarray(values, dtype=np.float64)
    finite = data[np.isfinite(data)]
    absent = 1.0 - len(finite) / len(data) if len(data) else float("nan")
    return Shares(absent, repeated(finite), unchanged(before, own), magnitude(finite))


def magnitude(values: ArrayLike) -> float:
    """log10 of the median size of finite values that are not zero; NaN for fewer than five.

    >>> round(magnitude([100.0, -100.0, 100.0, 0.0, 100.0, 100.0]), 6)
    2.0
    """
    sizes = np.abs(np.asarray(values, dtype=np.float64))
    sizes = sizes[sizes > 0]
    return float(np.log10(np.median(sizes))) if len(sizes) >= 5 else float("nan")


def unit_shift(share: float, habits: Habits) -> float:
    """How far, in powers of ten, a magnitude lies beyond every day of the reference; signed.

    NaN where one of them is not known.

    >>> habits = Habits.fit([Shares(0.0, magnitude=m) for m in (0.0, 0.1, -0.1, 0.0, 0.1)])
    >>> round(unit_shift(2.0, habits), 6), unit_shift(0.05, habits)
    (1.9, 0.0)
    """
    if habits.magnitude is None or not np.isfinite(share):
        return float("nan")
    moved = share - habits.magnitude
    return float(np.sign(moved) * max(abs(moved) - habits.magnitude_reach, 0.0))


def repeated(values: ArrayLike) -> float:
    """The share of the commonest of finite values; NaN for fewer than five.

    >>> repeated([1.0, 1.0, 1.0, 2.0, 3.0])
    0.6
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if len(ordered) < 5:
        return float("nan")
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return float(np.diff(np.append(starts, len(ordered))).max() / len(ordered))


def prints(entities: ArrayLike, values: ArrayLike) -> Prints:
    """A hash of the finite values of each of 64 groups of names, shape (64,); 0 for an empty one.

    `entities` holds the numbers of the names, shape (names,); their order does not matter. Two
    sessions are compared by 256 bytes; reading the values again would take twice as long.

    >>> same = prints([7, 8], [1.5, 2.5]) == prints([8, 7], [2.5, 1.5])
    >>> bool(same.all())
    True
    """
    require_same(entities=entities, values=values)
    data = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(data)
    names = np.asarray(entities).astype(np.uint64)[finite] * _MIX
    mixed = (data[finite].view(np.uint64) ^ names) * _MIX_MORE
    sums = np.zeros(GROUPS, dtype=np.uint64)
    np.add.at(sums, (names >> np.uint64(58)).astype(np.intp), mixed ^ (mixed >> np.uint64(29)))
    return (sums >> np.uint64(32)).astype(np.uint32).view(np.int32)


def unchanged(before: Prints | None, now: Prints) -> float:
    """The share of groups with the same values; NaN if no group has values in both sessions.

    >>> today, yesterday = (prints([1, 2], values) for values in ([1.0, 2.0], [1.0, 3.0]))
    >>> unchanged(yesterday, today)
    0.5
    """
    if before is None:
        return float("nan")
    both = (before != 0) & (now != 0)
    return float((before == now)[both].mean()) if both.any() else float("nan")


def _high(values: Sequence[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.quantile(finite, 0.99, method="higher")) if finite else 1.0
