"""Planted faults, found through the public interface: when alerts open, and when they close.

    python -m benchmarks.drift.planted --seeds 20 --results planted.jsonl


A market of 60 names with four features made from prices is written to a feature store, served as
signals and judged by a monitor whose reference is the first 150 sessions. A fault begins on session
190. It is repaired on session 210, or never. `--results` appends a line per seed and fault, and a
second run continues where the first one stopped; the tables count all lines of the file.

The healthy sessions of a seed are computed once; each fault starts from a copy of that database.
`--daily` computes the sessions after the fault one by one, each with what is known by then.
"""

from __future__ import annotations

import copy
import json
import statistics
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta, timezone
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks import harness
from benchmarks.drift import markets
from benchmarks.drift.markets import Market
from drift import DriftMonitor
from drift.alerts.lifecycle import Alert
from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.db.uri import DatabaseURI

HOURS = timedelta(hours=8)
# Rules that judge statistics: their alerts may open without a fault.
STATISTICAL = ("ic ", "feature drift", "feature break", "market move", "sharpe ")
DRIFT_WINDOW = 8
# Values, judged as they are; values, judged by rank; ranks, judged as they are.
MARKETS = (("raw", "ranked"), ("ranks served",))
FEATURES = tuple(features for market in MARKETS for features in market)
Key = tuple[str, str, int, str, bool]
STARTED = date(2023, 1, 3)
DECAY = "g"
VERSION = "b"


@dataclass(frozen=True)
class Plan:
    """Session numbers: the reference ends, the fault begins, it is repaired, the last sessions."""

    reference: int = 150
    fault: int = 190
    repair: int = 210
    sessions: int = 225
    # A decay needs more sessions to be seen.
    sessions_of_decay: int = 310
    names: int = 60
    paths: int = 1000

    def of(self, kind: Kind) -> slice:
        """The sessions of the fault."""
        return slice(self.fault, self.repair if kind.repaired else self.end(kind))

    def end(self, kind: Kind) -> int:
        return self.sessions_of_decay if kind.fault == DECAY else self.sessions


@dataclass(frozen=True)
class Kind:
    """One row of the table."""

    fault: str
    repaired: bool


Plant = Callable[[Market, slice], None]


def late_feature(served: Market, sessions: slice) -> None:
    """a: one feature is served one session late; the repair corrects the late sessions."""
    true = served.features["rsi_14"].copy()
    served.features["rsi_14"][sessions] = true[sessions.start - 1 : sessions.stop - 1]


def late_until_fixed(served: Market, sessions: slice) -> None:
    """a-: the same, and the repair corrects no past session."""
    late_feature(served, sessions)


def unit(served: Market, sessions: slice) -> None:
    """d: one feature comes in another unit."""
    served.features["ret_20d"][sessions] *= 100


def stopped(served: Market, sessions: slice) -> None:
    """e: the feature job does not run."""
    for values in served.features.values():
        values[sessions] = np.nan


def clock_late(served: Market, sessions: slice) -> None:
    """f+: event times are eight hours late."""
    served.delay[sessions] = np.timedelta64(HOURS)


def clock_early(served: Market, sessions: slice) -> None:
    """f-: event times are eight hours early."""
    served.delay[sessions] = -np.timedelta64(HOURS)


def decay(served: Market, sessions: slice) -> None:
    """g: the signal loses its skill; nothing is wrong in serving."""
    skilled = markets.VOLATILITY * markets.SKILL * markets.standard(served.signals)
    served.returns[sessions] -= skilled[sessions]


def nothing(served: Market, sessions: slice) -> None:
    """healthy: no fault."""


FAULTS: dict[str, Plant] = {
    "a": late_feature,
    "a-": late_until_fixed,
    "d": unit,
    "e": stopped,
    "f+": clock_late,
    "f-": clock_early,
    DECAY: decay,
    "healthy": nothing,
}
NOT_REPAIRED = (DECAY, "healthy")
# Left as it is, in a trial of its own, is what could be taken for repaired; the others show the
# same on the sessions before their repair.
UNREPAIRED = ("a", VERSION, *NOT_REPAIRED)


