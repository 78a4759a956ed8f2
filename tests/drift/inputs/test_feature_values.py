"""Feature distributions: what was known at the session's as-of time, and how it drifts."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.strategies import NAMES, Strategy

from drift import DriftMonitor
from drift.inputs import feature_values
from drift.inputs.feature_values import FeatureWindow
from drift.results.references import References
from feature_store import FeatureStore

HOUR = timedelta(hours=1)


@pytest.fixture
def store(monitor: DriftMonitor) -> FeatureStore:
    return FeatureStore(monitor.uri)


def write(
    store: FeatureStore,
    event: datetime,
    ingest: datetime,
    values: dict[str, float],
    name: str = "rsi",
) -> None:
    store.write_frame(
        pd.DataFrame(
            {
                "entity_key": list(values),
                "event_time": pd.Timestamp(event),
                "known": pd.Timestamp(ingest),
                name: list(values.values()),
            }
        ),
        ingest_time="known",
    )


def known(monitor: DriftMonitor, window: FeatureWindow) -> dict[str, list[float]]:
    with monitor.connect() as conn, conn.transaction():
        found = feature_values.samples(conn, [window])
        return {s.feature: sorted(s.sections[window.session].values.tolist()) for s in found}


def window_of(monitor: DriftMonitor, session: date, as_of: datetime) -> FeatureWindow:
    after = monitor.calendar.session_close(monitor.calendar.session_offset(session, -1))
    with monitor.connect() as conn:
        rows = conn.execute("SELECT entity_id FROM mlops.drift_entities ORDER BY 1").fetchall()
    return FeatureWindow(session, after, as_of, np.array([row[0] for row in rows], dtype=np.int64))


@pytest.fixture
def predicted(monitor: DriftMonitor) -> date:
    """A session with predictions of A, B and C."""
    session = date(2024, 1, 16)
    monitor.record_predictions(
        {"entity_key": ["A", "B", "C"], "session": [session] * 3, "signal": [1.0, 2.0, 3.0]}
    )
    return session


def test_the_newest_value_known_by_then_counts(
    monitor: DriftMonitor, store: FeatureStore, predicted: date
) -> None:
    close = monitor.calendar.session_close(predicted)
    write(store, close - HOUR, close - HOUR, {"A": 1.0, "B": 1.0, "C": 1.0})
    write(store, close, close, {"A": 2.0})
    write(store, close, close + HOUR, {"A": 99.0, "B": 99.0})  # restated too late
    assert known(monitor, window_of(monitor, predicted, close)) == {"rsi": [1.0, 1.0, 2.0]}
    later = window_of(monitor, predicted, close + HOUR)
    assert known(monitor, later) == {"rsi": [1.0, 99.0, 99.0]}


def test_a_name_without_a_value_since_the_last_close_is_missing(
    monitor: DriftMonitor, store: FeatureStore, predicted: date
) -> None:
    close = monitor.calendar.session_close(predicted)
    before = monitor.calendar.session_close(monitor.calendar.session_offset(predicted, -1))
    write(store, before, before, {"A": 7.0, "B": 7.0, "C": 7.0})
    write(store, close, close, {"A": 1.0, "B": 2.0})
    found = known(monitor, window_of(monitor, predicted, close))["rsi"]
    assert found[:2] == [1.0, 2.0]
    assert np.isnan(found[2])
    assert len(found) == 3


def test_before_the_close_values_of_the_previous_close_count_unless_most_are_later(
    monitor: DriftMonitor, store: FeatureStore, predicted: date
) -> None:
    close = monitor.calendar.session_close(predicted)
    before = monitor.calendar.session_close(monitor.calendar.session_offset(predicted, -1))
    early = replace(window_of(monitor, predicted, close - HOUR), before_close=True)
    write(store, before, before, {"A": 1.0, "B": 2.0, "C": 3.0})
    write(store, before - HOUR, before, {"A": 7.0}, name="older")
    write(store, before, close, {"A": 8.0}, name="not_yet_known")
    assert known(monitor, early) == {"rsi": [1.0, 2.0, 3.0]}
    assert known(monitor, window_of(monitor, predicted, close - HOUR)) == {}
    write(store, close - HOUR, close - HOUR, {"A": 4.0})
    assert known(monitor, early) == {"rsi": [2.0, 3.0, 4.0]}
    write(store, close - HOUR, close - HOUR, {"B": 5.0})
    assert known(monitor, early)["rsi"][:2] == [4.0, 5.0]
    assert np.isnan(known(monitor, early)["rsi"][2])


def test_names_that_were_not_predicted_do_not_count(
    monitor: DriftMonitor, store: FeatureStore, predicted: date
) -> None:
    close = monitor.calendar.session_close(predicted)
    write(store, close, close, {"A": 1.0, "B": 2.0, "C": 3.0, "X": 50.0})
    assert known(monitor, window_of(monitor, predicted, close)) == {"rsi": [1.0, 2.0, 3.0]}


def test_without_predictions_every_name_counts(
    monitor: DriftMonitor, store: FeatureStore, predicted: date
) -> None:
    close = monitor.calendar.session_close(predicted)
    write(store, close, close, {"A": 1.0, "X": 50.0, "Y": 51.0})
    window = window_of(monitor, predicted, close)
    everyone = FeatureWindow(
        window.session, window.after, window.as_of, np.empty(0, dtype=np.int64)
    )
    assert known(monitor, everyone) == {"rsi": [1.0, 50.0, 51.0]}


def test_versions_of_a_feature_are_watched_apart(
    monitor: DriftMonitor, store: FeatureStore, predicted: date
) -> None:
    close = monitor.calendar.session_close(predicted)
    store.write_features("A", close, {"rsi": 1.0}, ingest_time=close)
    store.write_features("A", close, {"rsi": 100.0}, feature_version=2, ingest_time=close)
    found = known(monitor, window_of(monitor, predicted, close))
    assert (found["rsi"][0], found["rsi@2"][0]) == (1.0, 100.0)


def test_sessions_read_together_are_as_read_one_by_one(
    monitor: DriftMonitor, store: FeatureStore, strategy: Strategy
) -> None:
    strategy.record(monitor, slice(6))
    generator = np.random.default_rng(1)
    for day in strategy.days[:6]:
        close = monitor.calendar.session_close(day)
        chosen = generator.choice(NAMES, size=30, replace=False).tolist()
        write(store, close, close, dict(zip(chosen, generator.normal(size=30), strict=True)))
        write(store, close - HOUR, close + 30 * HOUR, {"N00": 1.0})
    windows = [
        window_of(monitor, day, monitor.calendar.session_close(day) + HOUR)
        for day in strategy.days[1:6]
    ]
    with monitor.connect() as conn, conn.transaction():
        [together] = feature_values.samples(conn, windows)
        for window in windows:
            [alone] = feature_values.samples(conn, [window])
            np.testing.assert_array_equal(
                np.sort(together.sections[window.session].values),
                np.sort(alone.sections[window.session].values),
            )


class Watched:
    """A strategy with 40 names and two features, of which 80 sessions are accepted."""

    def __init__(self, monitor: DriftMonitor, store: FeatureStore, strategy: Strategy) -> None:
        self.monitor, self.store, self.strategy = monitor, store, strategy
        self.values = {
            name: np.random.default_rng(seed).normal(size=(100, 40))
            for seed, name in enumerate(("rsi", "momentum"))
        }
        strategy.record(monitor)

    def write(self, **changed: Any) -> None:
        days = self.strategy.days
        arrays = {**self.values, **changed}
        frame = pd.DataFrame(
            {
                "entity_key": NAMES * len(days),
                "event_time": np.repeat([pd.Timestamp(self.close(day)) for day in days], 40),
                **{name: array.ravel() for name, array in arrays.items()},
            }
        )
        self.store.write_frame(frame, availability_lag=timedelta(0))
        self.monitor.backfill(days[0], days[79])
        self.monitor.accept(days[0], days[79], "calm", min_sessions=60)
        self.monitor.backfill(days[80], days[-1])

    def close(self, day: date) -> datetime:
        return self.monitor.calendar.session_close(day)


@pytest.fixture
def watched(monitor: DriftMonitor, store: FeatureStore, strategy: Strategy) -> Watched:
    return Watched(monitor, store, strategy)


def test_healthy_features_raise_no_alert(watched: Watched) -> None:
    watched.write()
    assert [a for a in watched.monitor.alerts() if a.metric.startswith("psi")] == []
    last = watched.monitor.metrics(watched.strategy.days[-1], watched.strategy.days[-1])[0]
    assert last.psi is not None
    assert last.value("psi", "rsi") is not None
    assert last.value("psi_fixed_ratio") is None  # the fixed reference is the accepted one


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken",
    [
        lambda values: values + 3.0,
        lambda values: np.zeros_like(values),
        lambda values: np.where(np.arange(40) < 24, np.nan, values),
    ],
    ids=["mean shift", "constant", "missing for 60% of names"],
)
def test_a_broken_feature_is_found_and_named(watched: Watched, broken: Any) -> None:
    rsi = watched.values["rsi"].copy()
    rsi[90:] = broken(rsi[90:])
    watched.write(rsi=rsi)
    found = [a for a in watched.monitor.alerts() if a.metric.startswith("psi")]
    assert found[0].session in watched.strategy.days[90:95]
    assert found[0].note.startswith("rsi ")
    assert "momentum" not in found[0].note


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        ("feature missing", lambda values: np.where(np.arange(40) < 12, np.nan, values)),
        ("feature constant", lambda values: np.ones_like(values)),
        ("feature frozen", lambda values: np.broadcast_to(values[:1], values.shape)),
    ],
    ids=["missing for 30% of names", "constant", "frozen"],
)
def test_a_broken_feed_is_found_on_its_first_session(
    watched: Watched, rule: str, broken: Any
) -> None:
    rsi = watched.values["rsi"].copy()
    first = 91 if rule == "feature frozen" else 90  # which starts by being right once
    rsi[90:] = broken(rsi[90:])
    watched.write(rsi=rsi)
    [alert] = [a for a in watched.monitor.alerts() if a.rule == rule]
    assert (alert.session, alert.severity) == (watched.strategy.days[first], "critical")
    assert alert.note.startswith("rsi ")
    assert "momentum" not in alert.note


@pytest.mark.slow
def test_a_feature_that_is_late_by_a_session_is_found_when_it_begins(watched: Watched) -> None:
    rsi = watched.values["rsi"].copy()
    rsi[80:] = rsi[79:-1]  # the first session after the accepted ones
    watched.write(rsi=rsi)
    [alert] = [a for a in watched.monitor.alerts() if a.rule == "feature frozen"]
    assert alert.session == watched.strategy.days[80]
    assert alert.state == "resolved"


def test_a_feature_that_never_changes_is_not_frozen(watched: Watched) -> None:
    watched.write(rsi=np.broadcast_to(watched.values["rsi"][:1], (100, 40)))
    assert [a.rule for a in watched.monitor.alerts() if a.rule == "feature frozen"] == []


@pytest.mark.slow
def test_one_daily_run_after_another_sees_what_a_backfill_does(watched: Watched) -> None:
    """Between them the values of the last session are known by their prints."""
    rsi = watched.values["rsi"].copy()
    rsi[85] = rsi[84]
    watched.write(rsi=rsi)
    monitor, days = watched.monitor, watched.strategy.days
    before = [m.value("unchanged_excess") for m in monitor.metrics(days[80], days[99])]
    for day in days[80:90]:
        monitor.backfill(day, day)
    assert [m.value("unchanged_excess") for m in monitor.metrics(days[80], days[99])] == before
    assert before[5] == 1.0


@pytest.mark.slow
def test_a_feature_nobody_writes_any_more_is_no_data(watched: Watched) -> None:
    watched.write()
    watched.monitor.run_daily(watched.strategy.days[-1])
    after = watched.monitor.calendar.session_offset(watched.strategy.days[-1], 1)
    watched.monitor.record_predictions(
        {"entity_key": NAMES, "session": [after] * 40, "signal": [float(i) for i in range(40)]}
    )
    metrics = watched.monitor.run_daily(after)
    # The predictions have values, and are no feature.
    assert metrics.value("n_features") == 0.0
    assert metrics.value("psi", "rsi") is None
    assert "feature missing" in [alert.rule for alert in watched.monitor.alerts()]


@pytest.mark.slow
def test_the_fixed_reference_keeps_hearing_what_the_accepted_one_no_longer_does(
    watched: Watched,
) -> None:
    rsi = watched.values["rsi"].copy()
    rsi[40:] += 1.5
    days = watched.strategy.days
    monitor = watched.monitor
    frame = pd.DataFrame(
        {
            "entity_key": NAMES * 100,
            "event_time": np.repeat([pd.Timestamp(watched.close(day)) for day in days], 40),
            "rsi": rsi.ravel(),
        }
    )
    watched.store.write_frame(frame, availability_lag=timedelta(0))
    monitor.backfill(days[0], days[-1])
    assert monitor.accept(days[0], days[39], "first", min_sessions=30) == 1
    assert monitor.accept(days[40], days[79], "retrained on drifted data", min_sessions=30) == 2
    monitor.run_daily(days[-1])
    last = monitor.metrics(days[-1], days[-1])[0]
    assert (last.value("psi_ratio") or 0) <= 1
    assert (last.value("psi_fixed_ratio") or 0) > 1
    assert [window.role for window in monitor.references()] == ["accepted", "accepted", "fixed"]


def test_categories_are_counted_a_bucket_each_and_unseen_ones_together(
    monitor: DriftMonitor, store: FeatureStore
) -> None:
    days = monitor.calendar.sessions_in_range(date(2024, 1, 2), date(2024, 1, 31))
    strategy = Strategy.of(days)
    monitor.record_predictions(strategy.predictions())
    monitor.record_returns(strategy.realized())
    for day in days:
        event = monitor.calendar.session_close(day) - HOUR
        sectors = {name: ["TECH", "FIN"][i % 2] for i, name in enumerate(NAMES)}
        if day == days[-1]:
            sectors = dict.fromkeys(NAMES, "CRYPTO")
        store.write_frame(
            {
                "entity_key": list(sectors),
                "event_time": [event] * len(sectors),
                "sector": list(sectors.values()),
            },
            availability_lag=timedelta(0),
        )
    monitor.backfill(days[0], days[-1])
    monitor.accept(days[0], days[-2], "test", min_sessions=10)
    window = monitor.references()[0]
    with monitor.connect() as conn:
        reference = References(conn, monitor.strategy_id).distributions(window)["sector"]
    assert reference.kind == "categories"
    assert set(reference.labels) == {"TECH", "FIN", "other", "missing"}
    last = monitor.backfill(days[-1], days[-1])[0]
    assert last.psi is not None
    assert last.psi > 1
