"""What a rule would do to this strategy: false alarms a year, sessions until it sees a real change.

Years are drawn from the strategy's own history with the stationary bootstrap [1]_, all series
jointly, so that runs of bad days, fat tails, gaps, and what IC and returns have to do with each
other are kept. A healthy path has the history's spread about the accepted mean. A changed path is a
healthy one that, after a lead-in, loses its mean ("fade": the signal is worth nothing) or its sign
("flip").

References
----------
.. [1] D. N. Politis, J. P. Romano, "The Stationary Bootstrap", JASA 89 (1994).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from drift.metrics import sharpe
from drift.metrics.cusum import Baseline
from drift.rules import Baselines, Rule, evaluate

__all__ = ["CHANGES", "Delay", "RuleSimulation", "simulate"]

Floats = NDArray[np.float64]
CHANGES = ("fade", "flip")
# Series whose mean is the strategy's skill; the rest (PSI, counts) do not change with it.
SKILL = ("ic", "strategy_return")
MIN_HISTORY = 60
LEAD_IN = 60
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
    """

    rule: Rule
    false_alarm_share: float
    false_alarms_per_year: float
    first_false_alarm: float | None
    delays: Mapping[str, Delay]


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

    Parameters
    ----------
    rules
        Rules on "ic", "ic_5d_avg", "sharpe_Nd", and on any other metric that `history` holds.
    history
        By metric, shape (sessions,), NaN where there is none: "ic", "strategy_return" (from which
        the Sharpe ratios are made), and for instance the PSI of the reference days. All of one
        length, at least 60, or ValueError.
    baselines
        Accepted levels, by metric; those of the history if not given.
    block
        Mean length, in sessions, of the pieces of history that are put together.

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
    watched = [_plain(rule) for rule in rules if _source(rule.metric) in data]
    lead = max([LEAD_IN, *(rule.window + _span(rule.metric) for rule in watched)])
    healthy = _paths(data, accepted, (n_paths, lead + sessions), block, seed)
    states = _opened(watched, healthy, accepted, periods_per_year)
    delays: dict[str, dict[str, Delay]] = {rule.name: {} for rule in watched}
    for change in CHANGES:
        changed = _opened(watched, _changed(healthy, change, lead), accepted, periods_per_year)
        for rule in watched:
            if _source(rule.metric) in SKILL:
                delays[rule.name][change] = _delay(changed[rule.name], lead)
    return [_summary(rule, states[rule.name], lead, delays[rule.name]) for rule in watched]


def _history(history: Mapping[str, ArrayLike]) -> dict[str, Floats]:
    data = {name: np.asarray(values, dtype=np.float64) for name, values in history.items()}
    lengths = {name: len(values) for name, values in data.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the series of a history must be of one length, got {lengths}")
    if min(lengths.values(), default=0) < MIN_HISTORY:
        raise ValueError(f"a simulation needs {MIN_HISTORY} sessions of history, got {lengths}")
    return {name: values for name, values in data.items() if np.isfinite(values).any()}


def _own_baselines(data: Mapping[str, Floats]) -> dict[str, Baseline]:
    spread = {name: np.nanstd(values) for name, values in data.items()}
    return {name: Baseline.fit(data[name], 2) for name in data if spread[name] > 0}


def _plain(rule: Rule) -> Rule:
    """The 5-session mean IC is a metric of the monitor; here it is made from the IC."""
    if rule.metric == "ic_5d_avg" and rule.statistic == "value":
        return replace(rule, metric="ic", statistic="mean", window=5)
    return rule


def _source(metric: str) -> str:
    """The series of the history that a metric is made from."""
    if _SHARPE.fullmatch(metric):
        return "strategy_return"
    return "ic" if metric == "ic_5d_avg" else metric


def _span(metric: str) -> int:
    found = _SHARPE.fullmatch(metric)
    return int(found[1]) if found else 0


def _paths(
    data: Mapping[str, Floats],
    baselines: Mapping[str, Baseline],
    shape: tuple[int, int],
    block: float,
    seed: int,
) -> dict[str, Floats]:
    """Healthy years by metric, shape (paths, sessions)."""
    length = len(next(iter(data.values())))
    drawn = _stationary_bootstrap(length, shape, block, np.random.default_rng(seed))
    healthy = dict(data)
    for name in set(data) & set(SKILL) & set(baselines):
        healthy[name] = data[name] - np.nanmean(data[name]) + baselines[name].mean
    return {name: values[drawn] for name, values in healthy.items()}


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


def _changed(healthy: Mapping[str, Floats], change: str, at: int) -> dict[str, Floats]:
    paths = dict(healthy)
    for name in SKILL:
        if name in paths:
            skilled = paths[name]
            paths[name] = skilled.copy()
            tail = paths[name][:, at:]
            tail[...] = -tail if change == "flip" else tail - np.nanmean(skilled)
    return paths


def _opened(
    rules: list[Rule],
    paths: Mapping[str, Floats],
    baselines: Mapping[str, Baseline],
    periods_per_year: float,
) -> dict[str, NDArray[np.bool_]]:
    """Open or not by rule name, shape (paths, sessions)."""
    series = dict(paths)
    for metric in {rule.metric for rule in rules} - set(paths):
        series[metric] = sharpe.rolling(paths["strategy_return"], _span(metric), periods_per_year)
    levels: dict[str, Baselines] = dict(baselines)
    return {name: s.open for name, s in evaluate(rules, series, levels).states.items()}


def _summary(
    rule: Rule, is_open: NDArray[np.bool_], lead: int, delays: Mapping[str, Delay]
) -> RuleSimulation:
    opened = is_open[:, lead:] & ~is_open[:, lead - 1 : -1]
    first = _first(opened)
    return RuleSimulation(
        rule,
        float(np.isfinite(first).mean()),
        float(opened.sum(axis=1).mean()),
        _finite(np.quantile(first, 0.5, method="higher")),
        delays,
    )


def _delay(is_open: NDArray[np.bool_], lead: int) -> Delay:
    first = _first(is_open[~is_open[:, lead - 1], lead:])
    if not len(first):
        return Delay(None, None, 0.0)
    median, p90 = np.quantile(first, [0.5, 0.9], method="higher")
    return Delay(_finite(median), _finite(p90), float(np.isfinite(first).mean()))


def _first(flags: NDArray[np.bool_]) -> Floats:
    """Number of the first flagged session, from 1, per row; infinite without one."""
    return np.where(flags.any(axis=1), flags.argmax(axis=1) + 1.0, np.inf)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