@dataclass(frozen=True)
class Outcome:
    """What the alerts did in one market.

    Attributes
    ----------
    delay
        Sessions from the fault to the first alert on a feed: 0 on its first session; None without
        an alert.
    covered
        Whether an alert was open on every session of the fault.
    closed_after
        Sessions from the repair until all alerts on feeds were closed; None if some stayed open.
    rules
        The rules that opened, in order.
    false_alerts
        Alerts on feeds that opened before the fault, or more than one session after the repair.
    drift_closed_after
        The same as `closed_after` of alerts "feature drift" that opened during the fault: five
        sessions are pooled, and three calm ones close it.
    decay
        By rule on the IC: sessions from the decay to the alert, and the median and 90% point that
        `rules simulate` stated before; only of rules that were not open already.
    """

    calendar: str
    features: str
    fault: str
    repaired: bool
    seed: int
    delay: int | None
    covered: bool
    closed_after: int | None
    rules: tuple[str, ...]
    false_alerts: tuple[str, ...] = ()
    drift_closed_after: int | None = None
    decay: Mapping[str, tuple[float | None, float | None, float | None]] = field(
        default_factory=dict
    )

    @property
    def key(self) -> Key:
        return self.calendar, self.features, self.seed, self.fault, self.repaired


@dataclass
class Trial:
    """The healthy history of one seed, in a database that faults copy."""

    plan: Plan
    calendar: str
    seed: int
    features: str
    uri: DatabaseURI
    days: Sequence[date] = ()
    stated: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)

    def key(self, kind: Kind) -> Key:
        return self.calendar, self.features, self.seed, kind.fault, kind.repaired

    @property
    def seeds(self) -> tuple[int, int]:
        """A market of its own for each calendar; raw and ranked features are of the same one."""
        return self.seed, zlib.crc32(self.calendar.encode())

    def monitor(self, uri: DatabaseURI) -> DriftMonitor:
        return DriftMonitor(
            uri,
            "planted",
            calendar=self.calendar,
            tracking_uri=False,
            notify=(),
        )

    def market(self, calendar: TradingCalendar) -> Market:
        count = max(self.plan.sessions, self.plan.sessions_of_decay)
        end = calendar.session_offset(calendar.sessions_in_range(STARTED, STARTED)[0], count - 1)
        days = calendar.sessions_in_range(STARTED, end)
        return self.market_on(calendar, days)

    def market_on(self, calendar: TradingCalendar, days: Sequence[date]) -> Market:
        ranks = self.features == "ranks served"
        return markets.market(self.seeds, calendar, days, self.plan.names, ranks=ranks)

    def record(self) -> None:
        """Record the sessions before the fault, and compute the IC of the reference's."""
        monitor, plan = self.monitor(self.uri), self.plan
        monitor.configure(features=())
        true = self.market(monitor.calendar)
        serve(self.uri, monitor, true, slice(0, plan.fault))
        monitor.backfill(true.days[0], true.days[plan.reference - 1])

    def accept(self) -> None:
        """Accept the reference, and compute the sessions from there to the fault."""
        monitor, plan = self.monitor(self.uri), self.plan
        monitor.configure(features=markets.FEATURES)
        monitor.configure(features="ranked" if self.features == "ranked" else "raw")
        self.days = self.market(monitor.calendar).days
        window = self.days[0], self.days[plan.reference - 1]
        monitor.accept(*window, "planted", min_sessions=min(120, plan.reference))
        monitor.backfill(self.days[plan.reference], self.days[plan.fault - 1])

    def state_delays(self) -> None:
        """State the delays that `rules simulate` gives for a decay, before it comes."""
        self.stated = _stated_delays(self.monitor(self.uri), self.plan.paths)

    def judge(self, uri: DatabaseURI, kind: Kind, *, daily: bool = False) -> Outcome:
        """Plant one fault in a copy of the database, and see what the alerts did."""
        monitor, plan = self.monitor(uri), self.plan
        true = self.market(monitor.calendar)
        served, end = copy.deepcopy(true), plan.end(kind)
        FAULTS[kind.fault](served, plan.of(kind))
        corrected = true if kind == Kind("a", repaired=True) else None
        if daily:
            for at in range(plan.fault, end):
                serve(uri, monitor, served, slice(at, at + 1))
                if corrected is not None and at == plan.repair:
                    _correct(uri, corrected, plan)
                monitor.run_daily(served.days[at])
        else:
            serve(uri, monitor, served, slice(plan.fault, end))
            if corrected is not None:
                _correct(uri, corrected, plan)
            monitor.backfill(served.days[plan.fault], served.days[end - 1])
        return self._outcome(monitor.alerts(), kind)

    def _outcome(self, alerts: Sequence[Alert], kind: Kind) -> Outcome:
        plan, episodes = self.plan, [Episode.of(alert, self.days) for alert in alerts]
        feeds = [e for e in episodes if not e.rule.startswith(STATISTICAL)]
        planted = [e for e in feeds if plan.fault <= e.begin <= plan.repair + 1]
        drifts = [
            e
            for e in episodes
            if e.rule == "feature drift" and plan.fault <= e.begin <= plan.repair
        ]
        return Outcome(
            self.calendar,
            self.features,
            kind.fault,
            kind.repaired,
            self.seed,
            delay=min((e.begin - plan.fault for e in planted), default=None),
            covered=all(any(e.covers(at) for e in planted) for at in _range(plan.of(kind))),
            closed_after=_closed(planted, plan) if kind.repaired else None,
            rules=tuple(dict.fromkeys(e.rule for e in planted)),
            false_alerts=tuple(e.rule for e in feeds if e not in planted),
            drift_closed_after=_closed(drifts, plan),
            decay=self._decay(episodes) if kind.fault == DECAY else {},
        )

    def _decay(
        self, episodes: Sequence[Episode]
    ) -> dict[str, tuple[float | None, float | None, float | None]]:
        result = {}
        for rule, stated in self.stated.items():
            of_rule = [e for e in episodes if e.rule == rule]
            if not any(e.covers(self.plan.fault - 1) for e in of_rule):
                later = [e.begin - self.plan.fault + 1.0 for e in of_rule]
                delay = min((n for n in later if n > 0), default=None)
                result[rule] = (delay, *stated)
        return result


