"""The hour at which a feature's events happen, and how far it has moved.

A feature of a daily job has one usual hour. It may be fixed in local time, in UTC, or relative to
the close of the session, which differ on half days and at the change to summer time. A session's
clock has moved only if all three have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Clock", "Reading", "shift"]

_DAY = 1440.0


@dataclass(frozen=True)
class Reading:
    """The median event of one session: minutes after the close, of the local day, of the UTC day.

    `behind` counts the sessions from that of the event's local date to the session; the close is
    that of the former if it is an earlier one.
    """

    after_close: float
    local: float
    utc: float
    behind: int = 0


@dataclass(frozen=True)
class Clock:
    """The usual reading over the days of a reference, and how far days strayed from it, minutes."""

    after_close: float
    local: float
    utc: float
    behind: int
    spread: float

    @classmethod
    def fit(cls, days: Sequence[Reading]) -> Clock | None:
        """The usual clock of some days; None without any.

        >>> Clock.fit([Reading(0, 960, 1260), Reading(0, 780, 1080), Reading(0, 960, 1200)])
        Clock(after_close=0.0, local=960.0, utc=1200.0, behind=0, spread=0.0)
        """
        if not days:
            return None
        usual = cls(
            float(np.median([day.after_close for day in days])),
            _usual_time([day.local for day in days]),
            _usual_time([day.utc for day in days]),
            int(np.median([day.behind for day in days])),
            0.0,
        )
        spread = max(abs(shift(day, usual)) for day in days)
        return cls(usual.after_close, usual.local, usual.utc, usual.behind, spread)


def shift(day: Reading, usual: Clock) -> float:
    """Minutes by which a session's events are later (or, negative, earlier) than usual.

    Of the three clocks the one that moved least; 0 within the days' own spread.

    >>> usual = Clock(0.0, 900.0, 420.0, 0, 0.0)
    >>> shift(Reading(480.0, 1380.0, 900.0), usual), shift(Reading(60.0, 900.0, 420.0), usual)
    (480.0, 0.0)
    """
    moved = (
        day.after_close - usual.after_close,
        _circular(day.local - usual.local),
        _circular(day.utc - usual.utc),
    )
    least = min(moved, key=abs)
    return 0.0 if abs(least) <= usual.spread else float(least)


def _circular(minutes: float) -> float:
    """A difference between two times of day, from -720 to 720.

    >>> _circular(1430.0)
    -10.0
    """
    return (minutes + _DAY / 2) % _DAY - _DAY / 2


def _usual_time(times: Sequence[float]) -> float:
    """The median of times of day, which may lie on both sides of midnight."""
    differences = [_circular(time - times[0]) for time in times]
    return float((times[0] + np.median(differences)) % _DAY)
