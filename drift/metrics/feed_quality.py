"""Is a feed broken? Three shares of a session's names that say so for five names as for thousands.

A distribution needs many names to be told from another one; a broken feed shows in each name: its
value is *missing*, it is the same as everybody's (*repeated*), or it is what it was the session
before (*unchanged*: frozen, or late by a session, which repeats one session when it begins). What
is normal for a feature, the reference's own days say: a flag repeats, a quarterly figure does not
change, and neither is a fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["KINDS", "Habits", "Shares", "excess", "prints", "repeated", "shares", "unchanged"]

Prints = NDArray[np.int32]
KINDS = ("missing", "repeated", "unchanged")
GROUPS = 64
_LEAST_ROOM = 0.2
_MIX = np.uint64(0x9E3779B97F4A7C15)
_MIX_MORE = np.uint64(0xBF58476D1CE4E5B9)


@dataclass(frozen=True)
class Shares:
    """The three shares of one feature in one session, between 0 and 1; NaN where there is none."""

    missing: float
    repeated: float = float("nan")
    unchanged: float = float("nan")


@dataclass(frozen=True)
class Habits:
    """The 99% points of the shares over the days of a reference; 1 where no day has one."""

    missing: float
    repeated: float
    unchanged: float

    @classmethod
    def fit(cls, days: Sequence[Shares]) -> Habits:
        """What is normal, from the days of a window; with fewer than a hundred, the worst.

        >>> Habits.fit([Shares(0.0), Shares(0.05)])
        Habits(missing=0.05, repeated=1.0, unchanged=1.0)
        """
        return cls(*(_high([getattr(day, kind) for day in days]) for kind in KINDS))


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
    there = data[np.isfinite(data)]
    absent = 1.0 - len(there) / len(data) if len(data) else float("nan")
    return Shares(absent, repeated(there), unchanged(before, own))


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

    Names are told apart by their numbers, shape (names,), so the order does not matter. Two
    sessions are compared by 256 bytes, where reading the values again would take twice as long.

    >>> same = prints([7, 8], [1.5, 2.5]) == prints([8, 7], [2.5, 1.5])
    >>> bool(same.all())
    True
    """
    data = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(data)
    names = np.asarray(entities).astype(np.uint64)[finite] * _MIX
    mixed = (data[finite].view(np.uint64) ^ names) * _MIX_MORE
    sums = np.zeros(GROUPS, dtype=np.uint64)
    np.add.at(sums, (names >> np.uint64(58)).astype(np.intp), mixed ^ (mixed >> np.uint64(29)))
    return (sums >> np.uint64(32)).astype(np.uint32).view(np.int32)


def unchanged(before: Prints | None, now: Prints) -> float:
    """The share of the groups that are what they were; NaN if no group was there both times.

    >>> today, yesterday = (prints([1, 2], values) for values in ([1.0, 2.0], [1.0, 3.0]))
    >>> unchanged(yesterday, today)
    0.5
    """
    if before is None:
        return float("nan")
    both = (before != 0) & (now != 0)
    return float((before == now)[both].mean()) if both.any() else float("nan")


def _high(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.quantile(known, 0.99, method="higher")) if known else 1.0