@dataclass(frozen=True)
class Episode:
    """An alert in session numbers; `end` is the session on which it resolved."""

    rule: str
    begin: int
    end: int | None

    @classmethod
    def of(cls, alert: Alert, days: Sequence[date]) -> Episode:
        position = {day: number for number, day in enumerate(days)}
        resolved = alert.resolved_session
        return cls(alert.rule, position[alert.session], position[resolved] if resolved else None)

    def covers(self, at: int) -> bool:
        return self.begin <= at and (self.end is None or at < self.end)


def _closed(episodes: Iterable[Episode], plan: Plan) -> int | None:
    ends = [e.end for e in episodes]
    if any(end is None for end in ends):
        return None
    return max(0, max((end for end in ends if end is not None), default=0) - plan.repair)


def _range(sessions: slice) -> range:
    return range(sessions.start, sessions.stop)


def serve(uri: DatabaseURI, monitor: DriftMonitor, served: Market, sessions: slice) -> None:
    """Write the features, record the signals, and the returns that they led to."""
    _signal(uri, monitor, served, sessions)
    markets.record_returns(monitor, served, sessions)


def _signal(uri: DatabaseURI, monitor: DriftMonitor, served: Market, sessions: slice) -> None:
    markets.write_features(uri, served, sessions)
    markets.record_signals(monitor, served, sessions)


def _correct(uri: DatabaseURI, true: Market, plan: Plan) -> None:
    known = true.closes[plan.repair] - np.timedelta64(1, "h")
    markets.correct_feature(uri, true, "rsi_14", slice(plan.fault, plan.repair), known)


def _stated_delays(
    monitor: DriftMonitor, paths: int
) -> dict[str, tuple[float | None, float | None]]:
    rules = [rule for rule in monitor.rules if rule.name.startswith("ic ")]
    stated = {s.rule.name: s.delays["fade"] for s in monitor.simulate(rules, n_paths=paths)}
    return {name: (fade.median, fade.p90) for name, fade in stated.items()}


