"""Whether a feature that was late changes together with the others again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np

from mlflow_timescale.db import Connection

from ..inputs import feature_values
from ..inputs.champions import Champions
from ..inputs.feature_values import Sample
from ..metrics import following
from ..metrics.arrays import Floats
from ..strategies import Strategy
from . import observing
from .session_values import PREDICTIONS

BEFORE = 40  # sessions before the feature became late, from which its usual company is known
COMPANY = 10  # other features that it is compared with


def is_in_step(
    conn: Connection,
    strategy: Strategy,
    feature: str,
    others: Sequence[str],
    late: date,
    session: date,
    lag: int,
) -> bool:
    """Whether a feature, late by `lag` sessions since `late`, is in step with others at `session`.

    `others` are features that are not late.
    """
    company = [name for name in others if name not in (feature, PREDICTIONS)][:COMPANY]
    if not company:
        return False
    calendar = strategy.calendar
    start, end = calendar.session_offset(late, -BEFORE), calendar.previous_session(late)
    days = [*calendar.sessions_in_range(start, end), calendar.previous_session(session), session]
    samples = _read(conn, strategy, list(dict.fromkeys(days)), [feature, *company])
    if feature not in samples:
        return False
    company = [name for name in company if name in samples]
    names = np.unique(
        np.concatenate([part.entities for part in samples[feature].sections.values()])
    )
    before, now = days[:-2], days[-2:]
    matrices = {
        name: (_matrix(samples[name], before, names), _matrix(samples[name], now, names))
        for name in (feature, *company)
    }
    return following.is_in_step(
        matrices[feature][0],
        [matrices[name][0] for name in company],
        [matrices[name][1] for name in (feature, *company)],
        lag,
    )


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


def _matrix(sample: Sample, days: Sequence[date], names: np.ndarray) -> Floats:
    """Values of shape (days, names), NaN where there is none."""
    result = np.full((len(days), len(names)), np.nan)
    for row, day in zip(result, days, strict=True):
        section = sample.sections[day]
        is_known = np.isin(section.entities, names)
        row[np.searchsorted(names, section.entities[is_known])] = section.known[is_known]
    return result
