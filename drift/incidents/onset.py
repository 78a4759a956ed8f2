"""Since when the IC is low, which features moved first, and what changed around that day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from ..metrics import cusum

__all__ = ["Decay", "Mover", "NearbyChange"]


@dataclass(frozen=True)
class Mover:
    """An input that left its accepted range, or differs from research, near the onset.

    Attributes
    ----------
    feature
        Its name.
    metric
        Of the value: "psi" in units of its limit, "skew" in cells, "missing_excess", ...
    first
        The first session beyond the limit.
    sessions
        In how many sessions near the onset.
    value, limit
        The largest value in these, and its limit.
    text
        In words.
    """

    feature: str
    metric: str
    first: date
    sessions: int
    value: float
    limit: float
    text: str


@dataclass(frozen=True)
class NearbyChange:
    """Something that changed near the onset.

    Attributes
    ----------
    kind
        "promotion", "served version", "revision", "gap", "feature version", "definition", "schema",
        "packages", "code" or "reference".
    session
        The session on which it took effect.
    text
        In words.
    """

    kind: str
    session: date
    text: str


@dataclass(frozen=True)
class Decay:
    """The latest fall of the IC below its accepted level, and what happened around its onset.

    Iterating gives the onset and the sessions.

    Attributes
    ----------
    strategy_id
        The strategy.
    onset, sessions
        The change point, whose indices point into the sessions.
    movers
        Inputs that moved near the onset, the first first.
    quiet
        The largest value in units of its limit of the inputs that did not move; None without any.
    changes
        What changed near the onset, in order.
    reading
        What the evidence looks like, in a sentence.
    decisions
        What to decide, each with its reason.
    """

    strategy_id: str
    onset: cusum.Onset
    sessions: tuple[date, ...]
    movers: tuple[Mover, ...] = ()
    quiet: tuple[str, float] | None = None
    changes: tuple[NearbyChange, ...] = ()
    reading: str = ""
    decisions: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Any]:
        yield self.onset
        yield list(self.sessions)

    @property
    def first(self) -> date:
        """The first session of the fall."""
        return self.sessions[self.onset.index]

    @property
    def interval(self) -> tuple[date, date]:
        """The ends of the 95% interval of the first session."""
        return self.sessions[self.onset.low], self.sessions[self.onset.high]

    @property
    def seen(self) -> date:
        """The session on which the fall was beyond doubt: the alarm."""
        return self.sessions[self.onset.alarm]

    @property
    def recovered(self) -> date | None:
        """The session by which the IC was back; None while the fall lasts."""
        return None if self.onset.until is None else self.sessions[self.onset.until]

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        low, high = self.interval
        return {
            "strategy_id": self.strategy_id,
            "onset": self.first,
            "low": low,
            "high": high,
            "alarm": self.seen,
            "recovered": self.recovered,
            "before": self.onset.before,
            "after": self.onset.after,
            "movers": [asdict(mover) for mover in self.movers],
            "changes": [asdict(change) for change in self.changes],
            "reading": self.reading,
            "decisions": list(self.decisions),
        }

    def lines(self) -> list[str]:
        """The answer in sentences."""
        return []
