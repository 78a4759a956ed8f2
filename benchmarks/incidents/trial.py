"""One strategy in a database: its healthy past, and one planted fault, session by session.

The healthy past of a seed is recorded once; each fault starts from a copy of that database. Only
public calls look for the fault: `Serving.record`, `FeatureStore`, `DriftMonitor`. One thing is set
up by SQL: the registry's history, which begins when the benchmark runs, is dated back to the first
session, as if the champion had been promoted then.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient

from benchmarks.incidents import diagnosis, statistics
from benchmarks.incidents.faults import FAULTS, SESSIONS, Planted, Served
from benchmarks.incidents.market import FEATURES, market, output
from drift import DriftMonitor, Serving
from drift.alerts.lifecycle import Alert
from feature_store import FeatureStore
from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI

STRATEGY, MODEL = "momentum", "momentum_gbm"
REFERENCE, FAULT = 100, 110
DECAY, LENGTH = 60, 175  # sessions after a decay; all sessions
OTHER = {**dict.fromkeys(FEATURES, 0.0), "ret_20d": 1.0, "alpha": -0.3}  # the weights of version 2
HEALTHY = 210  # ten months
_DATE_BACK = "UPDATE mlops.registry_history SET valid_from = %s WHERE valid_to IS NULL"


@dataclass
class Outcome:
    """What was found of one fault.

    Attributes
    ----------
    seen_after
        Sessions from the first one with the fault to the daily run that showed it: 0 is the first.
    diagnosed, explained
        Whether the answers, and the explanation, name the fault.
    false_alerts
        Alerts of `skew`, `version` or `feature clock` that the fault does not account for.
    statistics_after, statistics_named
        The same of distributions and IC alone; whether their worst feature is the planted one.
    """

    kind: str
    seed: int
    seen_after: int | None = None
    diagnosed: bool = False
    explained: bool | None = None
    false_alerts: list[str] = field(default_factory=list)
    seconds: float | None = None
    statistics_after: int | None = None
    statistics_named: bool = False
    answer: str = ""
    causes: list[str] = field(default_factory=list)
    planted: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Trial:
    """A strategy of one seed in one database."""

    def __init__(self, uri: DatabaseURI, seed: int, length: int = LENGTH) -> None:
        self.uri, self.seed = uri, seed
        self.market = market(seed, length)
        self.served = Served.of(self.market)
        self.monitor = DriftMonitor(uri, STRATEGY, tracking_uri=False, notify=())
        self.live = Serving(uri, STRATEGY, model_name=MODEL, model_version="1", spool=False)

    def close(self) -> None:
        self.live.close()
        self.monitor.database.close()

    def prepare(self, *, promoted: bool = True) -> None:
        """Record the healthy past and accept its first part."""
        self.monitor.configure(model_name=MODEL, features=list(FEATURES))
        self.write_features(range(FAULT))
        if promoted:
            self._promote()
        self.serve(range(FAULT))
        self.record_returns(range(FAULT - 1))
        days = self.market.days
        self.monitor.backfill(days[0], days[REFERENCE - 1])
        self.monitor.accept(days[0], days[REFERENCE - 1], "healthy", min_sessions=REFERENCE - 10)
        self.monitor.backfill(days[REFERENCE], days[FAULT - 1])

    def _promote(self) -> None:
        client = MlflowClient(tracking_uri=self.uri.url, registry_uri=self.uri.url)
        client.create_registered_model(MODEL)
        for _ in range(2):
            client.create_model_version(MODEL, "file:///models/momentum")
        client.set_registered_model_alias(MODEL, "champion", "1")
        with db.connect(self.uri, autocommit=True) as conn:
            conn.execute(_DATE_BACK, [self.market.event(0) - timedelta(days=1)])

    def write_features(self, days: Sequence[int], *, moved: Any = None) -> None:
        """Write the features of sessions, with times that are `moved` hours off."""
        frame, names = self.frame(days), self.market.names
        by = [timedelta(hours=0.0 if moved is None else float(moved[day])) for day in days]
        events = [self.market.event(day) + off for day, off in zip(days, by, strict=True)]
        frame["event_time"] = [event for event in events for _ in names]
        frame["ingest_time"] = [self.market.known(day) for day in days for _ in names]
        with FeatureStore(self.uri, producer="job") as store:
            store.write_frame(frame, ingest_time="ingest_time")

    def frame(self, days: Sequence[int], features: dict[str, Any] | None = None) -> pd.DataFrame:
        values = self.market.features if features is None else features
        columns = {name: array[list(days)].ravel() for name, array in values.items()}
        return pd.DataFrame({"entity_key": self.market.names * len(days), **columns})

    def serve(self, days: Sequence[int]) -> None:
        """Record what was served in sessions, one call for each version."""
        for number in sorted({self.served.versions[day] for day in days}):
            self._serve([day for day in days if self.served.versions[day] == number], number)

    def _serve(self, days: Sequence[int], number: str) -> None:
        names = self.market.names
        features = {name: array[list(days)] for name, array in self.served.features.items()}
        weights = {"weights": OTHER} if number == "2" else {}
        signals = output(features, **weights)
        moved = [timedelta(hours=float(self.served.moved[day])) for day in days]
        events = [
            self.market.event(day) + by for day, by in zip(days, moved, strict=True) for _ in names
        ]
        frame = self.frame(days, self.served.features).drop(columns="entity_key")
        self.live.record(
            names * len(days),
            features=frame,
            event_times=pd.DataFrame(dict.fromkeys(FEATURES, events)),
            output=signals.ravel(),
            as_of=[self.market.decision(day) for day in days for _ in names],
            model_version=number,
        )

    def record_returns(self, days: Sequence[int]) -> None:
        names = self.market.names
        known = [self.market.close(day + 1) for day in days for _ in names]
        self.monitor.record_returns(
            {
                "entity_key": names * len(days),
                "session": [self.market.days[day] for day in days for _ in names],
                "value": self.market.returns[list(days)].ravel(),
                "known_at": known,
            }
        )

    def morning(self, day: int) -> datetime:
        """When the daily job runs: in the evening of a session, after its returns."""
        return self.market.close(day) + timedelta(hours=6)

    def judge(self, kind: str) -> Outcome:
        """Plant a fault in this database, look at every evening, and ask what it was."""
        generator = np.random.default_rng((self.seed, list(FAULTS).index(kind)))
        fault = Planted(kind, FAULT, FAULT + (DECAY if kind == "decay" else SESSIONS))
        if kind == "decay":
            self.market = self.market.without_skill(FAULT)
            self.served = Served.of(self.market)
        FAULTS[kind](self.market, self.served, fault, generator)
        outcome = Outcome(kind, self.seed, planted=_described(fault))
        last = max(fault.stop, fault.start + SESSIONS) - 1
        moved = self.served.moved if fault.parameters.get("of") == "job" else None
        self.write_features(range(FAULT, last + 1), moved=moved)
        seen = self._evenings(fault, last, outcome)
        self._rest(seen, last)
        self._ask(fault, last, outcome)
        return outcome

    def _evenings(self, fault: Planted, last: int, outcome: Outcome) -> int:
        """Run the daily job evening by evening until it shows the fault; return the next day."""
        for day in range(FAULT, last + 1):
            self.serve([day])
            self.record_returns([day - 1])
            if fault.kind == "revision" and day == fault.stop:
                self._revise(fault)
            self.monitor.run_daily(self.market.days[day], now=self.morning(day))
            alerts = self.monitor.alerts(states=["open"])
            if diagnosis.shows(alerts, fault, self.market.days):
                outcome.seen_after = day - fault.start
                return day + 1
            if fault.kind == "revision" and day == fault.stop:
                return day + 1
        return last + 1

    def _revise(self, fault: Planted) -> None:
        """The vendor's values of past sessions, all names, known before the next decision."""
        days, [name] = range(fault.start, fault.stop), fault.features
        frame = self.frame(days)[["entity_key", name]]
        frame[name] *= fault.parameters["factor"]
        frame["event_time"] = [self.market.event(day) for day in days for _ in self.market.names]
        frame["ingest_time"] = self.market.decision(fault.stop) - timedelta(hours=2)
        with FeatureStore(self.uri, producer="vendor") as store:
            store.write_frame(frame, ingest_time="ingest_time")

    def _rest(self, start: int, last: int) -> None:
        """Serve the sessions up to the last one, and one more that is right, in one go."""
        days = range(start, last + 1)
        if len(days):
            self.serve(days)
            self.record_returns([day - 1 for day in days])
            self.monitor.backfill(self.market.days[start], self.market.days[last])

    def _ask(self, fault: Planted, last: int, outcome: Outcome) -> None:
        monitor, days, now = self.monitor, self.market.days, self.morning(last)
        answers = diagnosis.Answers.of(monitor, days[FAULT - 5], days[last], now)
        outcome.diagnosed, outcome.answer = diagnosis.is_right(answers, fault, self.market)
        if fault.kind == "revision":
            outcome.seen_after = 0 if outcome.diagnosed else None
        begin = time.perf_counter()
        explanation = diagnosis.explanation(monitor, days[last], now)
        outcome.seconds = time.perf_counter() - begin
        outcome.explained = diagnosis.is_explained(explanation, fault)
        outcome.causes = [cause.line for cause in explanation.causes[:4]]
        alerts = [alert for alert in monitor.alerts() if alert.session >= days[0]]
        outcome.false_alerts = diagnosis.false_alerts(alerts, fault, days)
        found = statistics.judge(self.served, self.market, _ic_alerts(alerts), fault, last)
        outcome.statistics_after, outcome.statistics_named = found


