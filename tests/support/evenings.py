"""What the jobs of a strategy deliver evening after evening, to be broken by tests.

`Evening` is one delivery as it should be; a test changes it. `History` fills a database with a
healthy past, so that it can be cloned, and plays the evenings after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property

import numpy as np

from drift import DriftMonitor
from feature_store import FeatureStore
from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.db.uri import DatabaseURI

NAMES = [f"N{i:02d}" for i in range(40)]
ACCEPTED, FAULT, REPAIR, LAST = 90, 92, 95, 97
FEATURES = ("ret_1d", "ret_5d", "rsi_14")
WARM_UP = 20
KNOWN, SIGNALLED, JUDGED = (timedelta(minutes=m) for m in (20, 60, 120))  # after the close


@dataclass
class Evening:
    """One session: `returns` are those of `returns_of`, the session before; None is no delivery.

    Each of `later` comes after the daily job, before the next session.
    """

    number: int
    features: dict[str, np.ndarray]
    feature_time: datetime
    signals: np.ndarray | None
    signal_time: datetime
    returns: np.ndarray | None
    returns_of: date
    own: float | None
    own_of: date
    names: Sequence[str] = tuple(NAMES)
    returned_names: Sequence[str] = tuple(NAMES)
    model: str = "mom"
    version: str | None = "1"
    runs: int = 1
    later: list[Callable[[DriftMonitor], object]] = field(default_factory=list)


@dataclass
class Played:
    """What a person was shown: refusals, and by evening the open alerts and the cautions."""

    refused: list[str] = field(default_factory=list)
    alerts: dict[int, dict[str, str]] = field(default_factory=dict)
    cautions: dict[int, str] = field(default_factory=dict)

    def look(self, monitor: DriftMonitor, evening: int, now: datetime) -> None:
        """Keep the notes of the alerts that are open now, by rule, inhibited ones too."""
        self.alerts[evening] = {a.rule: a.note for a in monitor.alerts(states=["open"])}
        self.cautions[evening] = "; ".join(monitor.cautions(now))


class History:
    """A market of 40 names whose features change together, and a signal with an IC of about 0.2."""

    def __init__(self, calendar: str = "XNYS", first: date = date(2023, 9, 1)) -> None:
        self.calendar = TradingCalendar(calendar)
        self.days = self.calendar.sessions_in_range(first, date(2024, 6, 28))[: LAST + 2]
        generator = np.random.default_rng(3)
        shape = (len(self.days) + WARM_UP, len(NAMES))
        daily = generator.normal(0, 0.01, (shape[0], 1)) + generator.normal(0, 0.02, shape)
        self.features = {name: rows[WARM_UP:] for name, rows in _features(daily).items()}
        self.signals = _standard(self.features["rsi_14"]) - _standard(self.features["ret_5d"])
        noise = generator.normal(size=self.signals.shape)
        self.returns = 0.02 * (0.2 * _standard(self.signals) + noise)
        self.own = generator.normal(0.001, 0.008, len(self.days))

    def close(self, number: int) -> datetime:
        return self.calendar.session_close(self.days[number])

    def feature_time(self, number: int) -> datetime:
        return self.close(number)

    def signal_time(self, number: int) -> datetime:
        return self.close(number) + SIGNALLED

    @cached_property
    def position(self) -> dict[date, int]:
        return {day: number for number, day in enumerate(self.days)}

    def evening(self, number: int) -> Evening:
        return Evening(
            number=number,
            features={name: rows[number].copy() for name, rows in self.features.items()},
            feature_time=self.feature_time(number),
            signals=self.signals[number].copy(),
            signal_time=self.signal_time(number),
            returns=self.returns[number - 1].copy(),
            returns_of=self.days[number - 1],
            own=float(self.own[number]),
            own_of=self.days[number],
        )

    def monitor(self, uri: DatabaseURI) -> DriftMonitor:
        return DriftMonitor(uri, "momentum", tracking_uri=False, notify=())

    def fill(self, uri: DatabaseURI, features: str = "raw") -> None:
        """Record and judge the healthy past, and accept it."""
        monitor = self.monitor(uri)
        monitor.configure(calendar=self.calendar.name, model_name="mom", features=features)
        sessions = self.days[:FAULT]
        self._record_past(monitor)
        monitor.backfill(sessions[1], sessions[ACCEPTED - 1])
        monitor.accept(sessions[1], sessions[ACCEPTED - 1], "healthy", min_sessions=ACCEPTED - 5)
        monitor.backfill(sessions[ACCEPTED], sessions[-1])

    def _record_past(self, monitor: DriftMonitor) -> None:
        numbers, names = range(1, FAULT), len(NAMES)
        events = np.repeat([self.feature_time(number) for number in numbers], names).tolist()
        long = {"entity_key": NAMES * len(numbers)}
        rows = {name: values[1:FAULT].ravel() for name, values in self.features.items()}
        with FeatureStore(monitor.uri, producer="job") as store:
            store.write_frame({**long, "event_time": events, **rows}, availability_lag=KNOWN)
        model = {"model_name": ["mom"] * len(events), "model_version": ["1"] * len(events)}
        times = np.repeat([self.signal_time(number) for number in numbers], names).tolist()
        signals = {"signal": self.signals[1:FAULT].ravel(), "signal_time": times}
        monitor.record_predictions({**long, **signals, **model})
        sessions = [self.days[number - 1] for number in numbers for _ in NAMES]
        returns = self.returns[: FAULT - 1].ravel()
        monitor.record_returns({**long, "session": sessions, "value": returns})
        own = {"session": self.days[1:FAULT], "value": self.own[1:FAULT]}
        monitor.record_strategy_returns(own)

    def play(
        self,
        monitor: DriftMonitor,
        change: Callable[[Evening], object],
        repair: Callable[[DriftMonitor], object] | None = None,
    ) -> Played:
        """Deliver the evenings after the past, those before REPAIR changed."""
        played = Played()
        for number in range(FAULT, LAST + 1):
            evening = self.evening(number)
            if number < REPAIR:
                change(evening)
            elif number == REPAIR and repair is not None:
                repair(monitor)
            played.refused += deliver(monitor, evening)
            for _ in range(evening.runs):
                monitor.run_daily(now=self.close(number) + JUDGED)
            played.look(monitor, number, self.calendar.session_open(self.days[number + 1]))
            for call in evening.later:
                call(monitor)
        return played

    def record_returns(self, monitor: DriftMonitor) -> None:
        """Record the right returns of the sessions whose returns came while the fault lasted."""
        for number in range(FAULT, REPAIR):
            _record_returns(monitor, self.evening(number))

    def record_own(self, monitor: DriftMonitor) -> None:
        """Record the right strategy returns of the fault."""
        for number in range(FAULT, REPAIR):
            _record_own(monitor, self.evening(number))


def deliver(monitor: DriftMonitor, evening: Evening) -> list[str]:
    """Write and record an evening; return what was refused."""
    calls = (_write_features, _record_signals, _record_returns, _record_own)
    refused = []
    for call in calls:
        try:
            call(monitor, evening)
        except ValueError as exc:
            refused.append(str(exc))
    return refused


def _write_features(monitor: DriftMonitor, evening: Evening) -> None:
    if evening.features:
        count = len(evening.names)
        times = {"event_time": [evening.feature_time] * count}
        frame = {"entity_key": list(evening.names), **times, **evening.features}
        with FeatureStore(monitor.uri, producer="job") as store:
            store.write_frame(frame, availability_lag=KNOWN)


def _record_signals(monitor: DriftMonitor, evening: Evening) -> None:
    if evening.signals is not None:
        count = len(evening.names)
        frame = {
            "entity_key": list(evening.names),
            "signal": evening.signals,
            "signal_time": [evening.signal_time] * count,
            "model_name": [evening.model] * count,
        }
        if evening.version is not None:
            frame["model_version"] = [evening.version] * count
        monitor.record_predictions(frame)


def _record_returns(monitor: DriftMonitor, evening: Evening) -> None:
    if evening.returns is not None:
        sessions = [evening.returns_of] * len(evening.returned_names)
        names = list(evening.returned_names)
        monitor.record_returns({"entity_key": names, "session": sessions, "value": evening.returns})


def _record_own(monitor: DriftMonitor, evening: Evening) -> None:
    if evening.own is not None:
        monitor.record_strategy_returns({"session": [evening.own_of], "value": [evening.own]})


def _features(daily: np.ndarray) -> dict[str, np.ndarray]:
    gains, losses = _mean(np.maximum(daily, 0), 14), _mean(np.maximum(-daily, 0), 14)
    return {
        "ret_1d": daily,
        "ret_5d": 5 * _mean(daily, 5),
        "rsi_14": 100 * gains / (gains + losses),
    }


def _mean(values: np.ndarray, window: int) -> np.ndarray:
    sums = np.cumsum(values, axis=0)
    sums[window:] = sums[window:] - sums[:-window]
    return sums / window


def _standard(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=1, keepdims=True)
    return centred / values.std(axis=1, keepdims=True)
