"""Alert rules as data, and their evaluation over trading sessions. Pure: numpy only.

A rule watches a statistic of one metric: the metric itself, the mean of its last sessions, the
CUSUM of its shortfall below an accepted level, or for how many sessions it has been absent. It
opens after `sessions` consecutive breaches and resolves after `resolve_sessions` consecutive
recoveries. Sessions without a value count as neither: they neither extend a streak nor break it.

References
----------
.. [1] Prometheus, alerting rules (`for`, `keep_firing_for`) and inhibition, whose terms these are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..metrics import cusum, ic
from ..metrics.arrays import Floats
from ..metrics.cusum import Baseline
from ..metrics.labels import require_same

__all__ = ["SEVERITIES", "Baseline", "Evaluation", "Rule", "RuleStates", "Transition", "evaluate"]

Flags = NDArray[np.bool_]

SEVERITIES = ("warning", "critical", "emergency")
STATISTICS = ("value", "mean", "cusum", "absent")
COMPARISONS = ("<", "<=", ">", ">=")
Baselines: TypeAlias = "Baseline | Sequence[Baseline | None] | None"


@dataclass(frozen=True)
class Rule:
    """A condition on a metric: when an alert opens, how severe it is, and what it recommends.

    Attributes
    ----------
    name
        Unique within a set of rules.
    metric
        Key of the series that the rule watches, such as "ic" or "psi_ratio".
    comparison, threshold
        The rule is breached where `statistic comparison threshold` holds.
    statistic
        "value"; "mean" of the last `window` values; "cusum", with slack `slack` (in standard
        deviations) and at most `cap`; "absent", the number of sessions in a row without a value or
        with 0.
    window, slack, cap
        Parameters of the statistic.
    sessions
        Consecutive breaches before the alert opens.
    severity
        "warning", "critical" or "emergency".
    action
        Recommendation to a person. Nothing is ever done automatically.
    resolve
        Recovered where the statistic is not beyond this value; by default `threshold`.
    resolve_sessions
        Consecutive recoveries before the alert resolves.
    inhibits
        Names of rules that send no notification while this one is open.

    Raises
    ------
    ValueError
        A field is out of range.

    Examples
    --------
    >>> rule = Rule("ic below zero", "ic", "<", 0.0, sessions=3, severity="emergency")
    >>> rule.condition
    'ic < 0 on 3 sessions'
    """

    name: str
    metric: str
    comparison: str
    threshold: float
    statistic: str = "value"
    window: int = 1
    slack: float = cusum.SLACK
    cap: float | None = None
    sessions: int = 1
    severity: str = "warning"
    action: str = ""
    resolve: float | None = None
    resolve_sessions: int = 1
    inhibits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._one_of("severity", SEVERITIES)
        self._one_of("statistic", STATISTICS)
        self._one_of("comparison", COMPARISONS)
        for field in ("window", "sessions", "resolve_sessions"):
            if getattr(self, field) < 1:
                raise ValueError(f"rule {self.name!r}: {field} must be 1 or more")
        if self.resolve is not None and self._beyond(np.array(self.resolve), self.threshold).all():
            raise ValueError(
                f"rule {self.name!r}: resolve {self.resolve} lies beyond threshold {self.threshold}"
            )

    def _one_of(self, field: str, allowed: tuple[str, ...]) -> None:
        if getattr(self, field) not in allowed:
            value = getattr(self, field)
            raise ValueError(
                f"rule {self.name!r}: {field} is {value!r}, want one of {', '.join(allowed)}"
            )

    @property
    def condition(self) -> str:
        """The condition in words, for messages and tables.

        Examples
        --------
        >>> Rule("ic drift", "ic", ">", 6.0, statistic="cusum").condition
        'CUSUM of ic > 6'
        """
        names = {
            "value": self.metric,
            "mean": f"{self.window}-session mean of {self.metric}",
            "cusum": f"CUSUM of {self.metric}",
            "absent": f"sessions without {self.metric}",
        }
        text = f"{names[self.statistic]} {self.comparison} {self.threshold:g}"
        return text if self.sessions == 1 else f"{text} on {self.sessions} sessions"

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for JSON.

        Examples
        --------
        >>> Rule("ic low", "ic", "<", 0.02).to_dict()["threshold"]
        0.02
        """
        return {**asdict(self), "inhibits": list(self.inhibits)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Rule:
        """The rule that `to_dict` wrote.

        Parameters
        ----------
        fields
            Values by field name; fields with a default may be left out.

        Raises
        ------
        ValueError
            A field is unknown or out of range.

        Examples
        --------
        >>> rule = Rule("ic low", "ic", "<", 0.02)
        >>> Rule.from_dict(rule.to_dict()) == rule
        True
        """
        if unknown := set(fields) - set(cls.__dataclass_fields__):
            raise ValueError(f"rule {fields.get('name')!r}: unknown {', '.join(sorted(unknown))}")
        return cls(**{**fields, "inhibits": tuple(fields.get("inhibits", ()))})

    def breached(self, statistic: Floats) -> Flags:
        """Where the statistic is beyond the threshold; False where it is NaN.

        Parameters
        ----------
        statistic
            As `of` returns it, any shape.

        Returns
        -------
        array of bool
            Of the same shape.

        Examples
        --------
        >>> Rule("ic low", "ic", "<", 0.02).breached(np.array([0.01, 0.02, np.nan])).tolist()
        [True, False, False]
        """
        return self._beyond(statistic, self.threshold)

    def recovered(self, statistic: Floats) -> Flags:
        """Where the statistic is not beyond `resolve`; False where it is NaN.

        Parameters
        ----------
        statistic
            As `of` returns it, any shape.

        Returns
        -------
        array of bool
            Of the same shape.

        Examples
        --------
        >>> rule = Rule("ic low", "ic", "<", 0.02, resolve=0.03)
        >>> rule.recovered(np.array([0.01, 0.025, 0.03])).tolist()
        [False, False, True]
        """
        resolve = self.threshold if self.resolve is None else self.resolve
        return ~self._beyond(statistic, resolve) & ~np.isnan(statistic)

    def _beyond(self, statistic: Floats, limit: float) -> Flags:
        compare = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}
        result: Flags = np.asarray(compare[self.comparison](statistic, limit))
        return result

    def of(self, series: Floats, baseline: Baselines = None) -> Floats:
        """The statistic of a series; NaN where there is no value to judge.

        Parameters
        ----------
        series
            Shape (..., sessions), NaN where there is no value.
        baseline
            For "cusum": one accepted level, or one for each session.

        Returns
        -------
        array of float
            Shape (..., sessions).

        Examples
        --------
        >>> rule = Rule("ic low", "ic", "<", 0.02, "mean", window=2)
        >>> rule.of(np.array([0.01, 0.03, 0.05])).round(3)
        array([ nan, 0.02, 0.04])
        """
        if self.statistic == "value":
            return series
        if self.statistic == "absent":
            return _absent_for(series)
        if self.statistic == "mean":
            return ic.moving_average(series, self.window)
        if baseline is None or isinstance(baseline, Baseline):
            return self._cusum(series, baseline)
        parts = [self._cusum(series[..., low:high], b) for low, high, b in _spans(baseline)]
        return np.concatenate(parts, axis=-1) if parts else series

    def _cusum(self, series: Floats, baseline: Baseline | None) -> Floats:
        if baseline is None:
            return np.full(series.shape, np.nan)
        path = cusum.path(baseline.shortfall(series), self.slack, self.cap or np.inf)
        return np.where(np.isnan(series), np.nan, path)


