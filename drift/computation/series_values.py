"""What follows from the series of sessions: derived values, states of rules, alert flags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

from mlflow_timescale.common.errors import first_of
from mlflow_timescale.db import Connection, load

from ..alerts import lifecycle
from ..alerts.rules import SEVERITIES, Evaluation
from ..inputs.signals_and_returns import strategy_returns
from ..results.references import References
from ..results.values import FIRST, Value
from ..strategies import Strategy
from . import due_returns, input_checks, session_values
from .computed import ComputedSessions
from .history import History
from .lateness import late_values
from .session_values import SessionSeries

_queries = load("drift")
FAMILIES = ("ic", "psi", "sharpe")


def follow(
    conn: Connection,
    strategy: Strategy,
    references: References,
    batch: ComputedSessions,
) -> None:
    """Add to the batch what follows from the series: derived values, episodes, alert flags."""
    extra = (*input_checks.SHIFTED, *due_returns.STORED)
    history = History.read(conn, strategy, references, batch.days, extra)
    history.add(batch.values)
    start = history.sessions.index(batch.days[0])
    series = SessionSeries(
        sessions=history.sessions,
        ic=history.of("ic"),
        n_ic=history.n_ic,
        n_signals=history.of("n_signals"),
        returns=strategy_returns(conn, strategy.strategy_id, history.sessions),
        levels=history.levels,
        windows=history.windows,
        horizon=_horizon(conn, strategy),
        periods_per_year=strategy.periods_per_year,
    )
    shifted = {metric: history.of(metric) for metric in input_checks.SHIFTED}
    found = [
        *session_values.of_series(series, start),
        *due_returns.at_due_sessions(
            series,
            {metric: history.of(metric) for metric in due_returns.STORED},
            strategy.min_n,
            start,
            batch.note,
        ),
        *late_values(
            conn,
            strategy,
            references,
            batch,
            history.sessions,
            due_returns.repeated(history.sessions, series.returns),
        ),
        *input_checks.dating(history.sessions, history.of("ic"), shifted, start),
    ]
    derived = [value for value in found if value.session in history.computed]
    history.add(derived)
    for index, missing in session_values.pnl_gaps(series, start):
        days = first_of([history.sessions[gap] for gap in missing], 5)
        batch.note("pnl_gaps", history.sessions[index], f"missing: {days}")
    for index, large in session_values.pnl_implausible(series, start):
        shown = first_of([f"{history.sessions[i]} {series.returns[i]:.4g}" for i in large], 5)
        batch.note(
            "pnl_implausible", history.sessions[index], f"too large for one session: {shown}"
        )
    judged = history.judge(strategy.judging)
    batch.judged_after = min((w.window_end for w in references.accepted), default=FIRST)
    batch.episodes = lifecycle.episodes(judged, history.sessions, batch.judged_after)
    batch.values += derived
    batch.values += _flags(judged, history.sessions, start, history.computed)


def _horizon(conn: Connection, strategy: Strategy) -> int:
    row = {
        "strategy_id": strategy.strategy_id,
        "signal": strategy.signal,
        "model": strategy.model_name,
    }
    first_row = conn.execute(_queries.horizon, row).fetchone()
    return int(first_row[0]) if first_row and first_row[0] else 1


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


def note(episode: lifecycle.Episode, batch: ComputedSessions) -> str:
    """What is behind an alert at its opening: a sentence, or the features, worst first."""
    sentence = batch.notes.get((episode.rule.metric, episode.opened), "")
    return sentence or _features_behind(episode, batch.values)


def _features_behind(episode: lifecycle.Episode, found: Sequence[Value]) -> str:
    metric = episode.rule.metric
    if not metric.startswith("psi") and not metric.endswith("_excess"):
        return ""
    at_opening = [v for v in found if v.session == episode.opened and v.dimension]
    by_feature = "psi" if metric in ("psi_max", "psi_fixed_max") else metric
    values = {v.dimension: v.value for v in at_opening if v.metric == by_feature and v.value}
    least = episode.rule.threshold if by_feature == "psi" else 0.0
    worst = sorted((n for n in values if values[n] > least), key=lambda n: -values[n])[:5]
    unit = " of its limit" if metric.startswith("psi_") and by_feature == metric else ""
    return ", ".join(f"{name} {_share(values[name], bool(unit))}{unit}" for name in worst)


def _share(value: float, of_limit: bool) -> str:
    return f"{value:.0%}" if of_limit else f"{value:.2f}"
