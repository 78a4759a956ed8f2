"""A feature in another unit is an alert on its first session, until it is repaired."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from support.strategies import NAMES, Strategy

from drift import DriftMonitor
from drift.metrics.feed_quality import Habits, Shares, magnitude, unit_shift
from feature_store import FeatureStore


@pytest.mark.parametrize("factor", [100.0, 10.0, 0.01, 1e-4])
def test_a_unit_is_seen_and_a_wild_day_is_not(factor: float) -> None:
    generator = np.random.default_rng(0)
    days = [Shares(0.0, magnitude=magnitude(generator.normal(0, 0.02, 60))) for _ in range(60)]
    habits = Habits.fit(days)
    today = generator.normal(0, 0.02, 60)
    assert abs(unit_shift(magnitude(today * factor), habits)) > 0.7
    assert abs(unit_shift(magnitude(today * 4), habits)) < 0.7
    assert np.sign(unit_shift(magnitude(today * factor), habits)) == np.sign(np.log10(factor))


def test_references_of_older_versions_know_no_unit() -> None:
    assert np.isnan(unit_shift(2.0, Habits(0.0, 0.1, 0.0)))


@pytest.mark.parametrize("kind", ["raw", "ranked"])
def test_a_feature_in_another_unit_is_named_with_its_factor(
    monitor: DriftMonitor, strategy: Strategy, days: list[date], kind: str
) -> None:
    monitor.configure(features=kind)
    strategy.record(monitor, slice(50))
    values = np.random.default_rng(4).normal(0, 0.02, size=(50, len(NAMES)))
    values[42:46] *= 100
    closes = [monitor.calendar.session_close(day) for day in days[:50] for _ in NAMES]
    frame = {"entity_key": NAMES * 50, "event_time": closes, "known": closes}
    store = FeatureStore(monitor.uri)
    store.write_frame({**frame, "rsi": values.ravel().tolist()}, ingest_time="known")
    monitor.backfill(days[0], days[39])
    monitor.accept(days[0], days[39], "calm", min_sessions=30)
    monitor.backfill(days[40], days[49])
    [alert] = [alert for alert in monitor.alerts() if alert.rule == "feature unit"]
    assert (alert.session, alert.last_session) == (days[42], days[45])
    assert (alert.severity, alert.state) == ("critical", "resolved")
    assert "rsi is x" in alert.note
    assert 80 < float(alert.note.partition("rsi is x")[2]) < 125
