"""What a rule would do to this strategy: false alarms a year, sessions until it sees a real change.

Years are drawn from the strategy's own history with the stationary bootstrap [1]_, IC and returns
jointly, and all metrics of features jointly, so that runs of bad days, fat tails, gaps, and what
the series have to do with each other are kept. A healthy path has the history's spread about the
accepted mean. A changed path is a healthy one that, after a lead-in, loses its mean ("fade": the
signal is worth nothing) or its sign ("flip").

References
----------
.. [1] D. N. Politis, J. P. Romano, "The Stationary Bootstrap", JASA 89 (1994).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..metrics import ic, sharpe
from ..metrics.arrays import Floats
from ..metrics.cusum import Baseline
from ..metrics.labels import require_same
from ..metrics.spread import ROUNDING, is_constant
from .rules import Baselines, Rule, evaluate

__all__ = ["CHANGES", "Delay", "RuleSimulation", "simulate"]

Flags = NDArray[np.bool_]
CHANGES = ("fade", "flip")
# Series whose mean is the strategy's skill; the rest (PSI, counts) do not change with it.
SKILL = ("ic", "strategy_return")
# What depends on how the feeds are run, and not on the market: healthy feeds never open its rules.
OPERATION = (
    "n_signals",
    "n_returns",
    "n_features",
    "n_versions",
    "stopped",
    "late",
    "clock_shift",
    "few_names",
    "constant",
    "signals_missing",
    "new_names",
    "signal_clock",
    "few_returns",
    "constant_returns",
    "returns_missing",
    "returns_unit",
    "pnl_gaps",
    "pnl_implausible",
    "version_differs",
    "skew",
)
SLOWER = 4
MIN_HISTORY = 60
LEAD_IN = 60
# Beyond this many sessions the error of an estimated level no longer matters; memory does.
LONGEST_WINDOW = 1000
_SHARPE = re.compile(r"sharpe_(\d+)d")


@dataclass(frozen=True)
class Delay:
    """How long a change goes unnoticed.

    Attributes
    ----------
    median, p90
        Sessions of changed data until the rule is open, over all paths on which it was not open
        already; None where more than half (a tenth) never notice within the year.
    detected
        Share of those paths that notice within the year.
    """

    median: float | None
    p90: float | None
    detected: float


@dataclass(frozen=True)
class RuleSimulation:
    """One rule on this strategy.

    Attributes
    ----------
    false_alarm_share
        Share of healthy years with at least one alarm.
    false_alarms_per_year
        Alarms opened in a healthy year, on average.
    first_false_alarm
        Median session of the first, over all healthy years; None where most have none.
    delays
        By change, "fade" and "flip"; empty for a rule on a metric that skill does not move.
    reason
        Why the rule could not be simulated; "" if it was. The shares are then NaN.
    basis
        "history", or "operation" for a rule that depends only on how the feeds are run: a healthy
        feed never opens it, so that 0 is expected.
    """

    rule: Rule
    false_alarm_share: float
    false_alarms_per_year: float
    first_false_alarm: float | None
    delays: Mapping[str, Delay]
    reason: str = ""
    basis: str = "history"

    @classmethod
    def of_operation(cls, rule: Rule) -> RuleSimulation:
        """The result for a rule that depends only on how the feeds are run.

        >>> RuleSimulation.of_operation(Rule("late", "late", ">", 0.0)).false_alarms_per_year
        0.0
        """
        return cls(rule, 0.0, 0.0, None, {}, basis="operation")

    @classmethod
    def impossible(cls, rule: Rule) -> RuleSimulation:
        """The result for a rule whose metric the history does not have.

        >>> RuleSimulation.impossible(Rule("low", "ic", "<", 0.0)).reason
        'the healthy history has no ic'
        """
        nan = float("nan")
        return cls(rule, nan, nan, None, {}, f"the healthy history has no {_source(rule.metric)}")


def simulate(
    rules: Iterable[Rule],
    history: Mapping[str, ArrayLike],
    baselines: Mapping[str, Baseline] | None = None,
    *,
    n_paths: int = 4000,
    sessions: int = 252,
    block: float = 10.0,
    periods_per_year: float = 252,
    seed: int = 0,
) -> list[RuleSimulation]:
    """False-alarm rate and detection delay of each rule whose metric the history allows.

    Rules that depend only on how the feeds are run need no history.

    Parameters
    ----------
    rules
        Rules on "ic", "ic_5d_avg", "sharpe_Nd", and on any other metric that `history` holds.
    history
        By metric, shape (sessions,), NaN where missing: "ic", "strategy_return" (from which
        the Sharpe ratios are made), and for instance the PSI of the reference days. All of one
        length, at least 60, or ValueError.
    baselines
        Accepted levels, by metric; those of the history if not given. One that came from n sessions
        is an estimate: each path is judged by one estimated from n sessions as well, since that
        doubles the alarms of a CUSUM at h = 12 for n = 120. With n = 0 it is taken as exact.
    block
        Mean length, in sessions, of the pieces of history that are put together; four times as long
        for metrics of features, whose alerts last for weeks: of an alert that is cut, only the
        piece with its beginning counts.

    Examples
    --------
    >>> history = {"ic": np.random.default_rng(0).normal(0.05, 0.08, 500)}
    >>> halt = Rule("halt", "ic", "<", 0.0, sessions=3)
    >>> result = simulate([halt], history, n_paths=500)[0]
    >>> result.false_alarm_share > 0.9, result.delays["flip"].median < 10
    (True, True)
    """
    data = _history(history)
    accepted = {**_own_baselines(data), **(baselines or {})}
    rules = list(rules)
    of_feeds = [rule for rule in rules if rule.metric in OPERATION]
    watched = [r for r in rules if r not in of_feeds and _source(r.metric) in data]
    lead = max([LEAD_IN, *(rule.window + _span(rule.metric) for rule in watched)])
    years = _Years.drawn(data, accepted, (n_paths, lead + sessions), block, seed)
    is_open = years.judge(watched, periods_per_year)
    delays: dict[str, dict[str, Delay]] = {rule.name: {} for rule in watched}
    for change in CHANGES:
        changed = years.changed(change, lead).judge(watched, periods_per_year)
        for rule in watched:
            if _source(rule.metric) in SKILL:
                delays[rule.name][change] = _delay(changed[rule.name], lead)
    return [
        *(
            _summary(rule, is_open[rule.name], years.continues(rule), lead, delays[rule.name])
            for rule in watched
        ),
        *(RuleSimulation.of_operation(rule) for rule in of_feeds),
    ]


def _history(history: Mapping[str, ArrayLike]) -> dict[str, Floats]:
    require_same(**history)
    data = {name: np.asarray(values, dtype=np.float64) for name, values in history.items()}
    lengths = {name: len(values) for name, values in data.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the series of a history must be of one length, got {lengths}")
    if min(lengths.values(), default=0) < MIN_HISTORY:
        raise ValueError(f"a simulation needs {MIN_HISTORY} sessions of history, got {lengths}")
    return {name: values for name, values in data.items() if np.isfinite(values).any()}


def _own_baselines(data: Mapping[str, Floats]) -> dict[str, Baseline]:
    finite = {name: values[np.isfinite(values)] for name, values in data.items()}
    return {name: Baseline.fit(v, 2) for name, v in finite.items() if not is_constant(v)}


def _source(metric: str) -> str:
    """The series of the history that a metric is made from."""
    if _SHARPE.fullmatch(metric):
        return "strategy_return"
    return "ic" if metric == "ic_5d_avg" else metric


def _span(metric: str) -> int:
    match = _SHARPE.fullmatch(metric)
    return int(match[1]) if match else 0


@dataclass(frozen=True)
class _Years:
    """Paths by metric, shape (paths, sessions), and the levels that each is judged by.

    `estimates` holds, by metric, mean and standard deviation per path, shape (paths, 1). `history`
    is what was drawn from, `positions` where in it each session of the metrics of features lies.
    """

    paths: Mapping[str, Floats]
    levels: Mapping[str, Baseline]
    estimates: Mapping[str, tuple[Floats, Floats]]
    history: Mapping[str, Floats]
    positions: NDArray[np.intp]

    @classmethod
    def drawn(
        cls,
        data: Mapping[str, Floats],
        levels: Mapping[str, Baseline],
        shape: tuple[int, int],
        block: float,
        seed: int,
    ) -> _Years:
        """Healthy years: the history, its skill moved to the accepted level."""
        generator = np.random.default_rng(seed)
        length = len(next(iter(data.values())))
        healthy = dict(data)
        for name in set(data) & set(SKILL) & set(levels):
            healthy[name] = data[name] - np.nanmean(data[name]) + levels[name].mean
        drawn = _stationary_bootstrap(length, shape, block, generator)
        slowly = _stationary_bootstrap(length, shape, SLOWER * block, generator)
        estimates = {}
        for name in sorted(set(healthy) & {n for n, level in levels.items() if level.n > 1}):
            window = (shape[0], min(levels[name].n, LONGEST_WINDOW))
            sample = healthy[name][_stationary_bootstrap(length, window, block, generator)]
            estimates[name] = _mean_and_sd(sample, levels[name])
        paths = {
            name: values[drawn if name in SKILL else slowly] for name, values in healthy.items()
        }
        return cls(paths, levels, estimates, healthy, slowly)

    def changed(self, change: str, at: int) -> _Years:
        """The same years with a change from session `at` on."""
        paths = dict(self.paths)
        for name in set(paths) & set(SKILL):
            skilled = paths[name]
            after = -skilled if change == "flip" else skilled - np.nanmean(skilled)
            paths[name] = np.concatenate([skilled[:, :at], after[:, at:]], axis=1)
        return replace(self, paths=paths)

    def judge(self, rules: list[Rule], periods_per_year: float) -> dict[str, Flags]:
        """Open or not by rule name, shape (paths, sessions)."""
        metrics = {rule.metric for rule in rules}
        series = {metric: self._series(metric, periods_per_year) for metric in metrics}
        estimated = {metric: self._as_estimated(metric, series[metric]) for metric in series}
        levels: dict[str, Baselines] = dict(self.levels)
        open_by_rule = {}
        for data, judged in (
            (series, [rule for rule in rules if rule.statistic != "cusum"]),
            (estimated, [rule for rule in rules if rule.statistic == "cusum"]),
        ):
            states = evaluate(judged, data, levels).states
            open_by_rule.update({name: state.open for name, state in states.items()})
        return open_by_rule

    def continues(self, rule: Rule) -> Flags | bool:
        """Sessions within an alert of the history, its first one left out, shape (paths, sessions).

        A piece of history that begins within an alert is a part of it, and no further one.
        """
        if rule.metric in SKILL or rule.metric not in self.history or rule.statistic == "cusum":
            return False
        is_open = evaluate([rule], self.history).states[rule.name].open
        within = is_open & np.append(False, is_open[:-1])
        return np.asarray(within[self.positions])

    def _series(self, metric: str, periods_per_year: float) -> Floats:
        if metric in self.paths:
            return self.paths[metric]
        if metric == "ic_5d_avg":
            return ic.moving_average(self.paths["ic"], 5)
        return sharpe.rolling(self.paths["strategy_return"], _span(metric), periods_per_year)

    def _as_estimated(self, metric: str, values: Floats) -> Floats:
        """Moved and scaled so that its shortfall is that below each path's own estimate."""
        if metric not in self.estimates:
            return values
        mean, sd = self.estimates[metric]
        level = self.levels[metric]
        return level.mean + level.sd * (values - mean) / sd


