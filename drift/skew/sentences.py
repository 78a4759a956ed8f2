"""What a reconciliation found, in sentences for people."""

from __future__ import annotations

from datetime import timedelta

from .clock import ClockChange, signed
from .findings import Finding
from .mornings import named
from .reconciliation import FeatureSkew, Reconciliation, Revised

__all__ = ["NOT_INDEPENDENT", "clock_text", "counted", "finding_text", "percent", "revision_text"]

NOT_INDEPENDENT = (
    "Not independent: serving read the store that it is compared with. A wrong value in the store "
    "itself agrees; give an own source with --research."
)


def percent(feature: FeatureSkew) -> str:
    """Rounded down, so that 100.0% is every cell."""
    return f"{int(feature.matches * 1000) / 10:.1f}%"


def finding_text(found: Finding, result: Reconciliation) -> str:
    """One explanation with its cells, and whether it still holds."""
    lasting = f"; still so on {found.last}" if found.last == result.end != found.first else ""
    ended = f", until {found.last}" if found.last not in (found.first, result.end) else ""
    example = _example(found) if found.kind == "unexplained" else ""
    return (
        f"{named(found.kind, found.text)}, {found.cells:,} of {found.differing:,} cells"
        f"{ended}{lasting}{example}"
    )


def _example(found: Finding) -> str:
    one = found.examples[0]
    served, research = (
        "no value" if value is None else f"{value:.6g}" for value in (one.served, one.research)
    )
    return f": {one.entity} on {one.session}: served {served}, research {research}"


def clock_text(change: ClockChange) -> str:
    """How far the event times moved, what it looks like, and its effect."""
    reading = f": {change.reading}" if change.reading else ""
    behind = counted(change.behind, "session")
    late = f"; effect: served {behind} late" if change.behind else ""
    early = "; effect: known before the values that it is made from (look-ahead)"
    effect = early if change.moved < timedelta(0) else late
    return (
        f"event_time moved by {signed(change.moved)} ({change.usual} -> {change.hour}, in "
        f"{counted(change.sessions, 'session')}){reading}{effect}"
    )


def revision_text(revised: Revised) -> str:
    """What is known otherwise since, by whom."""
    parts = [f"revised after serving: {revised.cells:,} cells, {counted(revised.entities, 'name')}"]
    if revised.median_factor is not None:
        parts.append(f"median change x{revised.median_factor:.2f}")
    if revised.known_after is not None:
        parts.append(f"known {_after(revised.known_after)} after the decision")
    if revised.producer:
        run = f", run {revised.run_id[:8]}" if revised.run_id else ""
        parts.append(f"by {revised.producer}{run}")
    return ", ".join(parts) + "; no fault of serving"


def _after(passed: timedelta) -> str:
    return f"{passed.days}d{passed.seconds // 3600}h"


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "session"), counted(1200, "cell")
    ('1 session', '1,200 cells')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"
