"""Everything that is known of an incident: what is wrong, what to decide, the answers behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import date, datetime, timezone
from typing import Any

from ..alerts.lifecycle import Alert
from ..skew.reconciliation import Reconciliation
from . import causes
from .causes import NOTE, Cause, loudness
from .decisions import Decision
from .onset import Decay, NearbyChange
from .replay import Replay
from .versions import ServedVersions

__all__ = ["Effect", "Evidence", "Unanswered"]

OK = "ok"
HEALTHY = "Nothing is wrong."
UNSURE = "Nothing wrong was found, but not every question has an answer."
NAMED = 2  # causes in the headline


@dataclass(frozen=True)
class Effect:
    """One figure before, during and after the main fault.

    Attributes
    ----------
    name
        In words.
    before, during, after
        The figure in these sessions; None where it is not known, or the fault holds.
    limit
        What it is compared with, in words.
    is_share
        True for a fraction, which is shown in percent.
    """

    name: str
    before: float | None
    during: float | None
    after: float | None = None
    limit: str = ""
    is_share: bool = False

    def text(self, value: float | None) -> str:
        """A value as it is shown.

        Examples
        --------
        >>> Effect("return", 0.02, -0.034, is_share=True).text(-0.034)
        '-3.4%'
        >>> Effect("mean IC", 0.07, None).text(None)
        '–'
        """
        if value is None:
            return "–"
        return f"{value:+.1%}" if self.is_share else f"{round(value, 3) + 0.0:.3g}"


@dataclass(frozen=True)
class Unanswered:
    """A question that could not be answered, and the reason in one line."""

    question: str
    reason: str


@dataclass(frozen=True)
class Evidence:
    """One incident of a strategy, or the statement that there is none.

    Attributes
    ----------
    strategy_id, start, end, window
        The strategy, the first and last session that were looked at, and why these.
    now
        When it was explained (aware).
    sessions
        The sessions in the range.
    causes
        What is or was wrong, the most important first.
    decisions
        What to decide, the first to take first.
    alerts, resolved
        The alerts that are open at the end, and those that opened and closed in the range.
    effects
        Figures before the first fault and since.
    skew, versions, decay, replays, changes
        The answers to the questions; None or empty without one.
    checked
        What was looked at without finding anything, in sentences.
    unanswered
        The questions without an answer.
    days, ic, level
        The sessions of the range with their rank IC (NaN where there is none), and the accepted
        mean; None without one.
    """

    strategy_id: str
    start: date
    end: date
    window: str
    now: datetime
    sessions: int
    causes: tuple[Cause, ...] = ()
    decisions: tuple[Decision, ...] = ()
    alerts: tuple[Alert, ...] = ()
    resolved: tuple[Alert, ...] = ()
    effects: tuple[Effect, ...] = ()
    skew: Reconciliation | None = None
    versions: ServedVersions | None = None
    decay: Decay | None = None
    replays: tuple[Replay, ...] = ()
    changes: tuple[NearbyChange, ...] = ()
    checked: tuple[str, ...] = ()
    unanswered: tuple[Unanswered, ...] = ()
    days: Sequence[date] = field(default=(), repr=False)
    ic: Sequence[float] = field(default=(), repr=False)
    level: float | None = None

    @property
    def title(self) -> str:
        """The strategy, the last session, the status and the headline in one line."""
        return f"{self.strategy_id} {self.end}  {self.status}: {self.headline}"

    @property
    def range_text(self) -> str:
        """The sessions that were looked at, why these, and when."""
        moment = self.now.astimezone(timezone.utc)
        return (
            f"Sessions {self.start} to {self.end} ({self.window}), explained "
            f"{moment:%Y-%m-%d %H:%M} UTC."
        )

    @property
    def faults(self) -> tuple[Cause, ...]:
        """The causes that are more than a note."""
        return tuple(cause for cause in self.causes if cause.severity != NOTE)

    @property
    def present(self) -> tuple[Cause, ...]:
        """The faults that hold in the last session."""
        return tuple(cause for cause in self.faults if not cause.is_over)

    @property
    def is_healthy(self) -> bool:
        """Whether no fault was found in the whole range."""
        return not self.faults

    @property
    def status(self) -> str:
        """The worst severity of what holds now; "ok" if nothing does."""
        return max((cause.severity for cause in self.present), key=loudness, default=OK)

    @property
    def main(self) -> Cause | None:
        """The fault that the others follow from, as far as is known; None without a fault."""
        return causes.main(self.causes)

    @property
    def first(self) -> date | None:
        """The first session of the main fault; None without one."""
        return self.main.first if self.main else None

    @property
    def headline(self) -> str:
        """What is wrong, in one or two sentences."""
        if self.is_healthy:
            return UNSURE if self.unanswered else HEALTHY
        faults = self.present or self.faults
        shown = [cause for cause in faults if _is_like(cause, faults[0])][:NAMED]
        more = len(faults) - len(shown)
        text = " ".join(f"{_sentence(cause)}." for cause in shown)
        rest = f" And {more} more, below." if more else ""
        return text + rest if self.present else f"Nothing is wrong now. {text}{rest}"

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON: dates and times as such.

        Returns
        -------
        dict
        """
        answers = {
            name: answer.to_dict() if answer is not None else None
            for name, answer in (("versions", self.versions), ("decay", self.decay))
        }
        return {
            "strategy_id": self.strategy_id,
            "start": self.start,
            "end": self.end,
            "window": self.window,
            "explained_at": self.now,
            "sessions": self.sessions,
            "status": self.status,
            "headline": self.headline,
            "is_healthy": self.is_healthy,
            "causes": [{**_fields(cause), "line": cause.line} for cause in self.causes],
            "decisions": [decision.to_dict() for decision in self.decisions],
            "alerts": [_fields(alert) for alert in self.alerts],
            "resolved": [_fields(alert) for alert in self.resolved],
            "effects": [asdict(effect) for effect in self.effects],
            "skew": None if self.skew is None else _skew(self.skew),
            **answers,
            "replays": [replay.to_dict() for replay in self.replays],
            "changes": [asdict(change) for change in self.changes],
            "checked": list(self.checked),
            "unanswered": [asdict(part) for part in self.unanswered],
        }


def _is_like(cause: Cause, first: Cause) -> bool:
    """Whether a cause belongs beside the first: as severe, and no alert that may follow from it."""
    is_as_severe = loudness(cause.severity) >= loudness(first.severity)
    return is_as_severe and (cause.kind != "alert" or first.kind == "alert")


def _sentence(cause: Cause) -> str:
    """With a capital letter, unless a name comes first."""
    line = cause.line
    return line if line.startswith(cause.subject) else line[:1].upper() + line[1:]


def _fields(record: Any) -> dict[str, Any]:
    return {name: _plain(value) for name, value in vars(record).items()}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _skew(result: Reconciliation) -> dict[str, Any]:
    counts = {"differing": result.differing, "agrees": result.agrees}
    by_session = {day.isoformat(): cells for day, cells in result.cells_by_session.items()}
    return {**_fields(result), **counts, "cells_by_session": by_session}
