"""The drift numerics beside scipy and alphalens, in one run.

    python -m benchmarks.drift.numerics


Needs nothing but the project; with alphalens-reloaded installed, its IC is timed as well.
Contenders take turns, each run follows a gc.collect(), results are compared, and medians reported:
CPU seconds, as all of them run on one core and the machine may be shared.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks import harness
from drift.alerts.presets import classic, default
from drift.alerts.simulation import simulate
from drift.metrics import cusum, ic, psi, sharpe

FEATURES, NAMES, REFERENCE_SESSIONS = 500, 5_000, 60
SIGNALS = 200
BACKFILL_SESSIONS, BACKFILL_NAMES = 250, 500
GENERATOR = np.random.default_rng(0)


def contest(title: str, contenders: dict[str, Callable[[], Any]], rounds: int = 3) -> list[str]:
    """Time the contenders in turn; the first is ours, the others are given as multiples of it."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    results: dict[str, Any] = {}
    for _ in range(rounds):
        for name, run in contenders.items():
            call = partial(_keep, results, name, run)
            times[name].append(harness.seconds(lambda _: call(), clock=time.process_time))  # noqa: B023
    ours = statistics.median(next(iter(times.values())))
    _agree(title, results)
    rows = []
    for name, measured in times.items():
        median = statistics.median(measured)
        rows.append(f"| {title} | {name} | {median:.4f} | {median / ours:.1f} |")
        print(rows[-1], flush=True)
    return rows


def _keep(results: dict[str, Any], name: str, run: Callable[[], Any]) -> None:
    results[name] = run()


def _agree(title: str, results: dict[str, Any]) -> None:
    ours, *others = (np.asarray(values, dtype=float) for values in results.values())
    for name, values in zip(list(results)[1:], others, strict=True):
        difference = float(np.nanmax(np.abs(values - ours)))
        if difference > 1e-9:
            raise SystemExit(f"{title}: {name} differs by {difference:.2e}")


def psi_of_a_day(features: int, names: int) -> dict[str, Callable[[], Any]]:
    window = GENERATOR.normal(size=(features, REFERENCE_SESSIONS * names)).astype(np.float32)
    today = GENERATOR.normal(0.05, 1.1, size=(features, names)).astype(np.float32).astype(float)
    references = [psi.fit(row) for row in window]
    return {
        "ours, stored reference": lambda: [r.value for r in psi.psi_batch(references, today)],
        "numpy loop, stored edges": lambda: [
            _psi_of(np.array(r.counts[:-1]), np.array(r.edges), row)
            for r, row in zip(references, today, strict=True)
        ],
        "numpy loop, deciles recomputed": lambda: [
            _psi_with_new_edges(old, row) for old, row in zip(window, today, strict=True)
        ],
    }


def _psi_with_new_edges(window: np.ndarray, row: np.ndarray) -> float:
    edges = np.quantile(window.astype(float), np.arange(1, 10) / 10)
    return _psi_of(np.bincount(np.searchsorted(edges, window), minlength=10), edges, row)


def _psi_of(expected: np.ndarray, edges: np.ndarray, row: np.ndarray) -> float:
    current = np.bincount(np.searchsorted(edges, row), minlength=10)
    p = (expected + 0.5) / (expected.sum() + 5)
    q = (current + 0.5) / (current.sum() + 5)
    return float(((q - p) * np.log(q / p)).sum())


def ic_of_a_day(signal_count: int, names: int) -> dict[str, Callable[[], Any]]:
    returns = GENERATOR.normal(size=names)
    signals = GENERATOR.normal(size=(signal_count, names)) + 0.05 * returns
    frame, series = pd.DataFrame(signals.T), pd.Series(returns)
    return {
        "ours": lambda: ic.rank_ic_matrix(signals, returns).value,
        "pandas corrwith": lambda: frame.corrwith(series, method="spearman").to_numpy(),
        "scipy loop": lambda: [stats.spearmanr(row, returns).statistic for row in signals],
    }