def _ic_alerts(alerts: Sequence[Alert]) -> list[Alert]:
    return [alert for alert in alerts if alert.metric == "ic"]


def _described(fault: Planted) -> str:
    parts = [",".join(fault.features), ",".join(fault.names), str(fault.parameters or "")]
    return " ".join(filter(None, parts))


@dataclass
class Healthy:
    """Alerts of ten months of a healthy strategy, by rule."""

    seed: int
    months: int
    cells: int
    differing: int
    alerts: dict[str, int]
    statistics: int


def healthy(uri: DatabaseURI, seed: int) -> Healthy:
    """Play ten healthy months; half of the strategies read what they serve from the store."""
    trial = Trial(uri, seed, FAULT + HEALTHY)
    trial.prepare(promoted=False)
    days = range(FAULT, FAULT + HEALTHY)
    trial.write_features(days)
    if seed % 2:
        _read_from_store(trial, days)
    trial.serve(days)
    trial.record_returns([day - 1 for day in days])
    first, last = trial.market.days[FAULT], trial.market.days[FAULT + HEALTHY - 1]
    trial.monitor.backfill(first, last)
    result = trial.monitor.reconcile(first, last)
    alerts = [alert for alert in trial.monitor.alerts() if alert.session >= first]
    counts: dict[str, int] = {}
    for alert in alerts:
        counts[alert.rule] = counts.get(alert.rule, 0) + 1
    found = statistics.alarms(trial.served, slice(FAULT, FAULT + HEALTHY))
    trial.close()
    return Healthy(seed, HEALTHY // 21, result.cells, result.differing, counts, found)


def _read_from_store(trial: Trial, days: Sequence[int]) -> None:
    """Serve what the feature store returns for each decision."""
    names = trial.market.names
    moments = [trial.market.decision(day) for day in days for _ in names]
    spine = pd.DataFrame({"entity_key": names * len(days), "as_of": moments})
    with FeatureStore(trial.uri) as store:
        frame = store.training_frame(spine, list(FEATURES))
    for name in FEATURES:
        trial.served.features[name][list(days)] = frame[name].to_numpy().reshape(len(days), -1)
