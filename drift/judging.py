"""Judging sessions by what came before them: derived values, rules, alert flags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray

from drift import alerts, computing, values
from drift.computing import Series
from drift.metrics.cusum import Baseline
from drift.observed import Observed, strategy_returns
from drift.references import References
from drift.rules import SEVERITIES, Evaluation, Rule, evaluate
from drift.sessions import Sessions
from drift.values import FIRST, Run, Value
from mlflow_timescale.db import Connection

FAMILIES = ("ic", "psi", "sharpe")

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Config:
    """How a strategy is watched."""

    strategy_id: str
    rules: tuple[Rule, ...]
    signal: str = "signal"
    model_name: str = ""
    features: tuple[str, ...] | None = None
    min_n: int = 20
    periods_per_year: float = 252


@dataclass
class Batch:
    """What was found in `days`: their values, and those of later sessions that follow from them.

    `episodes` are all runs of open sessions later than `judged_after`.
    """

    days: Sequence[date]
    values: list[Value] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    histograms: list[tuple[date, int, str, Counts]] = field(default_factory=list)
    episodes: list[alerts.Episode] = field(default_factory=list)
    judged_after: date = FIRST


def follow(
    conn: Connection,
    config: Config,
    calendar: Sessions,
    references: References,
    seen: Sequence[Observed],
    batch: Batch,
) -> None:
    """Add to the batch what follows from the series: derived values, episodes, alert flags."""
    past = {run.session for run in values.runs(conn, config.strategy_id)}
    computed = past | set(batch.days)
    sessions = calendar.between(min(computed), max(computed))
    start = sessions.index(batch.days[0])
    history = _Series.read(conn, config, sessions, batch.values)
    derived = computing.of_series(
        Series(
            sessions=sessions,
            ic=history.of("ic"),
            n_ic=history.counts,
            n_signals=history.of("n_signals"),
            returns=strategy_returns(conn, config.strategy_id, sessions),
            baselines=_baselines(references, sessions),
            horizon=next((o.primary.horizon for o in reversed(seen) if o.primary), 1),
            periods_per_year=config.periods_per_year,
        ),
        start,
    )
    found = [value for value in derived if value.session in computed]
    batch.values += found
    history.add(found)
    judged = evaluate(
        config.rules, history.to_judge(computed), {"ic": _levels(references, sessions)}
    )
    batch.judged_after = min((w.window_end for w in references.accepted), default=values.FIRST)
    batch.episodes = alerts.episodes(judged, sessions, batch.judged_after)
    batch.values += _flags(judged, sessions, start, computed)


@dataclass
class _Series:
    """Values without a dimension, over sessions, in memory: the stored ones under the new ones."""

    sessions: Sequence[date]
    position: Mapping[date, int]
    arrays: dict[str, Floats]
    counts: Floats
    nothing_due: set[tuple[str, date]]

    @classmethod
    def read(
        cls, conn: Connection, config: Config, sessions: Sequence[date], new: Sequence[Value]
    ) -> _Series:
        position = {session: index for index, session in enumerate(sessions)}
        series = cls(sessions, position, {}, np.full(len(sessions), np.nan), set())
        metrics = {rule.metric for rule in config.rules} | {"ic", "n_signals"}
        stored = values.of_sessions(
            conn, config.strategy_id, sessions[0], sessions[-1], sorted(metrics)
        )
        series.add(stored)
        series.add(new)
        return series

    def add(self, found: Sequence[Value]) -> None:
        for v in found:
            if v.dimension or v.status == "withdrawn":
                continue
            index = self.position[v.session]
            self.of(v.metric)[index] = np.nan if v.value is None else v.value
            if v.metric == "ic":
                self.counts[index] = v.n
            if v.status == computing.NOTHING_DUE:
                self.nothing_due.add((v.metric, v.session))

    def of(self, metric: str) -> Floats:
        return self.arrays.setdefault(metric, np.full(len(self.sessions), np.nan))

    def to_judge(self, computed: set[date]) -> dict[str, Floats]:
        """The series that rules see: no absence where nothing was due, or nobody looked."""
        judged = dict(self.arrays)
        for metric in ("n_signals", "n_returns", "n_features"):
            if metric in judged:
                judged[metric] = judged[metric].copy()
                first = np.flatnonzero(np.isfinite(judged[metric]))[:1]
                for index, session in enumerate(self.sessions):
                    unasked = session not in computed or not len(first) or index < first[0]
                    if unasked or (metric, session) in self.nothing_due:
                        judged[metric][index] = 1.0
        return judged


def _baselines(references: References, sessions: Sequence[date]) -> list[tuple[int, Baseline]]:
    found = []
    for accepted in references.accepted:
        start = sum(session <= accepted.window_end for session in sessions)
        if accepted.ic_mean is not None and accepted.ic_sd and start < len(sessions):
            found.append((start, Baseline(accepted.ic_mean, accepted.ic_sd, accepted.ic_n)))
    return sorted(found, key=lambda item: item[0])


def _levels(references: References, sessions: Sequence[date]) -> list[Baseline | None]:
    """The accepted level that judges each session's IC."""
    levels: list[Baseline | None] = [None] * len(sessions)
    for start, baseline in _baselines(references, sessions):
        levels[start:] = [baseline] * (len(sessions) - start)
    return levels


def _flags(
    judged: Evaluation, sessions: Sequence[date], start: int, computed: set[date]
) -> Iterator[Value]:
    """Whether a critical alert on each family of metrics is open at each session."""
    loud = SEVERITIES.index("critical")
    for family in FAMILIES:
        of_family = [
            states
            for states in judged.states.values()
            if states.rule.metric.partition("_")[0] == family
            and SEVERITIES.index(states.rule.severity) >= loud
        ]
        for index in range(start, len(sessions)):
            if sessions[index] in computed:
                n_open = sum(bool(states.open[index]) for states in of_family)
                flag = float(n_open > 0)
                yield Value(sessions[index], f"{family}_alert", "", flag, n_open, "ok")


def note(episode: alerts.Episode, found: Sequence[Value]) -> str:
    """The features that an alert on features is about, worst first."""
    if not episode.rule.metric.startswith("psi"):
        return ""
    here = {(v.metric, v.dimension): v.value for v in found if v.session == episode.opened}
    ratios = {
        name: (psi / (here.get(("psi_limit", name)) or 1.0), psi)
        for (metric, name), psi in here.items()
        if metric == "psi" and name and psi is not None
    }
    worst = sorted(ratios, key=lambda name: -ratios[name][0])[:5]
    return ", ".join(f"{name} {ratios[name][1]:.2f}" for name in worst if ratios[name][0] > 1)
