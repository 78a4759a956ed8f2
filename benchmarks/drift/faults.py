"""Alarms of the presets on a healthy market, and their delays on six seeded faults.

    python -m benchmarks.drift.faults


A panel of names x features with common shocks (AR(1) in time, as markets have), a signal that is
one of the features, returns that follow it. Of the features one is a flag, one is computed every
fifth session only, and one lacks 2% of its values. One reference year, then a year that stays
healthy or breaks at its start. Counted over several seeds: alarms in the healthy year, sessions
until a fault is seen, by which rule.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from benchmarks import harness
from drift.alerts.presets import PRESETS
from drift.alerts.rules import evaluate
from drift.metrics import feed_quality, ic, psi, sharpe
from drift.metrics.cusum import Baseline

UNIVERSES = (500, 20)
FEATURES, YEAR, FAULT_SESSIONS = 20, 250, 60
FLAG, WEEKLY, SPARSE = 2, 3, 4  # features that are not what PSI is made for
# Standard deviation of the common shock, in units of a name's own: none is what features have that
# are standardised across names each session.
COMMON = (0.0, 0.15)
PERSISTENCE = 0.9
SKILL = 0.03
SEEDS = 6
FAULTS = (
    "mean shift 0.5 sd",
    "scale x 1.5",
    "one feature constant",
    "missing for 30% of names",
    "sign flip of the signal",
    "features shifted by one day",
)


@dataclass
class Market:
    """Sessions x names x features, with the signal and the return that followed."""

    features: np.ndarray
    signal: np.ndarray
    returns: np.ndarray


def market(generator: np.random.Generator, sessions: int, names: int, common: float) -> Market:
    shock = np.zeros((sessions, FEATURES))
    own = np.zeros((sessions, names, FEATURES), dtype=np.float32)
    fresh = (1 - PERSISTENCE**2) ** 0.5
    for t in range(sessions):
        previous = max(t - 1, 0)
        shock[t] = PERSISTENCE * shock[previous] + fresh * generator.normal(0, common, FEATURES)
        step = generator.normal(size=(names, FEATURES))
        own[t] = PERSISTENCE * own[previous] + fresh * step if t else step
    features = own + shock[:, None, :]
    features[:, :, FLAG] = features[:, :, FLAG] > 1
    features[:, :, WEEKLY] = features[np.arange(sessions) // 5 * 5, :, WEEKLY]
    features[:, :, SPARSE][generator.random((sessions, names)) < 0.02] = np.nan
    signal = features[:, :, 0].astype(float)
    skill = generator.normal(SKILL, 0.08, (sessions, 1))
    returns = 0.01 * (skill * stats_z(signal) + generator.normal(size=signal.shape))
    return Market(features, signal, returns)


def stats_z(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)


def broken(healthy: Market, fault: str, generator: np.random.Generator) -> Market:
    """The same market seen through a fault in feature 1 (or in the signal)."""
    features, signal = healthy.features.copy(), healthy.signal.copy()
    if fault == "mean shift 0.5 sd":
        features[YEAR:, :, 1] += 0.5
    elif fault == "scale x 1.5":
        features[YEAR:, :, 1] *= 1.5
    elif fault == "one feature constant":
        features[YEAR:, :, 1] = 0.0
    elif fault == "missing for 30% of names":
        features[YEAR:, generator.random(features.shape[1]) < 0.3, 1] = np.nan
    elif fault == "sign flip of the signal":
        signal[YEAR:] *= -1
    elif fault == "features shifted by one day":
        features[YEAR:] = healthy.features[YEAR - 1 : -1]
        signal[YEAR:] = healthy.signal[YEAR - 1 : -1]
    return Market(features, signal, healthy.returns)


def monitored(seen: Market) -> dict[str, np.ndarray]:
    """The metrics of the presets, one value per session."""
    sessions = len(seen.signal)
    series = {"ic": ic.rank_ic_matrix(seen.signal, seen.returns).value}
    portfolio = np.nanmean(stats_z(seen.signal) * seen.returns, axis=1)
    for window in (20, 60):
        series[f"sharpe_{window}d"] = sharpe.rolling(portfolio, window)
    days = np.repeat(np.arange(YEAR), seen.signal.shape[1])
    references = [psi.fit(seen.features[:YEAR, :, f].ravel(), days=days) for f in range(FEATURES)]
    day, week = [], []
    recent: list[list[psi.PSIResult]] = []
    for t in range(sessions):
        before = dict(enumerate_names(recent[-1])) if recent else None
        recent = [*recent, psi.psi_batch(references, seen.features[t].T)][-psi.POOLED_SESSIONS :]
        day.append(psi.session_psi(dict(enumerate_names(recent[-1])), before=before))
        pooled = [
            psi.psi_from_counts(r, np.sum([d[f].counts for d in recent], axis=0), sessions=5)
            for f, r in enumerate(references)
        ]
        week.append(psi.session_psi(dict(enumerate_names(pooled))).ratio)
    series["psi_max"] = np.array([d.value for d in day], dtype=float)
    series["psi_ratio"] = np.array([d.ratio for d in day], dtype=float)
    series["psi_shared_ratio"] = np.array([d.shared for d in day], dtype=float)
    series["psi_5d_ratio"] = np.array(week, dtype=float)
    return series | feed_metrics(seen)


def feed_metrics(seen: Market) -> dict[str, np.ndarray]:
    """The worst feature's excess of each kind, one value per session."""
    watched = [seen.signal, *np.moveaxis(seen.features.astype(float), 2, 0)]
    by_feature = []
    for values in watched:
        own = [feed_quality.prints(np.arange(len(row)), row) for row in values]
        shares = list(map(feed_quality.shares, values, own, [None, *own[:-1]]))
        habits = feed_quality.Habits.fit(shares[:YEAR])
        by_feature.append(
            [
                [
                    feed_quality.excess(getattr(s, kind), getattr(habits, kind))
                    for kind in feed_quality.KINDS
                ]
                for s in shares
            ]
        )
    worst = np.fmax.reduce(np.array(by_feature), axis=0)
    return {f"{kind}_excess": worst[:, i] for i, kind in enumerate(feed_quality.KINDS)}