@dataclass(frozen=True)
class RuleStates:
    """One rule over time, arrays of shape (..., sessions).

    `open` is the state of the alert; `inhibited` is True where the alert is open while a rule that
    inhibits it is open too.
    """

    rule: Rule
    statistic: Floats
    breached: Flags
    open: Flags
    inhibited: Flags

    def cut(self, sessions: slice) -> RuleStates:
        at = (..., sessions)
        flags = self.breached[at], self.open[at], self.inhibited[at]
        return RuleStates(self.rule, self.statistic[at], *flags)


@dataclass(frozen=True)
class Transition:
    """An alert opened or resolved.

    Attributes
    ----------
    session
        Index into the series.
    state
        "open" or "resolved".
    value
        The statistic at that session.
    since
        First session of the streak that opened it.
    inhibited
        Whether a rule that inhibits it was open at that session.
    """

    session: int
    rule: Rule
    state: str
    value: float
    since: int
    inhibited: bool


@dataclass(frozen=True)
class Evaluation:
    """All rules over time; `states` is keyed by rule name."""

    states: Mapping[str, RuleStates]

    def transitions(self) -> list[Transition]:
        """Openings and resolutions, by session and then by rule; for series of one dimension."""
        transitions = [t for states in self.states.values() for t in _transitions(states)]
        return sorted(transitions, key=lambda transition: transition.session)

    def cut(self, sessions: slice) -> Evaluation:
        """A slice of the sessions, with the states that they have among all of them."""
        return Evaluation({name: states.cut(sessions) for name, states in self.states.items()})

    def open_at(self, session: int) -> list[Rule]:
        """The rules that are open at a session, inhibited ones left out."""
        return [
            s.rule for s in self.states.values() if s.open[session] and not s.inhibited[session]
        ]


