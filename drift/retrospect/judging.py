"""One model judged from its panel: pure functions that apply the monitor's own computations.

The reference is the one that the monitor takes until a person accepts another: the first sessions
with an IC. Later sessions are judged against it. Labels are the returns that followed; the Sharpe
ratio is that of a long-short book that is linear in the ranks of the scores
(`drift.metrics.turnover`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray

from ..alerts.lifecycle import Episode, episodes
from ..alerts.presets import default, preset
from ..alerts.rules import SEVERITIES, evaluate
from ..computation.provisional import BINS
from ..computation.session_values import (
    PREDICTIONS,
    SessionSeries,
    derived_arrays,
    usual,
)
from ..incidents.onset import Decay, fall
from ..metrics import ic, psi, sharpe
from ..metrics.arrays import Floats
from ..metrics.cusum import MIN_SESSIONS, Baseline
from ..metrics.spread import is_constant
from ..metrics.turnover import rank_return
from .cells import Unusable
from .panels import Panel

__all__ = ["STATES", "Judged", "Terms", "judge"]

NEWEST = 60  # sessions of the newest window
BOOK = 20  # returns from which there is a Sharpe ratio, as for the monitor's shortest one
LEAST = 2  # sessions that make a series
SKILLED = 2.0  # t of the reference's mean IC from which it counts as skill
OVERLAP = 0.3  # correlation of neighbouring sessions' labels from which they overlap
LONGEST_HORIZON = 60
PAIRS = 60  # pairs of neighbouring sessions from which an overlap is estimated
# From the worst to the best; those that cannot be judged come last.
STATES = ("decayed", "suspected", "alert", "recovered", "no skill", "healthy", "too short")
# The CUSUM of the IC beyond which a fall is taken as certain: 4% of healthy models pass it in a
# year, 28% the level of 8 from which an onset is estimated.
CERTAIN = next(r.threshold for r in default() if r.name == "ic drift emergency")
_OF_FEATURES = ("psi_max", "psi_ratio", "psi_shared_ratio", "psi_5d_ratio")


@dataclass(frozen=True)
class Terms:
    """Settings of the judgement; the defaults are those of the monitor.

    Attributes
    ----------
    horizon
        Sessions that a label covers; None to take it from the recorder, or from the labels.
    min_n
        Names that an IC needs.
    periods_per_year
        Sessions of a year, for the Sharpe ratio.
    reference
        Sessions with an IC that are the reference.
    rules
        A preset of rules.
    """

    horizon: int | None = None
    min_n: int = ic.MIN_N
    periods_per_year: float = 252
    reference: int = MIN_SESSIONS
    rules: str = "default"


@dataclass(frozen=True)
class Judged:
    """The values, alerts and fall of one model.

    Attributes
    ----------
    name
        The model.
    sessions
        In order.
    values
        Shape (sessions,) by metric, with the monitor's names, NaN where there is no value.
    reference
        The first and the last session of the reference; None where the sessions are too few.
    level
        Mean and spread of its IC.
    decay
        The latest fall of the IC; None without one.
    alerts
        Episodes of the rules after the reference, in order.
    horizon, horizon_from
        Sessions that a label covers, and the origin of that number.
    notes
        Changes to the data, and limits of the results.
    summary
        Statistics of the IC of all sessions, with Newey-West errors for the horizon.
    sharpe
        Annualised, of all sessions whose labels do not overlap; None where there is none.
    """

    name: str
    sessions: tuple[date, ...]
    values: Mapping[str, Floats]
    reference: tuple[date, date] | None
    level: Baseline | None
    decay: Decay | None
    alerts: tuple[Episode, ...]
    horizon: int
    horizon_from: str
    summary: ic.ICSummary
    sharpe: float | None
    notes: tuple[str, ...] = field(default=())

    @property
    def open_alerts(self) -> list[Episode]:
        """Alerts that are open at the last session, not inhibited; the most severe first."""
        still_open = [a for a in self.alerts if a.resolved is None and not a.inhibited]
        return sorted(still_open, key=lambda a: -SEVERITIES.index(a.rule.severity))

    @property
    def state(self) -> str:
        """One of `STATES`."""
        if self.level is None:
            return "too short"
        fall = self.fall
        if fall is not None and fall.recovered is None:
            return "decayed" if self._is_certain else "suspected"
        if self.open_alerts:
            return "alert"
        if fall is not None:
            return "recovered"
        return "healthy" if self.is_skilled else "no skill"

    @property
    def fall(self) -> Decay | None:
        """The fall, if it lasts or was certain: many healthy models had a small fall."""
        lasts = self.decay is not None and self.decay.recovered is None
        return self.decay if lasts or self._is_certain else None

    @property
    def _is_certain(self) -> bool:
        if self.decay is None:
            return False
        start = self.sessions.index(self.decay.first)
        return bool(np.nanmax(self.values["ic_cusum"][start:]) > CERTAIN)

    @property
    def is_skilled(self) -> bool:
        """Whether the reference's mean IC is clearly above zero."""
        if self.level is None or self.level.n < LEAST:
            return False
        return bool(self.level.mean > SKILLED * self.level.sd / self.level.n**0.5)

    def last(self, metric: str) -> float | None:
        """The newest value of a metric."""
        values = self.values[metric]
        finite = values[np.isfinite(values)]
        return float(finite[-1]) if len(finite) else None

    @property
    def newest_ic(self) -> float | None:
        """The mean IC of the newest 60 sessions that have one."""
        finite = self.values["ic"][np.isfinite(self.values["ic"])][-NEWEST:]
        return float(finite.mean()) if len(finite) else None

    @property
    def lost(self) -> float:
        """The loss of IC, newest against reference, by which models are sorted."""
        if self.level is None or self.newest_ic is None:
            return -np.inf
        return self.level.mean - self.newest_ic