def ic_of_a_day_with_gaps(signal_count: int, names: int) -> dict[str, Callable[[], Any]]:
    returns = GENERATOR.normal(size=names)
    signals = GENERATOR.normal(size=(signal_count, names)) + 0.05 * returns
    signals[GENERATOR.random(signals.shape) < 0.05] = np.nan
    return {
        "ours": lambda: ic.rank_ic_matrix(signals, returns).value,
        "scipy loop": lambda: [
            stats.spearmanr(row, returns, nan_policy="omit").statistic for row in signals
        ],
    }


def ic_of_a_backfill() -> dict[str, Callable[[], Any]]:
    shape = (BACKFILL_SESSIONS, BACKFILL_NAMES)
    returns = GENERATOR.normal(size=shape)
    signals = GENERATOR.normal(size=shape) + 0.05 * returns
    found: dict[str, Callable[[], Any]] = {
        "ours": lambda: ic.rank_ic_matrix(signals, returns).value,
        "scipy loop": lambda: [
            stats.spearmanr(a, b).statistic for a, b in zip(signals, returns, strict=True)
        ],
    }
    try:
        from alphalens.performance import factor_information_coefficient
    except ImportError:
        return found
    days = pd.bdate_range("2020-01-01", periods=BACKFILL_SESSIONS, name="date")
    index = pd.MultiIndex.from_product([days, range(BACKFILL_NAMES)], names=["date", "asset"])
    frame = pd.DataFrame({"1D": returns.ravel(), "factor": signals.ravel()}, index=index)
    found["alphalens"] = lambda: factor_information_coefficient(frame)["1D"].to_numpy()
    return found


def sharpe_of_many_series() -> dict[str, Callable[[], Any]]:
    returns = GENERATOR.normal(0.001, 0.01, size=(200, 2520))
    frame = pd.DataFrame(returns.T)
    return {
        "ours": lambda: sharpe.rolling(returns, 60),
        "pandas rolling": lambda: (
            (frame.rolling(60).mean() / frame.rolling(60).std()).to_numpy().T * 252**0.5
        ),
    }


def rules_simulated() -> dict[str, Callable[[], Any]]:
    history = {
        "ic": GENERATOR.normal(0.03, 0.08, 750),
        "strategy_return": GENERATOR.normal(0.001, 0.012, 750),
    }
    rules = (*classic(), *default())[:-3]
    unique = {rule.name: rule for rule in rules}
    return {
        f"ours, 4,000 years, {len(unique)} rules, 3 cases": lambda: [
            r.false_alarm_share for r in simulate(unique.values(), history)
        ]
    }


def onset_dated() -> dict[str, Callable[[], Any]]:
    series = GENERATOR.normal(0.05, 0.08, 500)
    series[400:] -= 0.08
    level = cusum.Baseline.fit(series[:250])

    def dated() -> int:
        found = cusum.onset(series, level)
        assert found is not None
        return found.index

    return {"ours, 999 bootstrap series": dated}


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--features", type=int, default=FEATURES)
    parser.add_argument("--names", type=int, default=NAMES)
    parser.add_argument("--signals", type=int, default=SIGNALS)
    given = parser.parse_args()
    features, names, signals = given.features, given.names, given.signals
    warnings.filterwarnings("ignore")
    print("| what | who | CPU seconds | x ours |\n|---|---|---|---|")
    contest(f"PSI, {features} features x {names:,} names", psi_of_a_day(features, names))
    contest(f"rank IC, {signals} signals x {names:,} names", ic_of_a_day(signals, names))
    contest("the same, 5% missing", ic_of_a_day_with_gaps(signals, names))
    contest(f"rank IC, {BACKFILL_SESSIONS} sessions x {BACKFILL_NAMES} names", ic_of_a_backfill())
    contest("60-session Sharpe, 200 series x 10 years", sharpe_of_many_series())
    contest("simulation of the presets", rules_simulated())
    contest("onset with its interval, 500 sessions", onset_dated())


if __name__ == "__main__":
    main()
