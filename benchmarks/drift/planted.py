"""Planted faults, found through the public interface: when alerts open, and when they close.

    python -m benchmarks.drift.planted --seeds 20


A market of 60 names with four features made from prices is written to a feature store, served as
signals and judged by a monitor whose reference is the first 150 sessions. A fault begins on session
190 and is repaired on session 210: a feature one session late, a version that is not champion, a
changed unit, a stopped job, event times eight hours late or early. For each fault: in how many
seeds an alert opened on the first session that shows it, stayed open until the repair, and closed
on the session of the repair or the next; and how many alerts healthy seeds had.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import harness
from drift import DriftMonitor
from feature_store import FeatureStore
from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.db.uri import DatabaseURI

SESSIONS, REFERENCE, FAULT, REPAIR = 240, 150, 190, 210
FEATURES = ("ret_5d", "ret_20d", "rsi_14", "vol_20d")
WARM_UP = 60
CORRECTED = ["entity_key", "event_time", "rsi_14"]
HOURS = timedelta(hours=8)
# Rules about the feeds; the others judge statistics and may open for other reasons.
FEEDS = ("feature ", "version", "no features")


@dataclass
class Market:
    """Sessions x names: features by name as served, signals, returns that follow, event times."""

    days: Sequence[date]
    closes: np.ndarray
    features: dict[str, np.ndarray]
    signals: np.ndarray
    returns: np.ndarray
    delay: np.ndarray

    @property
    def names(self) -> list[str]:
        return [f"N{number:02d}" for number in range(self.signals.shape[1])]


def market(seed: int, calendar: TradingCalendar, names: int, ranked: bool) -> Market:
    """A healthy market; the signal predicts the next session's return with an IC of about 0.06."""
    generator = np.random.default_rng(seed)
    length = SESSIONS + WARM_UP
    daily = generator.normal(0, 0.01, (length, 1)) + generator.normal(0, 0.02, (length, names))
    features = {name: values[WARM_UP:] for name, values in _from_returns(daily).items()}
    if ranked:
        features = {name: _ranks(values) for name, values in features.items()}
    days = calendar.sessions_in_range(date(2023, 1, 3), date(2024, 6, 28))[:SESSIONS]
    signals = _standard(features["rsi_14"]) - _standard(features["ret_20d"])
    noise = generator.normal(size=signals.shape)
    closes = calendar.session_closes(np.array(days, "M8[D]"))
    returns = 0.02 * (0.06 * _standard(signals) + noise)
    return Market(days, closes, features, signals, returns, np.zeros(SESSIONS, "m8[us]"))


def _from_returns(daily: np.ndarray) -> dict[str, np.ndarray]:
    gains, losses = np.maximum(daily, 0), np.maximum(-daily, 0)
    up, down = _mean(gains, 14), _mean(losses, 14)
    return {
        "ret_5d": 5 * _mean(daily, 5),
        "ret_20d": 20 * _mean(daily, 20),
        "rsi_14": 100 * up / (up + down),
        "vol_20d": np.sqrt(_mean(daily**2, 20)),
    }


def _mean(values: np.ndarray, window: int) -> np.ndarray:
    sums = np.cumsum(values, axis=0)
    sums[window:] = sums[window:] - sums[:-window]
    return sums / window


def _standard(values: np.ndarray) -> np.ndarray:
    spread = values.std(axis=1, keepdims=True)
    return (values - values.mean(axis=1, keepdims=True)) / spread


def _ranks(values: np.ndarray) -> np.ndarray:
    return values.argsort(axis=1).argsort(axis=1) / values.shape[1]


Fault = Callable[[Market], None]
_WHILE = slice(FAULT, REPAIR)


def late_feature(served: Market) -> None:
    """a: one feature is served one session late."""
    true = served.features["rsi_14"]
    served.features["rsi_14"] = true.copy()
    served.features["rsi_14"][_WHILE] = true[FAULT - 1 : REPAIR - 1]


def late_until_fixed(served: Market) -> None:
    """a-: the same, and the repair corrects no past session."""
    late_feature(served)