def judge(name: str, panel: Panel, terms: Terms, horizon: tuple[int, str] | None = None) -> Judged:
    """The values, alerts and fall that the monitor would have computed for a model.

    Parameters
    ----------
    name
        The model.
    panel
        Its scores and labels.
    terms
        The settings.
    horizon
        The sessions that a label covers, and the origin of that number; None to estimate it.

    Raises
    ------
    Unusable
        There are fewer than two sessions, or none with an IC.
    """
    if len(panel.sessions) < LEAST:
        raise Unusable(f"it has one session only, {panel.sessions[0]}: there is no series to judge")
    ics = _ics(panel, terms.min_n)
    if not np.isfinite(ics.value).any():
        raise Unusable(_why_no_ic(ics, terms.min_n))
    span, origin = _horizon(panel, terms, horizon)
    returns = _returns(panel)
    window, level = _reference(ics.value, terms.reference)
    levels = [level if window and i >= window.stop else None for i in range(len(panel.sessions))]
    series = SessionSeries(
        sessions=panel.sessions,
        ic=ics.value,
        n_ic=ics.n.astype(np.float64),
        n_signals=_counts(panel),
        returns=returns,
        levels=levels,
        windows=[window] * len(panel.sessions),
        horizon=span,
        periods_per_year=terms.periods_per_year,
    )
    values = {"ic": ics.value, "n_signals": series.n_signals, **derived_arrays(series)}
    values |= _of_scores(panel, window) | _of_names(panel, series, terms.min_n)
    if span > 1:
        values |= {name: np.full_like(ics.value, np.nan) for name in values if "sharpe" in name}
    return Judged(
        name=name,
        sessions=panel.sessions,
        values=values,
        reference=_dates(panel, window),
        level=level,
        decay=fall(name, panel.sessions, ics.value, levels),
        alerts=_alerts(panel, values, levels, window, terms),
        horizon=span,
        horizon_from=origin,
        summary=ic.summary(ics.value, horizon=span),
        sharpe=_sharpe(returns[::span], terms.periods_per_year / span),
        notes=(*panel.notes, *_limits(span, origin, window, terms)),
    )


