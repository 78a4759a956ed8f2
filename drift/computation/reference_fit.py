"""Fitting the distributions of a window that is being accepted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date

import numpy as np

from mlflow_timescale.db import Connection

from ..inputs import feature_values
from ..inputs.champions import Champions
from ..inputs.feature_values import Section
from ..metrics import feed_quality, psi
from ..metrics.clock import Clock
from ..metrics.feed_quality import Habits, Prints, Shares
from ..strategies import Strategy
from . import clocks, observing
from .session_values import PREDICTIONS

GROUP = 20  # features read at once: a window of some is held in memory, never of all


def distributions(
    conn: Connection, strategy: Strategy, days: Sequence[date], bins: int
) -> Iterator[tuple[str, psi.Reference]]:
    """The reference of the predictions and of every feature, with its day-to-day variation."""
    observations = observing.observe_all(conn, strategy, days, Champions(conn))
    predictions = {
        o.session: Section(o.primary.entities, o.primary.values)
        for o in observations
        if o.primary is not None
    }
    if predictions:
        yield PREDICTIONS, _fit(predictions, bins)
    if strategy.features == () or not feature_values.exist(conn):
        return
    windows = [observing.window(observed, strategy.calendar) for observed in observations]
    names = feature_values.names(conn) if strategy.features is None else list(strategy.features)
    for start in range(0, len(names), GROUP):
        for sample in feature_values.samples(conn, windows, names[start : start + GROUP]):
            yield (
                sample.feature,
                _with_clock(_fit(sample.sections, bins, sample.names), sample.sections, strategy),
            )


def _fit(
    sections: dict[date, Section], bins: int, names: dict[float, str] | None = None
) -> psi.Reference:
    values = [section.values for section in sections.values()]
    days = np.repeat(np.arange(len(values)), [len(v) for v in values])
    fitted = psi.fit(np.concatenate(values), bins, days=days, names=names)
    return replace(fitted, habits=Habits.fit(list(_shares(sections))))


def _with_clock(
    fitted: psi.Reference, sections: dict[date, Section], strategy: Strategy
) -> psi.Reference:
    readings = [
        clocks.reading(section, session, strategy.calendar) for session, section in sections.items()
    ]
    return replace(fitted, clock=Clock.fit([day for day in readings if day is not None]))


def _shares(sections: dict[date, Section]) -> Iterator[Shares]:
    before: Prints | None = None
    for section in sections.values():
        current = feed_quality.prints(section.entities, section.known)
        yield feed_quality.shares(section.values, current, before)
        before = current