def evaluate(
    rules: Iterable[Rule],
    series: Mapping[str, ArrayLike],
    baselines: Mapping[str, Baselines] | None = None,
) -> Evaluation:
    """Evaluate rules over series of sessions.

    Parameters
    ----------
    rules
        Their names must differ.
    series
        By metric, shape (sessions,) or (paths, sessions); NaN (or None) where there is no value. A
        rule whose metric has no series is not evaluated.
    baselines
        By metric, for "cusum": one, or one for each session (None where nothing was accepted yet).
        A CUSUM restarts where the baseline changes. A rule without a baseline never opens.

    Raises
    ------
    ValueError
        Two rules have the same name, or labelled series have different labels.

    Examples
    --------
    >>> rule = Rule("ic below zero", "ic", "<", 0.0, sessions=2)
    >>> result = evaluate([rule], {"ic": [0.1, -0.1, None, -0.2, 0.3]})
    >>> [(t.session, t.state, t.since) for t in result.transitions()]
    [(3, 'open', 1), (4, 'resolved', 1)]
    """
    require_same(**series)
    watched = [rule for rule in rules if rule.metric in series]
    names = [rule.name for rule in watched]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"rule names must differ: {', '.join(sorted(repeated))} given twice")
    judged = {}
    for rule in watched:
        data = np.asarray(series[rule.metric], dtype=np.float64)
        statistic = rule.of(data, (baselines or {}).get(rule.metric))
        judged[rule.name] = (rule, statistic, rule.breached(statistic), _open(rule, statistic))
    states = {
        name: RuleStates(*parts, _inhibited(name, parts[3], judged.values()))
        for name, parts in judged.items()
    }
    return Evaluation(states)


def _open(rule: Rule, statistic: Floats) -> Flags:
    """Open or not at each session: a small state machine, all paths at once."""
    by_session = np.ascontiguousarray(np.moveaxis(statistic, -1, 0))
    breached, recovered = rule.breached(by_session), rule.recovered(by_session)
    if not breached.any():  # most rules of most strategies
        return np.zeros(statistic.shape, dtype=bool)
    has_value = ~np.isnan(by_session)
    shape = by_session.shape[1:]
    is_open = np.zeros(shape, dtype=bool)
    streak, calm = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.int32)
    result = np.empty(by_session.shape, dtype=bool)
    for t in range(len(by_session)):
        streak = np.where(has_value[t], (streak + 1) * breached[t], streak)
        calm = np.where(has_value[t], (calm + 1) * recovered[t], calm)
        is_open = (is_open & (calm < rule.resolve_sessions)) | (streak >= rule.sessions)
        result[t] = is_open
    return np.moveaxis(result, 0, -1)


def _inhibited(
    name: str, is_open: Flags, judged: Iterable[tuple[Rule, Floats, Flags, Flags]]
) -> Flags:
    result = np.zeros(is_open.shape, dtype=bool)
    for rule, _, _, louder in judged:
        if name in rule.inhibits:
            result |= louder
    return result & is_open


def _spans(baselines: Sequence[Baseline | None]) -> Iterator[tuple[int, int, Baseline | None]]:
    """Runs of sessions with the same baseline."""
    start = 0
    for end in range(1, len(baselines) + 1):
        if end == len(baselines) or baselines[end] != baselines[start]:
            yield start, end, baselines[start]
            start = end


def _absent_for(series: Floats) -> Floats:
    """Sessions in a row, up to each, with no value or 0."""
    absent = np.isnan(series) | (series == 0)
    sessions = np.arange(1, series.shape[-1] + 1)
    last_present = np.maximum.accumulate(np.where(absent, 0, sessions), axis=-1)
    return (sessions - last_present).astype(np.float64)


def _transitions(states: RuleStates) -> Iterator[Transition]:
    edges = np.flatnonzero(np.diff(states.open.astype(np.int8), prepend=0))
    since = 0
    for session in edges.tolist():
        opened = bool(states.open[session])
        since = _streak_start(states, session) if opened else since
        inhibited = bool(_inhibition_at(states, session))
        value = float(states.statistic[session])
        state = "open" if opened else "resolved"
        yield Transition(session, states.rule, state, value, since, inhibited)


def _inhibition_at(states: RuleStates, session: int) -> bool:
    # A resolved alert is no longer inhibited; what counts is whether its last session was.
    return bool(
        states.inhibited[session]
        or (session and states.inhibited[session - 1] and not states.open[session])
    )


def _streak_start(states: RuleStates, session: int) -> int:
    with_value = np.flatnonzero(~np.isnan(states.statistic[: session + 1]))
    calm = with_value[~states.breached[with_value]]
    streak = with_value[with_value > calm[-1]] if len(calm) else with_value
    # Empty only in a cut-out that begins while the alert is open.
    return int(streak[0]) if len(streak) else session
