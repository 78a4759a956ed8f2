"""What the rules on features watch in a market of numbers, without a database.

The functions are those that the monitor computes its sessions with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date

import numpy as np

from benchmarks.drift.markets import Market
from drift.computation import feature_history, reference_fit, session_values
from drift.computation.reference_fit import Sample
from drift.computation.session_values import PREDICTIONS, Histograms
from drift.inputs.feature_values import Section
from drift.metrics import feed_quality
from drift.metrics.arrays import Floats
from drift.metrics.buckets import Reference, count
from drift.metrics.feed_quality import Shares
from drift.metrics.psi import POOLED_SESSIONS
from drift.results.values import Value

BINS = 10
UNIT = feature_history.UNIT


def of_features(market: Market, accepted: int) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Metrics of the accepted sessions, as the simulation reads them, and of those that follow."""
    samples = list(_samples(market))
    days = market.days[:accepted]
    first = [(name, {day: sections[day] for day in days}, None) for name, sections, _ in samples]
    history = feature_history.of_samples(first, days, ranked=False)
    references = {name: reference_fit.fit(sections, BINS) for name, sections, _ in first}
    later = market.days[accepted:]
    series = {name: np.full(len(later), np.nan) for name in history}
    position = {day: index for index, day in enumerate(later)}
    for value in _values(samples, references, position):
        if not value.dimension and value.metric in series and value.value is not None:
            series[value.metric][position[value.session]] = value.value
    return history, series


def _samples(market: Market) -> Iterator[Sample]:
    numbers = np.arange(len(market.names))
    for name, values in {PREDICTIONS: market.signals, **market.features}.items():
        rows = zip(market.days, values, strict=True)
        yield name, {day: Section(numbers, row) for day, row in rows}, None


def _values(
    samples: list[Sample], references: Mapping[str, Reference], days: Mapping[date, int]
) -> Iterator[Value]:
    shares = {
        name: dict(zip(sections, reference_fit.shares_of(sections), strict=True))
        for name, sections, _ in samples
    }
    recent: list[Histograms] = []
    for day in days:
        counts = {name: count(references[name], found[day].values) for name, found, _ in samples}
        recent = [*recent, Histograms.of(day, counts, references)][-POOLED_SESSIONS:]
        yield from session_values.of_features(recent[-1], None, recent)
        today = {name: by_day[day] for name, by_day in shares.items()}
        yield from session_values.of_feeds(day, today, references)
        yield _unit(day, today, references)


def _unit(day: date, today: Mapping[str, Shares], references: Mapping[str, Reference]) -> Value:
    shifts = [
        abs(feed_quality.unit_shift(now.magnitude, habits))
        for name, now in today.items()
        if (habits := references[name].habits) is not None
    ]
    return Value(day, UNIT, "", float(np.nanmax(shifts)), len(shifts), "ok")