def _ics(panel: Panel, min_n: int) -> ic.ICMatrix:
    """The IC of every session; sessions with equally many names are computed together."""
    sizes = np.diff(panel.starts)
    value, n = np.full(len(sizes), np.nan), np.zeros(len(sizes), dtype=np.int64)
    status = [""] * len(sizes)
    for size in np.unique(sizes):
        chosen = np.flatnonzero(sizes == size)
        rows = panel.starts[chosen][:, None] + np.arange(size)
        ics = ic.rank_ic_matrix(panel.scores[rows], panel.labels[rows], min_n)
        value[chosen], n[chosen] = ics.value, ics.n
        for position, reason in zip(chosen.tolist(), ics.status, strict=True):
            status[position] = reason
    return ic.ICMatrix(value, n, tuple(status))


def _why_no_ic(ics: ic.ICMatrix, min_n: int) -> str:
    most = int(ics.n.max())
    if most >= min_n:
        return "no session has an IC: its scores, or its labels, are the same for all names"
    advice = f"; give --min-n {most} to use them" if most >= ic.MIN_GROUP_N else ""
    return (
        f"no session has an IC: the most names with a score and a label are {most}, and {min_n} "
        f"are needed{advice}"
    )


def _sharpe(returns: Floats, periods_per_year: float) -> float | None:
    """The annualised Sharpe ratio; None for a few sessions, of which it would be an accident."""
    if np.isfinite(returns).sum() < BOOK:
        return None
    return sharpe.sharpe(returns, periods_per_year).value


def _returns(panel: Panel) -> Floats:
    """The return of the long-short book of each session."""
    books = (panel.rows(i) for i in range(len(panel.sessions)))
    return np.array([rank_return(panel.scores[rows], panel.labels[rows]) for rows in books])


def _counts(panel: Panel) -> Floats:
    ends = np.concatenate([[0], np.cumsum(np.isfinite(panel.scores))])
    return np.diff(ends[panel.starts]).astype(np.float64)


def _reference(ics: Floats, length: int) -> tuple[slice | None, Baseline | None]:
    """The positions of the first sessions with an IC, and its level; None for too few sessions."""
    with_ic = np.flatnonzero(np.isfinite(ics))
    if len(with_ic) <= length:
        return None, None
    window = slice(int(with_ic[0]), int(with_ic[length - 1]) + 1)
    try:
        return window, Baseline.fit(ics[window], min_sessions=min(length, MIN_SESSIONS))
    except ValueError:  # all of its ICs are equal
        return None, None


def _dates(panel: Panel, window: slice | None) -> tuple[date, date] | None:
    return (panel.sessions[window.start], panel.sessions[window.stop - 1]) if window else None


def _of_scores(panel: Panel, window: slice | None) -> dict[str, Floats]:
    """PSI of the scores' distribution against the reference, of the sessions after it."""
    names = ("psi", *_OF_FEATURES)
    values = {name: np.full(len(panel.sessions), np.nan) for name in names}
    if window is None:
        return values
    sizes = np.diff(panel.starts)
    days = np.repeat(np.arange(len(sizes)), sizes)
    rows = slice(int(panel.starts[window.start]), int(panel.starts[window.stop]))
    reference = psi.fit(panel.scores[rows], BINS, days=days[rows])
    counts = psi.count_days(reference, panel.scores, days)[window.stop :]
    results = psi.psi_of_sessions(reference, counts)
    pooled = _pooled(reference, counts)
    for number, result in enumerate(results):
        index = window.stop + number
        recent = results[max(number + 1 - psi.POOLED_SESSIONS, 0) : number]
        before = next((r for r in reversed(recent) if r.n_present), None)
        previous = {} if before is None else {PREDICTIONS: before}
        session = psi.session_psi({PREDICTIONS: result}, before=previous)
        row = (result.value, session.value, session.ratio, session.shared, pooled.get(number))
        for name, value in zip(names, row, strict=True):
            values[name][index] = np.nan if value is None else value
    return values