def wrong_version(uri: DatabaseURI, trial: Trial) -> Iterator[Outcome]:
    """b: the last session is served by version 2 while 1 is champion, and then by 1 again.

    The registry keeps its history from now on, so that the fault lies on the last session that has
    closed. No statistic is involved: no session before it is needed.
    """
    monitor = trial.monitor(uri)
    monitor.configure()
    days = monitor.calendar.last_sessions(2, datetime.now(timezone.utc))
    served = trial.market_on(monitor.calendar, days)
    served.model, served.version = "mom", "2"
    last = slice(1, 2)
    markets.record_signals(monitor, served, last)
    first, again = (_open_feeds(monitor, days[-1]) for _ in range(2))
    yield _of_version(trial, first, again, None)
    served.version = "1"
    served.closes = served.closes + np.timedelta64(1, "m")
    markets.record_signals(monitor, served, last)
    yield _of_version(trial, first, again, _open_feeds(monitor, days[-1]))


def _of_version(
    trial: Trial,
    first: tuple[str, ...],
    again: tuple[str, ...],
    after: tuple[str, ...] | None,
) -> Outcome:
    others = {*first, *again, *(after or ())} - {"version"}
    return Outcome(
        trial.calendar,
        trial.features,
        VERSION,
        after is not None,
        trial.seed,
        delay=0 if "version" in first else None,
        covered="version" in first and "version" in again,
        closed_after=None if after is None or "version" in after else 0,
        rules=first,
        false_alerts=tuple(others),
    )


def register(uri: DatabaseURI) -> None:
    """A model with two versions, of which the first is champion."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri.url, registry_uri=uri.url)
    client.create_registered_model("mom")
    for _ in range(2):
        client.create_model_version("mom", "file:///models/mom")
    client.set_registered_model_alias("mom", "champion", "1")


def _open_feeds(monitor: DriftMonitor, session: date) -> tuple[str, ...]:
    monitor.run_daily(session)
    rules = [alert.rule for alert in monitor.alerts(states=["open"])]
    return tuple(rule for rule in rules if not rule.startswith(STATISTICAL))


# Tables


def read(results: Path) -> list[Outcome]:
    """The outcomes that earlier runs appended."""
    if not results.exists():
        return []
    return [Outcome(**json.loads(line)) for line in results.read_text("utf-8").splitlines()]


def report(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The tables, in Markdown."""
    groups: dict[tuple[str, str], dict[Kind, list[Outcome]]] = defaultdict(dict)
    for o in outcomes:
        kinds = groups[o.calendar, o.features]
        kinds.setdefault(Kind(o.fault, o.repaired), []).append(o)
    for (calendar, features), kinds in groups.items():
        yield f"\n## {calendar}, features {features}\n"
        yield (
            "| fault | seeds | first session | open to the repair, or the last session | closed "
            "| drift closed | false alerts | rules |"
        )
        yield "|---|--:|--:|--:|--:|--:|--:|---|"
        for kind, of_kind in sorted(
            kinds.items(), key=lambda item: (item[0].fault, item[0].repaired)
        ):
            if kind.fault != DECAY:
                yield _row(kind, of_kind)
    decays = [o for o in outcomes if o.fault == DECAY]
    if decays:
        yield from _decay_table(decays)


def _row(kind: Kind, outcomes: Sequence[Outcome]) -> str:
    false = sum(len(o.false_alerts) for o in outcomes)
    label = kind.fault if kind.repaired or kind.fault == "healthy" else f"{kind.fault}, unrepaired"
    if kind.fault == "healthy":
        alarms = sum(o.delay is not None for o in outcomes)
        return f"| {label} | {len(outcomes)} | | | | | {false + alarms} | |"
    first = sum(o.delay == 0 for o in outcomes)
    covered = sum(o.covered for o in outcomes)
    closed = sum(o.closed_after in (0, 1) for o in outcomes)
    rules = dict.fromkeys(rule for o in outcomes for rule in o.rules)
    in_window = sum(o.drift_closed_after in range(DRIFT_WINDOW + 1) for o in outcomes)
    after = (closed, "" if kind.fault == VERSION else in_window) if kind.repaired else ("", "")
    cells = (label, len(outcomes), first, covered, *after, false)
    return f"| {' | '.join(map(str, cells))} | {', '.join(rules)} |"


