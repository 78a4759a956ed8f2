"""The strict frontier of a bitemporal series, and the as-of search on it. Pure numpy, no I/O.

A value is visible at `as_of` if both its event_time and its ingest_time are at or before it; among
the visible ones the newest event_time wins, then the newest ingest_time. Let `known_at` be the
later of a value's two times. In the order of (event_time, ingest_time) a value can win at some
moment exactly if it becomes known before every later value of its series does:

    keep row i  iff  known_at[i] < min(known_at[i + 1:])

What is kept is strictly increasing in known_at and non-decreasing in event_time, so the winner at
`as_of` is the last kept row with known_at <= as_of: any one-dimensional as-of join is exact on it,
and no two rows tie. With `>=` on a running maximum instead, as the frontier is usually written,
all rows of a bulk backfill tie, and engines differ in which one they take.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]
Index = npt.NDArray[np.intp]


class Frontier(NamedTuple):
    """The rows of a series that can ever win: their positions, and when each becomes known."""

    rows: Index
    known_at: Times


def strict_frontier(event: Times, ingest: Times) -> Frontier:
    """The frontier of one series whose rows are in the order of (event_time, ingest_time).

    >>> event, ingest = np.array([1, 2, 2, 3]), np.array([1, 4, 9, 4])
    >>> strict_frontier(event, ingest).rows  # 2 is overtaken by 3 when it becomes known
    array([0, 3])
    """
    known_at = np.maximum(event, ingest)
    later = np.empty_like(known_at)
    if len(known_at):
        later[-1] = np.iinfo(np.int64).max
        later[:-1] = np.minimum.accumulate(known_at[::-1])[-2::-1]
    rows = np.flatnonzero(known_at < later)
    return Frontier(rows, known_at[rows])


def search(frontier: Frontier, as_of: Times) -> Index:
    """The position of the row that wins at each as_of; -1 where none is known yet.

    >>> frontier = strict_frontier(np.array([10, 20]), np.array([15, 15]))
    >>> search(frontier, np.array([14, 15, 19, 20]))
    array([-1,  0,  0,  1])
    """
    positions = np.searchsorted(frontier.known_at, as_of, side="right") - 1
    if not len(frontier.rows):
        return positions.astype(np.intp)
    return np.where(positions < 0, -1, frontier.rows[positions])


def search_by_event(event: Times, as_of: Times) -> Index:
    """The row that a join on event_time alone would take: the newest event, its last revision.

    >>> search_by_event(np.array([10, 20, 20]), np.array([9, 10, 25]))
    array([-1,  0,  2])
    """
    return np.searchsorted(event, as_of, side="right") - 1