def _pooled(reference: psi.Reference, counts: NDArray[np.int64]) -> dict[int, float | None]:
    """PSI of the last five sessions' scores in units of its limit, by position."""
    width = psi.POOLED_SESSIONS
    if len(counts) < width:
        return {}
    sums = np.lib.stride_tricks.sliding_window_view(counts, width, axis=0).sum(axis=-1)
    results = psi.psi_of_sessions(reference, sums, sessions=width)
    weeks = (psi.session_psi({PREDICTIONS: result}) for result in results)
    return {number: week.ratio for number, week in enumerate(weeks, width - 1)}


def _of_names(panel: Panel, series: SessionSeries, min_n: int) -> dict[str, Floats]:
    """Flags for too few names and for scores that are all equal; the share of missing names."""
    counts, sessions = series.n_signals, len(panel.sessions)
    alike, missing = np.zeros(sessions), np.full(sessions, np.nan)
    for index in range(sessions):
        scores = panel.scores[panel.rows(index)]
        finite = scores[np.isfinite(scores)]
        alike[index] = len(finite) >= min_n and is_constant(finite)
        habit = usual(counts, series.windows[index], index)
        if habit and counts[index] > 0:
            missing[index] = max(0.0, 1.0 - float(counts[index]) / habit)
    few = (counts < min_n).astype(np.float64)
    return {"few_names": few, "constant": alike, "signals_missing": missing}


def _alerts(
    panel: Panel,
    values: Mapping[str, Floats],
    levels: Sequence[Baseline | None],
    window: slice | None,
    terms: Terms,
) -> tuple[Episode, ...]:
    if window is None:
        return ()
    evaluation = evaluate(preset(terms.rules), values, {"ic": levels})
    return tuple(episodes(evaluation, panel.sessions, panel.sessions[window.stop - 1]))


def _horizon(panel: Panel, terms: Terms, known: tuple[int, str] | None) -> tuple[int, str]:
    if terms.horizon is not None:
        return terms.horizon, "as given"
    return known or _overlap(panel)


def _overlap(panel: Panel) -> tuple[int, str]:
    """The sessions that a label covers, estimated from the correlation of neighbouring labels.

    Returns over h sessions share h - 1 sessions with the next return, so that they correlate by
    1 - 1/h across the names of a session.
    """
    at = np.linspace(0, len(panel.sessions) - 2, PAIRS).astype(int)
    pairs = [_correlation(panel, session) for session in np.unique(at).tolist()]
    correlations = [value for value in pairs if value is not None]
    median = float(np.median(correlations)) if correlations else 0.0
    if median < OVERLAP:
        return 1, "labels of neighbouring sessions do not overlap"
    span = min(round(1 / max(1 - median, 1 / LONGEST_HORIZON)), LONGEST_HORIZON)
    return span, f"estimated: labels of neighbouring sessions correlate by {median:.2f}"


def _correlation(panel: Panel, session: int) -> float | None:
    """The correlation of a session's labels with the next one's; None for too few names."""
    first, second = panel.rows(session), panel.rows(session + 1)
    _, *rows = np.intersect1d(panel.names[first], panel.names[second], return_indices=True)
    a, b = panel.labels[first][rows[0]], panel.labels[second][rows[1]]
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < ic.MIN_GROUP_N or is_constant(a[both]) or is_constant(b[both]):
        return None
    return float(np.corrcoef(a[both], b[both])[0, 1])


def _limits(span: int, origin: str, window: slice | None, terms: Terms) -> list[str]:
    notes = []
    if span > 1:
        notes.append(
            f"labels cover {span} sessions ({origin}) and overlap: rules on the IC raise more "
            f"alerts than they state, and the Sharpe ratio is that of every {span}th session"
        )
    if window is None:
        notes.append(
            f"{terms.reference} sessions with an IC or fewer: no reference (--reference takes "
            "another length), so that nothing can be "
            "said of a decay"
        )
    return notes