def unit(served: Market) -> None:
    """d: one feature comes in another unit."""
    served.features["ret_20d"] = served.features["ret_20d"].copy()
    served.features["ret_20d"][_WHILE] *= 100


def stopped(served: Market) -> None:
    """e: the feature job does not run."""
    for name, values in served.features.items():
        served.features[name] = values.copy()
        served.features[name][_WHILE] = np.nan


def clock_late(served: Market) -> None:
    """f+: event times eight hours late."""
    served.delay[_WHILE] = np.timedelta64(HOURS)


def clock_early(served: Market) -> None:
    """f-: event times eight hours early."""
    served.delay[_WHILE] = -np.timedelta64(HOURS)


FAULTS: dict[str, Fault | None] = {
    "a": late_feature,
    "a-": late_until_fixed,
    "d": unit,
    "e": stopped,
    "f+": clock_late,
    "f-": clock_early,
    "healthy": None,
}


def write(uri: DatabaseURI, served: Market, true: Market | None) -> None:
    """Write the features as served; with `true`, the corrections that come with the repair."""
    with FeatureStore(uri, producer="job") as store:
        store.write_frame(_frame(served), availability_lag=timedelta(minutes=20))
        if true is not None:
            known = served.closes[REPAIR] - np.timedelta64(1, "h")
            frame = _frame(true, _WHILE).select(CORRECTED)
            times = pa.array(np.repeat(known, len(frame))).cast(pa.timestamp("us", "UTC"))
            frame = frame.append_column("ingest_time", times)
            store.write_frame(frame, ingest_time="ingest_time")


def _frame(served: Market, sessions: slice = slice(None)) -> pa.Table:
    names = served.names
    times = np.repeat((served.closes + served.delay)[sessions], len(names))
    columns: dict[str, Any] = {
        "entity_key": names * len(served.days[sessions]),
        "event_time": pa.array(times).cast(pa.timestamp("us", "UTC")),
    }
    values = {name: pa.array(v[sessions].ravel()) for name, v in served.features.items()}
    return pa.table({**columns, **values})


def record(monitor: DriftMonitor, served: Market) -> None:
    """Record signals an hour after each close, and the returns that followed."""
    names, days = served.names, served.days
    long = {"entity_key": names * len(days)}
    signalled = np.repeat(served.closes + np.timedelta64(1, "h"), len(names))
    times = pa.array(signalled).cast(pa.timestamp("us", "UTC"))
    sessions = [day for day in days for _ in names]
    monitor.record_predictions({**long, "signal_time": times, "signal": served.signals.ravel()})
    monitor.record_returns({**long, "session": sessions, "value": served.returns.ravel()})


@dataclass(frozen=True)
class Outcome:
    """What the alerts about feeds did: when the first opened, whether one was always open, and on
    which session number all were closed again."""

    opened: int | None
    covered: bool
    closed: int | None
    rules: tuple[str, ...]


def outcome(monitor: DriftMonitor, days: Sequence[date]) -> Outcome:
    position = {day: number for number, day in enumerate(days)}
    spans = [
        (
            position[alert.session],
            position[alert.resolved_session] if alert.resolved_session else SESSIONS,
            alert.rule,
        )
        for alert in monitor.alerts(since=days[FAULT])
        if alert.rule.startswith(FEEDS) and "drift" not in alert.rule
    ]
    spans = [span for span in spans if span[0] >= FAULT]
    open_at = [any(begin <= t < end for begin, end, _ in spans) for t in range(SESSIONS)]
    closed = next((t for t in range(REPAIR, SESSIONS) if not any(open_at[t:])), None)
    return Outcome(
        opened=min((begin for begin, _, _ in spans), default=None),
        covered=all(open_at[FAULT:REPAIR]),
        closed=closed,
        rules=tuple(dict.fromkeys(rule for _, _, rule in sorted(spans))),
    )


