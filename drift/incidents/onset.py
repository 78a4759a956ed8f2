"""Since when the IC is low, which features moved first, and what changed around that day."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from itertools import groupby
from typing import Any

from ..metrics import cusum
from ..metrics.arrays import Floats
from ..skew.sentences import counted
from .text import aligned

__all__ = ["KINDS", "Decay", "Mover", "NearbyChange", "fall", "of_kind"]

# What may change near an onset, those that explain a fall best first; and how a reading begins.
KINDS = {
    "wrong version": "another version served",
    "gap": "inputs were not there",
    "promotion": "a promotion",
    "served version": "another model served",
    "feature version": "another version of a feature",
    "definition": "a new definition of a feature",
    "revision": "an input was revised",
    "code": "other code served",
    "packages": "other packages served",
    "reference": "a reference was accepted",
    "schema": "the schema changed",
}


@dataclass(frozen=True)
class Mover:
    """An input that left its accepted range, or differs from research, near the onset.

    Attributes
    ----------
    feature
        Its name.
    metric
        Of the value: "psi" in units of its limit, "skew" in cells, "missing_excess", ...
    first, last
        The first and the last session beyond the limit.
    sessions
        How many of them were.
    value, limit
        The largest value in these, and its limit.
    text
        In words.
    """

    feature: str
    metric: str
    first: date
    last: date
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
        A key of `KINDS`.
    session
        The date on which it took effect.
    text
        In words.
    subject
        The version that served, or the alias that moved; "" otherwise.
    """

    kind: str
    session: date
    text: str
    subject: str = ""


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
    unknown
        Kinds of change of which nothing is recorded, with the reason.
    ics, level
        The IC of each session, shape (sessions,), NaN where there is none; and its accepted level.
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
    unknown: Mapping[str, str] = field(default_factory=dict)
    ics: tuple[float, ...] = ()
    level: float | None = None

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
            "quiet": self.quiet and dict(zip(("feature", "of_limit"), self.quiet, strict=True)),
            "movers": [asdict(mover) for mover in self.movers],
            "changes": [asdict(change) for change in self.changes],
            "unknown": dict(self.unknown),
            "reading": self.reading,
            "decisions": list(self.decisions),
        }

    def lines(self) -> list[str]:
        """The answer as text."""
        return list(_lines(self))


def fall(
    strategy_id: str,
    sessions: Sequence[date],
    ics: Floats,
    levels: Sequence[cusum.Baseline | None],
) -> Decay | None:
    """The latest fall of the IC below the level that judges it now, without what is around it.

    Parameters
    ----------
    strategy_id
        The strategy, or the model, that the answer is about.
    sessions
        In order.
    ics
        The IC of each session, shape (sessions,), NaN where there is none.
    levels
        The accepted level that judges each session; None where none does.

    Returns
    -------
    Decay
        Its sessions begin with the first one that the level judges; None without a level or a fall.
    """
    judged = [i for i, level in enumerate(levels) if level is not None]
    if not judged:
        return None
    level = levels[judged[-1]]
    first = next(i for i in judged if levels[i] == level)
    onset = cusum.onset(ics[first:], level) if level else None
    if onset is None or level is None:
        return None
    later = tuple(sessions[first:])
    return Decay(strategy_id, onset, later, ics=tuple(ics[first:].tolist()), level=level.mean)


def _mover(mover: Mover) -> list[str]:
    return [mover.feature, f"since {mover.first}", counted(mover.sessions, "session"), mover.text]


def _reason(pair: tuple[str, str]) -> str:
    return pair[1]


def of_kind(kind: str, changes: Sequence[NearbyChange]) -> list[NearbyChange]:
    """The changes of one kind."""
    return [change for change in changes if change.kind == kind]


def _lines(result: Decay) -> Iterator[str]:
    low, high = result.interval
    back = f", back by {result.recovered}" if result.recovered else ""
    yield (
        f"IC fell from {result.onset.before:.3f} to {result.onset.after:.3f}, first bad session "
        f"{result.first} [{low}, {high}], seen {result.seen}{back}"
    )
    if result.movers:
        yield "features that moved first:"
        rows = [_mover(mover) for mover in result.movers]
        yield from (f"  {line}" for line in aligned(rows))
    else:
        nearest = f" ({result.quiet[0]} {result.quiet[1]:.1f})" if result.quiet else ""
        yield f"features that moved first: none above its limit{nearest}"
    if result.changes:
        yield "around it:"
        rows = [[f"{c.session}", c.kind, c.text] for c in result.changes]
        yield from (f"  {line}" for line in aligned(rows))
    missing = [k for k in KINDS if k not in result.unknown and not of_kind(k, result.changes)]
    if missing:
        yield f"{'also ' if result.changes else ''}around it: no {', no '.join(missing)}"
    for reason, kinds in groupby(sorted(result.unknown.items(), key=_reason), key=_reason):
        yield f"not known: {', '.join(kind for kind, _ in kinds)} ({reason})"
    yield f"reading: {result.reading}"
    yield f"decisions: {'; '.join(result.decisions)}"
