"""Fitting the distributions of a window that is being accepted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date

import numpy as np

from mlflow_timescale.db import Connection

from ..inputs import feature_values
from ..inputs.feature_values import Section
from ..inputs.signals_and_returns import observe
from ..metrics import feed_quality, psi
from ..metrics.feed_quality import Habits, Prints, Shares
from ..strategies import Strategy
from . import pipeline
from .session_values import PREDICTIONS

GROUP = 20  # features read at once: a window of some is held in memory, never of all


def distributions(
    conn: Connection, strategy: Strategy, days: Sequence[date], bins: int
) -> Iterator[tuple[str, psi.Reference]]:
    """The reference of the predictions and of every feature, with its day-to-day variation."""
    signal, model = strategy.signal, strategy.model_name
    observations = [
        observe(conn, strategy.strategy_id, day, signal=signal, model=model) for day in days
    ]
    predictions = {
        o.session: Section(o.primary.entities, o.primary.values)
        for o in observations
        if o.primary is not None
    }
    if predictions:
        yield PREDICTIONS, _fit(predictions, bins)
    if strategy.features == () or not feature_values.exist(conn):
        return
    windows = [pipeline.window(observed, strategy.calendar) for observed in observations]
    names = feature_values.names(conn) if strategy.features is None else list(strategy.features)
    for start in range(0, len(names), GROUP):
        for sample in feature_values.samples(conn, windows, names[start : start + GROUP]):
            yield sample.feature, _fit(sample.sections, bins, sample.names)


def _fit(
    sections: dict[date, Section], bins: int, names: dict[float, str] | None = None
) -> psi.Reference:
    values = [section.values for section in sections.values()]
    days = np.repeat(np.arange(len(values)), [len(v) for v in values])
    fitted = psi.fit(np.concatenate(values), bins, days=days, names=names)
    return replace(fitted, habits=Habits.fit(list(_shares(sections))))


def _shares(sections: dict[date, Section]) -> Iterator[Shares]:
    before: Prints | None = None
    for section in sections.values():
        current = feed_quality.prints(section.entities, section.known)
        yield feed_quality.shares(section.values, current, before)
        before = current
