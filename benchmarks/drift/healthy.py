"""Alerts of healthy strategies, counted against what `rules simulate` stated beforehand.

    python -m benchmarks.drift.healthy --years 200 --results healthy.jsonl


Each strategy signals from features of a market of its own. Its first 250 sessions are accepted, its
rules are simulated from them, and the next two years are computed through the public interface and
stay healthy. The table compares, for each rule, the alerts that opened with the sum of the stated
rates, and with the 95% interval of a Poisson distribution of that mean. `--results` appends a line
per strategy, and a second run continues where the first one stopped.

`--series` counts the rules on IC, returns and raw features for more strategies, in memory: the same
functions, rules and simulation, without a database.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks import harness
from benchmarks.drift import markets, series
from drift import DriftMonitor
from drift.alerts.presets import default
from drift.alerts.rules import Baseline, evaluate
from drift.alerts.simulation import simulate
from drift.metrics import ic, sharpe
from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.db.uri import DatabaseURI

ACCEPTED, YEAR, YEARS = 250, 252, 2
NAMES, PATHS = 60, 1000
STARTED = date(2015, 1, 2)
FEATURES = ("raw", "ranked")
IN_MEMORY = "raw, in memory"


@dataclass(frozen=True)
class Strategy:
    """One strategy: alarms a year as stated, alerts as counted in `years`, by rule.

    `stated` is None for a rule that could not be simulated, `critical` names the rules that are
    more severe than a warning, `operation` those that depend only on how the feeds are run.
    """

    features: str
    seed: int
    years: float
    stated: Mapping[str, float | None]
    counted: Mapping[str, int]
    critical: Sequence[str]
    operation: Sequence[str]


def healthy(server: DatabaseURI, seed: int, chosen: Sequence[str] = FEATURES) -> Iterator[Strategy]:
    """Accept the first sessions of one strategy, simulate its rules, and count what opens.

    Once with values of features, and once with their ranks, each in a copy of the record.
    """
    with harness.new_database(server) as recorded:
        monitor = _monitor(recorded)
        # Judging the reference's sessions by themselves would not change the reference.
        monitor.configure(features=())
        days = _days(monitor)
        market = markets.market((seed, 0), monitor.calendar, days, NAMES)
        markets.write_features(recorded, market)
        markets.record_signals(monitor, market)
        markets.record_returns(monitor, market, profits=True)
        monitor.backfill(days[0], days[ACCEPTED - 1])
        for features in chosen:
            with harness.new_database(server, template=recorded) as uri:
                yield _counted(_monitor(uri), days, features, seed)


def _monitor(uri: DatabaseURI) -> DriftMonitor:
    return DriftMonitor(uri, "healthy", calendar="XNYS", tracking_uri=False, notify=())


def _counted(monitor: DriftMonitor, days: Sequence[date], features: str, seed: int) -> Strategy:
    monitor.configure(features=markets.FEATURES)
    monitor.configure(features=features)
    monitor.accept(days[0], days[ACCEPTED - 1], "healthy")
    simulations = monitor.simulate(n_paths=PATHS)
    monitor.backfill(days[ACCEPTED], days[-1])
    return Strategy(
        features,
        seed,
        (len(days) - ACCEPTED) / YEAR,
        {s.rule.name: None if s.reason else s.false_alarms_per_year for s in simulations},
        dict(Counter(a.rule for a in monitor.alerts() if a.session >= days[ACCEPTED])),
        [rule.name for rule in monitor.rules if rule.severity != "warning"],
        [s.rule.name for s in simulations if s.basis == "operation"],
    )


def of_series(seed: int) -> Strategy:
    """The rules on IC, returns and raw features of one strategy, in memory."""
    calendar = TradingCalendar("XNYS")
    last = calendar.session_offset(STARTED, ACCEPTED + YEARS * YEAR - 1)
    days = calendar.sessions_in_range(STARTED, last)
    market = markets.market((seed, 0), calendar, days, NAMES)
    history = {
        "ic": ic.rank_ic_matrix(market.signals, market.returns).value,
        "strategy_return": market.profits,
    }
    of_features, features_later = series.of_features(market, ACCEPTED)
    watched = {"ic", "sharpe_60d", *of_features}
    rules = [rule for rule in default() if rule.metric in watched]
    level = {"ic": Baseline.fit(history["ic"][:ACCEPTED])}
    accepted = {name: values[:ACCEPTED] for name, values in history.items()} | of_features
    simulations = simulate(rules, accepted, level, n_paths=PATHS)
    later = {
        "ic": history["ic"][ACCEPTED:],
        "sharpe_60d": sharpe.rolling(history["strategy_return"], 60)[ACCEPTED:],
        **features_later,
    }
    opened = evaluate(rules, later, level).transitions()
    return Strategy(
        IN_MEMORY,
        seed,
        YEARS,
        {s.rule.name: s.false_alarms_per_year for s in simulations},
        dict(Counter(t.rule.name for t in opened if t.state == "open")),
        [rule.name for rule in rules if rule.severity != "warning"],
        [],
    )


def _days(monitor: DriftMonitor) -> Sequence[date]:
    first = monitor.calendar.sessions_in_range(STARTED, STARTED)[0]
    last = monitor.calendar.session_offset(first, ACCEPTED + YEARS * YEAR - 1)
    return monitor.calendar.sessions_in_range(first, last)


# Tables


def read(results: Path) -> list[Strategy]:
    """The strategies that earlier runs appended."""
    if not results.exists():
        return []
    return [Strategy(**json.loads(line)) for line in results.read_text("utf-8").splitlines()]


def report(strategies: Sequence[Strategy]) -> Iterator[str]:
    """The tables, in Markdown."""
    for features in dict.fromkeys(strategy.features for strategy in strategies):
        chosen = [strategy for strategy in strategies if strategy.features == features]
        years = sum(strategy.years for strategy in chosen)
        yield f"\n## Features {features}: {len(chosen)} strategies, {years:.0f} strategy-years\n"
        yield "| rule | severity | basis | stated | counted | 95% interval | within | dispersion |"
        yield "|---|---|---|--:|--:|--:|---|--:|"
        rules = dict.fromkeys(rule for strategy in chosen for rule in strategy.stated)
        yield from (_row(rule, chosen) for rule in rules)


def _row(rule: str, strategies: Sequence[Strategy]) -> str:
    basis = "operation" if any(rule in s.operation for s in strategies) else "history"
    severity = "critical" if any(rule in s.critical for s in strategies) else "warning"
    simulated = [s for s in strategies if s.stated.get(rule) is not None]
    counts = np.array([s.counted.get(rule, 0) for s in simulated])
    if not simulated:
        counted = sum(s.counted.get(rule, 0) for s in strategies)
        return f"| {rule} | {severity} | not simulated | | {counted} | | | |"
    rates = np.array([(s.stated[rule] or 0.0) * s.years for s in simulated])
    low, high = stats.poisson.interval(0.95, rates.sum())
    within = "yes" if low <= counts.sum() <= high else "NO"
    spread = f"{((counts - rates) ** 2).sum() / rates.sum():.1f}" if rates.sum() > 1 else ""
    cells = f"{rates.sum():.1f} | {counts.sum()} | {max(low, 0):.0f} to {high:.0f} | {within}"
    return f"| {rule} | {severity} | {basis} | {cells} | {spread} |"


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--years", type=int, default=200, help="strategy-years of each kind")
    parser.add_argument("--features", nargs="+", choices=FEATURES, default=FEATURES)
    parser.add_argument("--series", type=int, default=0, help="strategies without a database")
    parser.add_argument("--results", type=Path, help="a file that results are appended to")
    given = parser.parse_args()
    results = given.results or Path(tempfile.mkdtemp()) / "healthy.jsonl"
    with harness.server(given.uri, durable=False) as server:
        for seed in range(-(-given.years // YEARS)):
            present = {strategy.features for strategy in read(results) if strategy.seed == seed}
            missing = [features for features in given.features if features not in present]
            if missing:
                lines = [json.dumps(asdict(s)) + "\n" for s in healthy(server, seed, missing)]
                with results.open("a", encoding="utf-8") as file:
                    file.writelines(lines)
    in_memory = {s.seed for s in read(results) if s.features == IN_MEMORY}
    for seed in range(given.series):
        if seed not in in_memory:
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(of_series(seed))) + "\n")
    print("\n".join(report(read(results))))


if __name__ == "__main__":
    main()
