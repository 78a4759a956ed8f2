"""Faults of the feeds of a market, and the sessions on which `planted` plants them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from benchmarks.drift import markets
from benchmarks.drift.markets import Market

HOURS = timedelta(hours=8)
DECAY = "g"
VERSION = "b"


@dataclass(frozen=True)
class Plan:
    """Session numbers: the reference ends, the fault begins, it is repaired, the last sessions."""

    reference: int = 150
    fault: int = 190
    repair: int = 210
    sessions: int = 225
    # A decay needs more sessions to be seen.
    sessions_of_decay: int = 310
    names: int = 60
    paths: int = 1000

    def of(self, kind: Kind) -> slice:
        """The sessions of the fault."""
        return slice(self.fault, self.repair if kind.repaired else self.end(kind))

    def end(self, kind: Kind) -> int:
        return self.sessions_of_decay if kind.fault == DECAY else self.sessions


@dataclass(frozen=True)
class Kind:
    """One row of the table."""

    fault: str
    repaired: bool


Plant = Callable[[Market, slice], None]


def late_feature(served: Market, sessions: slice) -> None:
    """a: one feature is served one session late; the repair corrects the late sessions."""
    true = served.features["rsi_14"].copy()
    served.features["rsi_14"][sessions] = true[sessions.start - 1 : sessions.stop - 1]


def late_until_fixed(served: Market, sessions: slice) -> None:
    """a-: the same, and the repair corrects no past session."""
    late_feature(served, sessions)


def unit(served: Market, sessions: slice) -> None:
    """d: one feature comes in another unit."""
    served.features["ret_20d"][sessions] *= 100


def stopped(served: Market, sessions: slice) -> None:
    """e: the feature job does not run."""
    for values in served.features.values():
        values[sessions] = np.nan


def clock_late(served: Market, sessions: slice) -> None:
    """f+: event times are eight hours late."""
    served.delay[sessions] = np.timedelta64(HOURS)


def clock_early(served: Market, sessions: slice) -> None:
    """f-: event times are eight hours early."""
    served.delay[sessions] = -np.timedelta64(HOURS)


def decay(served: Market, sessions: slice) -> None:
    """g: the signal loses its skill; nothing is wrong in serving."""
    skilled = markets.VOLATILITY * markets.SKILL * markets.standard(served.signals)
    served.returns[sessions] -= skilled[sessions]


def nothing(served: Market, sessions: slice) -> None:
    """healthy: no fault."""


FAULTS: dict[str, Plant] = {
    "a": late_feature,
    "a-": late_until_fixed,
    "d": unit,
    "e": stopped,
    "f+": clock_late,
    "f-": clock_early,
    DECAY: decay,
    "healthy": nothing,
}
NOT_REPAIRED = (DECAY, "healthy")
# Faults that are also left unrepaired, because their alerts might close too early; the others show
# the same on the sessions before their repair.
UNREPAIRED = ("a", VERSION, *NOT_REPAIRED)
