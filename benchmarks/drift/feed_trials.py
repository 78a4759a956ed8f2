"""A market with a healthy past in a database, and what the alerts do when a fault is planted."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timezone

import numpy as np

from benchmarks.drift import markets
from benchmarks.drift.feed_faults import DECAY, FAULTS, VERSION, Kind, Plan
from benchmarks.drift.markets import Market
from drift import DriftMonitor
from drift.alerts.lifecycle import Alert
from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.db.uri import DatabaseURI

# Rules that judge statistics: their alerts may open without a fault.
STATISTICAL = ("ic ", "feature drift", "feature break", "market move", "sharpe ")
Key = tuple[str, str, int, str, bool]
STARTED = date(2023, 1, 3)


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
