"""The result of one computation, before it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from ..alerts.lifecycle import Episode
from ..inputs.feed_quality import Feeds
from ..metrics.arrays import Counts
from ..metrics.clock import Reading
from ..results.values import FIRST, Run, Value
from .session_values import Histograms


@dataclass
class ComputedSessions:
    """The values of `days`, and those of later sessions that follow from them.

    `marks` are the marks of stale sessions that were there when the computation began to read.
    `episodes` are all runs of open sessions later than `judged_after`; `recent` the histograms of
    the last sessions, for the next one's pooled PSI; `feeds` knows the last one's values. `notes`
    are sentences for alerts, by metric and session.
    """

    days: Sequence[date]
    marks: Sequence[int] = ()
    values: list[Value] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    histograms: list[tuple[date, int, str, Counts]] = field(default_factory=list)
    recent: list[Histograms] = field(default_factory=list)
    feeds: Feeds = field(default_factory=Feeds)
    clocks: dict[tuple[date, str], Reading] = field(default_factory=dict)
    notes: dict[tuple[str, date], str] = field(default_factory=dict)
    episodes: list[Episode] = field(default_factory=list)
    judged_after: date = FIRST

    def note(self, metric: str, session: date, text: str) -> None:
        """Keep a sentence for the alert that a metric opens at a session."""
        self.notes[metric, session] = text