def _mean_and_sd(sample: Floats, level: Baseline) -> tuple[Floats, Floats]:
    """Of each row; the accepted level where a row has no two values that differ."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        mean = np.nanmean(sample, axis=1, keepdims=True)
        sd = np.nanstd(sample, axis=1, ddof=1, keepdims=True)
    usable = sd > ROUNDING * np.abs(mean)
    return np.where(usable, mean, level.mean), np.where(usable, sd, level.sd)


def _stationary_bootstrap(
    length: int, shape: tuple[int, int], block: float, generator: np.random.Generator
) -> NDArray[np.intp]:
    """Positions in a circular history: each follows its predecessor, or starts a new piece."""
    fresh = generator.random(shape) < 1 / block
    fresh[:, 0] = True
    starts = generator.integers(0, length, shape)
    age = np.arange(shape[1])
    begun = np.maximum.accumulate(np.where(fresh, age, 0), axis=1)
    return (np.take_along_axis(starts, begun, axis=1) + age - begun) % length


def _summary(
    rule: Rule, is_open: Flags, continues: Flags | bool, lead: int, delays: Mapping[str, Delay]
) -> RuleSimulation:
    begins = is_open & ~np.broadcast_to(continues, is_open.shape)
    opened = begins[:, lead:] & ~is_open[:, lead - 1 : -1]
    first = _first(opened)
    return RuleSimulation(
        rule,
        float(np.isfinite(first).mean()),
        float(opened.sum(axis=1).mean()),
        _finite(np.quantile(first, 0.5, method="higher")),
        delays,
    )


def _delay(is_open: Flags, lead: int) -> Delay:
    first = _first(is_open[~is_open[:, lead - 1], lead:])
    if not len(first):
        return Delay(None, None, 0.0)
    median, p90 = np.quantile(first, [0.5, 0.9], method="higher")
    return Delay(_finite(median), _finite(p90), float(np.isfinite(first).mean()))


def _first(flags: Flags) -> Floats:
    """Number of the first flagged session, from 1, per row; infinite without one."""
    return np.where(flags.any(axis=1), flags.argmax(axis=1) + 1.0, np.inf)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