def enumerate_names(results: list[psi.PSIResult]) -> Iterator[tuple[str, psi.PSIResult]]:
    return ((f"f{i}", result) for i, result in enumerate(results))


def judged(series: dict[str, np.ndarray], preset: str) -> dict[str, np.ndarray]:
    """Open or not after the reference year, by rule."""
    level = {"ic": Baseline.fit(series["ic"][:YEAR])}
    after = {name: values[YEAR:] for name, values in series.items()}
    return {name: s.open for name, s in evaluate(PRESETS[preset](), after, level).states.items()}


def healthy_years(names: int, common: float, seeds: int) -> None:
    print(f"\n## A healthy year, {names} names, common shock {common} sd\n")
    print("| preset | rule | alarms | years with one | open |")
    print("|---|---|---|---|---|")
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for seed in range(seeds):
        series = monitored(market(np.random.default_rng(seed), 2 * YEAR, names, common))
        for preset in PRESETS:
            for rule, is_open in judged(series, preset).items():
                opened = int((np.diff(is_open.astype(int), prepend=0) > 0).sum())
                found.setdefault((preset, rule), []).append((opened, float(is_open.mean())))
    for (preset, rule), counts in found.items():
        opened, share = zip(*counts, strict=True)
        some = f"{sum(count > 0 for count in opened)}/{len(counts)}"
        means = f"{statistics.mean(opened):.1f} | {some} | {statistics.mean(share):.0%}"
        print(f"| {preset} | {rule} | {means} |", flush=True)


def faulty_years(names: int, common: float, seeds: int) -> None:
    print(f"\n## Sessions until a fault is detected, {names} names, common shock {common} sd\n")
    print("| fault | preset | first rule | sessions | detected |\n|---|---|---|---|---|")
    for fault in FAULTS:
        delays: dict[tuple[str, str], list[float]] = {}
        for seed in range(100, 100 + seeds):
            generator = np.random.default_rng(seed)
            healthy = market(generator, YEAR + FAULT_SESSIONS, names, common)
            series = monitored(broken(healthy, fault, generator))
            for preset in PRESETS:
                for rule, is_open in judged(series, preset).items():
                    delay = is_open.argmax() + 1 if is_open.any() else np.inf
                    delays.setdefault((preset, rule), []).append(float(delay))
        for preset in PRESETS:
            ranked = sorted(
                (statistics.median(d), rule, d) for (p, rule), d in delays.items() if p == preset
            )
            median, rule, all_delays = ranked[0]
            seen = f"{sum(np.isfinite(all_delays))}/{seeds}"
            first = f"{rule} | {median:.0f}" if np.isfinite(median) else "none | never"
            print(f"| {fault} | {preset} | {first} | {seen} |", flush=True)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--names", type=int, nargs="+", default=UNIVERSES)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    given = parser.parse_args()
    for names, common in product(given.names, COMMON):
        healthy_years(names, common, given.seeds)
        faulty_years(names, common, given.seeds)


if __name__ == "__main__":
    main()
