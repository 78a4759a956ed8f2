"""Judging sessions by what came before them: derived values, rules, alert flags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

import numpy as np

from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.db import Connection, load

from ..alerts import lifecycle as alerts
from ..alerts.rules import SEVERITIES, Evaluation, Rule, evaluate
from ..inputs.feeds import Feeds
from ..inputs.observed import strategy_returns
from ..metrics.arrays import Counts, Floats
from ..metrics.cusum import Baseline
from ..results import values
from ..results.references import References
from ..results.values import FIRST, Run, Value
from . import session_values as computing
from .session_values import Histograms, Series

_queries = load("drift")
FAMILIES = ("ic", "psi", "sharpe")
COUNTS = ("n_signals", "n_returns", "n_features")


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

    `episodes` are all runs of open sessions later than `judged_after`; `recent` the histograms of
    the last sessions, for the next one's pooled PSI; `feeds` knows the last one's values.
    """

    days: Sequence[date]
    values: list[Value] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    histograms: list[tuple[date, int, str, Counts]] = field(default_factory=list)
    recent: list[Histograms] = field(default_factory=list)
    feeds: Feeds = field(default_factory=Feeds)
    episodes: list[alerts.Episode] = field(default_factory=list)
    judged_after: date = FIRST


@dataclass
class History:
    """Values without a dimension, over all sessions: the stored ones under the new ones.

    `computed` are the sessions that were looked at, `levels` the accepted level of the IC at each.
    """

    sessions: Sequence[date]
    computed: set[date]
    levels: Sequence[Baseline | None]
    arrays: dict[str, Floats]
    n_ic: Floats
    nothing_due: set[tuple[str, date]]

    @classmethod
    def read(
        cls,
        conn: Connection,
        config: Config,
        calendar: TradingCalendar,
        references: References,
        days: Sequence[date] = (),
        metrics: Sequence[str] = (),
    ) -> History:
        """Read what the rules and `metrics` need, of all sessions computed and of `days`."""
        computed = {run.session for run in values.runs(conn, config.strategy_id)} | set(days)
        sessions = calendar.sessions_in_range(min(computed), max(computed)) if computed else []
        levels = [_level(references, session) for session in sessions]
        history = cls(sessions, computed, levels, {}, np.full(len(sessions), np.nan), set())
        wanted = {rule.metric for rule in config.rules} | {"ic", "n_signals", *metrics}
        if sessions:
            found = (sessions[0], sessions[-1], sorted(wanted), [""])
            history.add(values.of_sessions(conn, config.strategy_id, *found))
        return history

    def add(self, found: Sequence[Value]) -> None:
        for v in found:
            if v.dimension or v.status == "withdrawn":
                continue
            index = self._position[v.session]
            self.of(v.metric)[index] = np.nan if v.value is None else v.value
            if v.metric == "ic":
                self.n_ic[index] = v.n
            if v.status == computing.NOTHING_DUE:
                self.nothing_due.add((v.metric, v.session))

    def of(self, metric: str) -> Floats:
        """One metric, shape (sessions,), NaN where there is no value."""
        if metric not in self.arrays:
            self.arrays[metric] = np.full(len(self.sessions), np.nan)
        return self.arrays[metric]

    @cached_property
    def _position(self) -> dict[date, int]:
        return {session: index for index, session in enumerate(self.sessions)}

    def judge(self, rules: Sequence[Rule]) -> Evaluation:
        """Evaluate the rules over all sessions."""
        series = {name: self._present(name, array) for name, array in self.arrays.items()}
        return evaluate(rules, series, {"ic": self.levels})

    def _present(self, metric: str, array: Floats) -> Floats:
        """A count without absences where nothing was due, or nobody looked."""
        if metric not in COUNTS:
            return array
        first = int(np.argmax(np.isfinite(array)))
        unasked = [
            index < first or day not in self.computed or (metric, day) in self.nothing_due
            for index, day in enumerate(self.sessions)
        ]
        return np.where(unasked, 1.0, array)


def follow(
    conn: Connection,
    config: Config,
    calendar: TradingCalendar,
    references: References,
    batch: Batch,
) -> None:
    """Add to the batch what follows from the series: derived values, episodes, alert flags."""
    history = History.read(conn, config, calendar, references, batch.days)
    history.add(batch.values)
    start = history.sessions.index(batch.days[0])
    series = Series(
        sessions=history.sessions,
        ic=history.of("ic"),
        n_ic=history.n_ic,
        n_signals=history.of("n_signals"),
        returns=strategy_returns(conn, config.strategy_id, history.sessions),
        levels=history.levels,
        horizon=_horizon(conn, config),
        periods_per_year=config.periods_per_year,
    )
    derived = [v for v in computing.of_series(series, start) if v.session in history.computed]
    history.add(derived)
    judged = history.judge(config.rules)
    batch.judged_after = min((w.window_end for w in references.accepted), default=FIRST)
    batch.episodes = alerts.episodes(judged, history.sessions, batch.judged_after)
    batch.values += derived
    batch.values += _flags(judged, history.sessions, start, history.computed)


def _level(references: References, session: date) -> Baseline | None:
    """The accepted level that judges a session's IC; none within the window itself."""
    window = references.at(session)
    if window is None or session <= window.window_end:
        return None
    if window.ic_mean is None or not window.ic_sd:
        return None
    return Baseline(window.ic_mean, window.ic_sd, window.ic_n)


def _horizon(conn: Connection, config: Config) -> int:
    row = {"strategy_id": config.strategy_id, "signal": config.signal, "model": config.model_name}
    found = conn.execute(_queries.horizon, row).fetchone()
    return int(found[0]) if found and found[0] else 1


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
    here = {(v.metric, v.dimension): v.value for v in found if v.session == episode.opened}
    metric = episode.rule.metric
    shown = "psi" if metric.startswith("psi") else metric
    if shown != "psi" and not metric.endswith("_excess"):
        return ""
    values = {n: v for (m, n), v in here.items() if m == shown and n and v is not None}
    limits = {n: here.get(("psi_limit", n)) or 1.0 if shown == "psi" else 0.0 for n in values}
    worst = sorted(values, key=lambda n: -values[n] / (limits[n] or 1.0))[:5]
    return ", ".join(f"{name} {values[name]:.2f}" for name in worst if values[name] > limits[name])