def judge(uri: DatabaseURI, calendar: str, seed: int, fault: str, ranked: bool) -> Outcome:
    """Plant one fault in one market, in a database of its own, and see what the alerts did."""
    monitor = DriftMonitor(uri, "planted", calendar=calendar, tracking_uri=False, notify=())
    monitor.configure()
    true, served = (market(seed, monitor.calendar, 60, ranked) for _ in range(2))
    plant = FAULTS[fault]
    if plant is not None:
        plant(served)
    write(uri, served, true if plant is late_feature else None)
    record(monitor, served)
    monitor.backfill(served.days[0], served.days[REFERENCE - 1])
    monitor.accept(served.days[0], served.days[REFERENCE - 1], "planted")
    monitor.backfill(served.days[REFERENCE], served.days[-1])
    return outcome(monitor, served.days)


def wrong_version(uri: DatabaseURI, calendar: str) -> Outcome:
    """b: the last session is served by version 2 while 1 is champion, and then by 1 again."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri.url, registry_uri=uri.url)
    client.create_registered_model("mom")
    for _ in range(2):
        client.create_model_version("mom", "file:///models/mom")
    client.set_registered_model_alias("mom", "champion", "1")
    monitor = DriftMonitor(uri, "planted", calendar=calendar, tracking_uri=False, notify=())
    monitor.configure()
    last = monitor.calendar.last_sessions(1, datetime.now(timezone.utc))[-1]
    _serve(monitor, last, "2", minutes=0)
    monitor.run_daily(last)
    first = [alert.rule for alert in monitor.alerts(states=["open"])]
    _serve(monitor, last, "1", minutes=1)
    monitor.run_daily(last)
    after = [alert.rule for alert in monitor.alerts(states=["open"])]
    opened = FAULT if "version" in first else None
    return Outcome(opened, opened is not None, None if "version" in after else REPAIR, (*first,))


def _serve(monitor: DriftMonitor, session: date, version: str, minutes: int) -> None:
    names = [f"N{number:02d}" for number in range(60)]
    moment = monitor.calendar.session_close(session) + timedelta(minutes=minutes)
    monitor.record_predictions(
        {
            "entity_key": names,
            "signal_time": [moment] * len(names),
            "session": [session] * len(names),
            "signal": np.random.default_rng(0).normal(size=len(names)),
            "model_name": ["mom"] * len(names),
            "model_version": [version] * len(names),
        }
    )


def report(fault: str, outcomes: Sequence[Outcome]) -> None:
    """Print one row of the table."""
    count = len(outcomes)
    if fault == "healthy":
        alarms = sum(outcome.opened is not None for outcome in outcomes)
        print(f"| {fault} | {alarms}/{count} seeds with an alert about a feed | | | |", flush=True)
        return
    first = sum(outcome.opened == FAULT for outcome in outcomes)
    covered = sum(outcome.covered for outcome in outcomes)
    closed = sum(outcome.closed in (REPAIR, REPAIR + 1) for outcome in outcomes)
    rules = dict.fromkeys(rule for outcome in outcomes for rule in outcome.rules)
    cells = f"{first}/{count} | {covered}/{count} | {closed}/{count} | {', '.join(rules)}"
    print(f"| {fault} | {cells} |", flush=True)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--calendars", nargs="+", default=["XNYS", "XSHG"])
    parser.add_argument("--faults", nargs="+", default=["b", *FAULTS])
    given = parser.parse_args()
    with harness.server(given.uri) as server:
        for calendar in given.calendars:
            for ranked in (False, True):
                print(f"\n## {calendar}, {'ranked' if ranked else 'raw'} features\n", flush=True)
                print("| fault | first session | open until the repair | closed | rules |")
                print("|---|---|---|---|---|")
                for fault in given.faults:
                    outcomes = []
                    for seed in range(given.seeds):
                        with harness.new_database(server) as uri:
                            outcomes.append(
                                wrong_version(uri, calendar)
                                if fault == "b"
                                else judge(uri, calendar, seed, fault, ranked)
                            )
                    report(fault, outcomes)


if __name__ == "__main__":
    main()