def _decay_table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "\n## Decay\n"
    yield (
        "| rule | markets | stated: median, 90% | seen: median | within the stated median "
        "| within the stated 90% |"
    )
    yield "|---|--:|--:|--:|--:|--:|"
    for rule in dict.fromkeys(rule for o in outcomes for rule in o.decay):
        found = [o.decay[rule] for o in outcomes if rule in o.decay]
        late = float("inf")
        seen, medians, tails = (
            [late if value is None else value for value in column]
            for column in zip(*found, strict=True)
        )
        within = sum(s <= m for s, m in zip(seen, medians, strict=True))
        within_tail = sum(s <= m for s, m in zip(seen, tails, strict=True))
        yield (
            f"| {rule} | {len(found)} | {statistics.median(medians):.0f}, "
            f"{statistics.median(tails):.0f} | {statistics.median(seen):.0f} | {within} "
            f"| {within_tail} |"
        )


def kinds(faults: Sequence[str], features: str) -> list[Kind]:
    """Each fault repaired, and those left as they are; faults without features for raw ones."""
    if features != "raw":
        faults = [fault for fault in faults if fault not in (VERSION, DECAY)]
    repaired = [Kind(fault, True) for fault in faults if fault not in NOT_REPAIRED]
    return [*repaired, *(Kind(fault, False) for fault in faults if fault in UNREPAIRED)]


def run(
    server: DatabaseURI,
    trials: Sequence[Trial],
    registry: DatabaseURI,
    chosen: Callable[[Trial], Sequence[Kind]],
    *,
    daily: bool = False,
) -> Iterator[Outcome]:
    """The faults in one market, which its trials judge by values or by ranks.

    Each starts from a copy of the healthy history; b from a copy of `registry`.
    """
    if not any(map(chosen, trials)):
        return
    with harness.new_database(server) as recorded:
        trials[0].uri = recorded
        trials[0].record()
        for trial in trials:
            kinds = chosen(trial)
            if any(kind.fault == VERSION for kind in kinds):
                with harness.new_database(server, template=registry) as uri:
                    yield from wrong_version(uri, trial)
            with harness.new_database(server, template=recorded) as trial.uri:
                trial.accept()
                if any(kind.fault == DECAY for kind in kinds):
                    trial.state_delays()
                for kind in kinds:
                    if kind.fault != VERSION:
                        with harness.new_database(server, template=trial.uri) as uri:
                            yield trial.judge(uri, kind, daily=daily)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--calendars", nargs="+", default=["XNYS", "XSHG"])
    parser.add_argument("--features", nargs="+", choices=FEATURES, default=FEATURES)
    parser.add_argument("--faults", nargs="+", default=[VERSION, *FAULTS])
    parser.add_argument("--daily", action="store_true")
    parser.add_argument("--results", type=Path, help="a file that results are appended to")
    given = parser.parse_args()
    results = given.results or Path(tempfile.mkdtemp()) / "planted.jsonl"
    with (
        harness.server(given.uri, durable=False) as server,
        harness.new_database(server) as registry,
    ):
        register(registry)
        for seed, calendar in product(range(given.seeds), given.calendars):
            for market in MARKETS:
                trials = [
                    Trial(Plan(), calendar, seed, features, server)
                    for features in market
                    if features in given.features
                ]
                present = {o.key for o in read(results)}

                def chosen(trial: Trial, present: Container[Key] = present) -> list[Kind]:
                    every = kinds(given.faults, trial.features)
                    return [kind for kind in every if trial.key(kind) not in present]

                for outcome in run(server, trials, registry, chosen, daily=given.daily):
                    with results.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(outcome)) + "\n")
    print("\n".join(report(read(results))))


if __name__ == "__main__":
    main()
