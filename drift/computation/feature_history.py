"""What the rules on features would have seen in a healthy window: for their simulation.

A window cannot be judged by a reference that it made itself. It is split into folds, and each fold
is judged by a reference of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date

import numpy as np

from mlflow_timescale.db import Connection

from ..inputs.feature_values import Section
from ..metrics import feed_quality
from ..metrics.arrays import Counts, Floats
from ..metrics.buckets import count
from ..metrics.feed_quality import Shares
from ..metrics.psi import POOLED_SESSIONS, PSIResult, Reference, psi_from_counts, session_psi
from ..strategies import Strategy
from . import reference_fit

FOLDS = 4
BINS = 10
UNIT = "unit_shift"
METRICS = ("psi_max", "psi_ratio", "psi_shared_ratio", "psi_5d_ratio", "psi_fixed_ratio", UNIT)

Days = Mapping[int, dict[str, PSIResult]]


def read(
    conn: Connection, strategy: Strategy, days: Sequence[date], *, ranked: bool
) -> dict[str, Floats]:
    """The metrics of features on `days`, by name, shape (days,), NaN where there is none.

    `ranked` compares ranks across names instead of the values.
    """
    return of_samples(reference_fit.samples(conn, strategy, days), days, ranked=ranked)


def of_samples(
    samples: Iterable[reference_fit.Sample], days: Sequence[date], *, ranked: bool
) -> dict[str, Floats]:
    """The same of features that have been read: pure."""
    position = {day: index for index, day in enumerate(days)}
    single: dict[int, dict[str, PSIResult]] = {}
    before: dict[int, dict[str, PSIResult]] = {}
    week: dict[int, dict[str, PSIResult]] = {}
    watched = [UNIT, *(f"{kind}_excess" for kind in feed_quality.KINDS)]
    worst = {metric: np.full(len(days), np.nan) for metric in watched}
    for name, sections, labels in samples:
        shares = dict(zip(sections, reference_fit.shares_of(sections), strict=True))
        for fold in np.array_split(np.arange(len(sections)), FOLDS):
            chosen = [list(sections)[index] for index in fold.tolist()]
            others = {day: section for day, section in sections.items() if day not in set(chosen)}
            if not chosen or not others:
                continue
            reference = reference_fit.fit(others, BINS, labels, ranked=ranked)
            for day in chosen:
                _feeds(reference, shares[day], position[day], worst)
            judged = _judged(reference, [sections[day] for day in chosen])
            last: PSIResult | None = None
            for day, (alone, pooled) in zip(chosen, judged, strict=True):
                # The first day of a fold has none before it: it does not count as a jump.
                before.setdefault(position[day], {})[name] = last or alone
                last = alone if alone.n_present else last
                single.setdefault(position[day], {})[name] = alone
                if pooled is not None:
                    week.setdefault(position[day], {})[name] = pooled
    series = {
        "psi_max": _series(single, len(days), "value"),
        "psi_ratio": _series(single, len(days), "ratio", before),
        "psi_shared_ratio": _series(single, len(days), "shared", before),
        "psi_fixed_ratio": _series(single, len(days), "ratio"),
        "psi_5d_ratio": _series(week, len(days), "ratio"),
    }
    return {**series, **worst}


def _judged(
    reference: Reference, sections: Sequence[Section]
) -> Iterator[tuple[PSIResult, PSIResult | None]]:
    """PSI of each session, and of the last five together once there are as many."""
    recent: list[Counts] = []
    for section in sections:
        counts = count(reference, section.values)
        recent = [*recent, counts][-POOLED_SESSIONS:]
        pooled = None
        if len(recent) == POOLED_SESSIONS:
            total = np.sum(recent, axis=0)
            pooled = psi_from_counts(reference, total, sessions=POOLED_SESSIONS)
        yield psi_from_counts(reference, counts), pooled


def _feeds(reference: Reference, shares: Shares, at: int, worst: Mapping[str, Floats]) -> None:
    if reference.habits is None:
        return
    for kind in feed_quality.KINDS:
        series, habit = worst[f"{kind}_excess"], getattr(reference.habits, kind)
        series[at] = np.fmax(series[at], feed_quality.excess(getattr(shares, kind), habit))
    if reference.kind != "categories":
        shift = abs(feed_quality.unit_shift(shares.magnitude, reference.habits))
        worst[UNIT][at] = np.fmax(worst[UNIT][at], shift)


def _series(results: Days, length: int, field: str, before: Days | None = None) -> Floats:
    series = np.full(length, np.nan)
    for index, by_feature in results.items():
        earlier = None if before is None else before[index]
        value = getattr(session_psi(by_feature, before=earlier), field)
        series[index] = np.nan if value is None else value
    return series
