"""Whether a feature that was late changes together with the others again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from mlflow_timescale.db import Connection

from ..inputs import feature_values
from ..inputs.champions import Champions
from ..inputs.feature_values import Sample
from ..metrics.arrays import Floats
from ..metrics.following import CANDIDATES, Company
from ..strategies import Strategy
from . import observing
from .session_values import PREDICTIONS

BEFORE = 60  # sessions before the feature became late, from which its usual company is known
COMPANY = 10  # other features that it is compared with


@dataclass(frozen=True)
class Witness:
    """A late feature beside others: how they moved together before it was late.

    `names` are the entities of the columns, `others` the features that are not late.
    """

    feature: str
    others: Sequence[str]
    names: NDArray[np.int64]
    company: Company

    @classmethod
    def read(
        cls,
        conn: Connection,
        strategy: Strategy,
        feature: str,
        others: Sequence[str],
        late: date,
        lag: int,
    ) -> Witness:
        """The witness of a feature that is late by `lag` sessions since `late`."""
        calendar = strategy.calendar
        start = calendar.session_offset(late, -BEFORE)
        days = calendar.sessions_in_range(start, calendar.previous_session(late))
        chosen = [name for name in others if name not in (feature, PREDICTIONS)][:COMPANY]
        samples = _read(conn, strategy, days, [feature, *chosen]) if chosen else {}
        chosen = [name for name in chosen if name in samples]
        if feature not in samples or not chosen:
            nothing = np.empty((0, 0))
            return cls(feature, (), np.empty(0, np.int64), Company(nothing, [], lag))
        parts = [part.entities for part in samples[feature].sections.values()]
        names = np.unique(np.concatenate(parts))
        matrices = [_matrix(samples[name], days, names) for name in (feature, *chosen)]
        return cls(feature, chosen, names, Company(matrices[0], matrices[1:], lag))

    def is_in_step(
        self, conn: Connection, strategy: Strategy, session: date, late_for: int
    ) -> bool:
        """Whether the feature, late for that many sessions before this one, is in step again."""
        candidates = min(CANDIDATES, late_for - 1)
        if not self.company.tells or candidates < 0:
            return False
        calendar = strategy.calendar
        start = calendar.session_offset(session, -self.company.lag - 1 - candidates)
        days = calendar.sessions_in_range(start, session)
        samples = _read(conn, strategy, days, [self.feature, *self.others])
        if not {self.feature, *self.others} <= samples.keys():
            return False
        own, *company = (
            _matrix(samples[name], days, self.names) for name in (self.feature, *self.others)
        )
        return self.company.is_in_step(own, company, candidates)


def _read(
    conn: Connection, strategy: Strategy, days: Sequence[date], features: Sequence[str]
) -> dict[str, Sample]:
    observations = observing.observe_all(conn, strategy, days, Champions(conn))
    windows = [observing.window(observed, strategy.calendar) for observed in observations]
    names = sorted({feature_values.base(feature) for feature in features})
    samples = {s.feature: s for s in feature_values.samples(conn, windows, names)}
    if PREDICTIONS in features:
        sections = {o.session: observing.signal_section(o.primary) for o in observations}
        samples[PREDICTIONS] = Sample(PREDICTIONS, sections)
    return samples


def _matrix(sample: Sample, days: Sequence[date], names: NDArray[np.int64]) -> Floats:
    """Values of shape (days, names), NaN where there is none."""
    result = np.full((len(days), len(names)), np.nan)
    for row, day in zip(result, days, strict=True):
        section = sample.sections[day]
        is_known = np.isin(section.entities, names)
        row[np.searchsorted(names, section.entities[is_known])] = section.known[is_known]
    return result
