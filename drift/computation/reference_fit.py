"""Fitting the distributions of a window that is being accepted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date

import numpy as np

from mlflow_timescale.db import Connection

from ..inputs import feature_values
from ..inputs.champions import Champions
from ..inputs.feature_values import Section
from ..metrics import feed_quality, psi
from ..metrics.arrays import Floats
from ..metrics.clock import Clock
from ..metrics.feed_quality import Habits, Prints, Shares
from ..metrics.ranks import cross_sectional
from ..strategies import Strategy
from . import clocks, observing
from .session_values import PREDICTIONS

GROUP = 20  # features read at once: a window of some is held in memory, never of all


Sample = tuple[str, dict[date, Section], dict[float, str] | None]


def distributions(
    conn: Connection, strategy: Strategy, days: Sequence[date], bins: int
) -> Iterator[tuple[str, psi.Reference]]:
    """The reference of the predictions and of every feature, with its day-to-day variation."""
    for name, sections, labels in samples(conn, strategy, days):
        fitted = fit(sections, bins, labels, ranked=strategy.ranked)
        yield name, _with_clock(fitted, sections, strategy)


def samples(conn: Connection, strategy: Strategy, days: Sequence[date]) -> Iterator[Sample]:
    """Name, sections by session, and labels of categories: of the predictions and each feature."""
    observations = observing.observe_all(conn, strategy, days, Champions(conn))
    predictions = {
        o.session: observing.signal_section(o.primary)
        for o in observations
        if o.primary is not None
    }
    if predictions:
        yield PREDICTIONS, predictions, None
    if strategy.features == () or not feature_values.exist(conn):
        return
    windows = [observing.window(observed, strategy.calendar) for observed in observations]
    names = feature_values.names(conn) if strategy.features is None else list(strategy.features)
    for start in range(0, len(names), GROUP):
        for sample in feature_values.samples(conn, windows, names[start : start + GROUP]):
            yield sample.feature, sample.sections, sample.names


def fit(
    sections: Mapping[date, Section],
    bins: int,
    names: dict[float, str] | None = None,
    *,
    ranked: bool = False,
) -> psi.Reference:
    """The reference of one feature; `ranked` compares its ranks across the names of a session.

    A feature with at most `bins` distinct values, or categories, is compared as it is.
    """
    values = [section.values for section in sections.values()]
    days = np.repeat(np.arange(len(values)), [len(v) for v in values])
    ranked = ranked and not names and _is_continuous(values, bins)
    if ranked:
        values = [cross_sectional(v) for v in values]
    fitted = psi.fit(np.concatenate(values), bins, days=days, names=names)
    return replace(fitted, habits=Habits.fit(list(shares_of(sections))), ranked=ranked)


def _is_continuous(values: Sequence[Floats], bins: int) -> bool:
    distinct: set[float] = set()
    for row in values:
        distinct.update(np.unique(row[np.isfinite(row)])[: bins + 1].tolist())
        if len(distinct) > bins:
            return True
    return False


def _with_clock(
    fitted: psi.Reference, sections: dict[date, Section], strategy: Strategy
) -> psi.Reference:
    readings = [
        clocks.reading(section, session, strategy.calendar) for session, section in sections.items()
    ]
    return replace(fitted, clock=Clock.fit([day for day in readings if day is not None]))


def shares_of(sections: Mapping[date, Section]) -> Iterator[Shares]:
    """The shares of missing, repeated and unchanged values of each session."""
    before: Prints | None = None
    for section in sections.values():
        current = feed_quality.prints(section.entities, section.known)
        yield feed_quality.shares(section.values, current, before)
        before = current
