"""An input that stops, is late, or moves its clock: an alert until its cause is gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from support.strategies import NAMES, Strategy

from drift import DriftMonitor
from feature_store import FeatureStore

FIRST, BROKEN, REPAIRED, LAST = 0, 30, 36, 40
FEATURES = ("rsi", "vol")


class Feeds:
    """Two features of 40 names, written half an hour after the close of each session."""

    def __init__(self, monitor: DriftMonitor, days: Sequence[date]) -> None:
        self.monitor, self.days = monitor, days[:LAST]
        shape = (len(FEATURES), LAST, len(NAMES))
        self.true = dict(zip(FEATURES, np.random.default_rng(5).normal(size=shape), strict=True))
        self.served = {name: values.copy() for name, values in self.true.items()}
        self.delays = [timedelta()] * LAST

    def write(self) -> None:
        with FeatureStore(self.monitor.uri) as store:
            store.write_frame(
                self.frame(self.served, range(LAST)), availability_lag=timedelta(minutes=30)
            )

    def frame(self, values: dict[str, np.ndarray], sessions: range) -> dict[str, Any]:
        closes = [self.monitor.calendar.session_close(self.days[t]) for t in sessions]
        times = [close + self.delays[t] for close, t in zip(closes, sessions, strict=True)]
        return {
            "entity_key": NAMES * len(sessions),
            "event_time": [time for time in times for _ in NAMES],
            **{name: rows[list(sessions)].ravel() for name, rows in values.items()},
        }

    def judge(self) -> dict[str, list[tuple[str, int, int | None]]]:
        """By rule: severity, the session on which it opened and the one on which it closed."""
        self.write()
        for session in self.days:
            close = self.monitor.calendar.session_close(session)
            signals = np.random.default_rng(session.toordinal()).normal(size=len(NAMES))
            self.monitor.record_predictions(
                {
                    "entity_key": NAMES,
                    "signal_time": [close + timedelta(hours=1)] * len(NAMES),
                    "signal": signals,
                }
            )
        self.monitor.backfill(self.days[FIRST], self.days[BROKEN - 1])
        self.monitor.accept(self.days[FIRST], self.days[BROKEN - 5], "calm", min_sessions=0)
        self.monitor.backfill(self.days[BROKEN - 4], self.days[-1])
        return self.alerts()

    def alerts(self) -> dict[str, list[tuple[str, int, int | None]]]:
        by_rule: dict[str, list[tuple[str, int, int | None]]] = {}
        for alert in self.monitor.alerts():
            end = alert.resolved_session
            span = (alert.severity, self.days.index(alert.session), end and self.days.index(end))
            by_rule.setdefault(alert.rule, []).append(span)
        return by_rule


@pytest.fixture
def feeds(monitor: DriftMonitor, days: list[date]) -> Feeds:
    return Feeds(monitor, days)


WHILE = slice(BROKEN, REPAIRED)


@pytest.mark.parametrize("step", [1, 2])
def test_a_late_feature_is_an_alert_although_its_values_change_every_day(
    feeds: Feeds, step: int
) -> None:
    feeds.served["rsi"][BROKEN:] = feeds.true["rsi"][BROKEN - step : LAST - step]
    found = feeds.judge()
    assert found["feature late"] == [("critical", BROKEN, None)]
    [alert] = [alert for alert in feeds.monitor.alerts() if alert.rule == "feature late"]
    assert alert.note == f"rsi {step} session{'s' * (step > 1)} behind"


def test_a_late_feature_is_right_again_when_its_sessions_are_corrected(feeds: Feeds) -> None:
    feeds.served["rsi"][WHILE] = feeds.true["rsi"][BROKEN - 1 : REPAIRED - 1]
    corrections = feeds.frame({"rsi": feeds.true["rsi"]}, range(BROKEN, REPAIRED))
    known = feeds.monitor.calendar.session_close(feeds.days[REPAIRED])
    with FeatureStore(feeds.monitor.uri) as store:
        feeds.write()
        corrections["known"] = [known] * len(corrections["entity_key"])
        store.write_frame(corrections, ingest_time="known")
    assert feeds.judge()["feature late"] == [("critical", BROKEN, REPAIRED)]


def test_a_person_can_confirm_that_a_late_feature_is_right_again(feeds: Feeds) -> None:
    feeds.served["rsi"][WHILE] = feeds.true["rsi"][BROKEN - 1 : REPAIRED - 1]
    assert feeds.judge()["feature late"] == [("critical", BROKEN, None)]
    with pytest.raises(ValueError, match="needs a reason"):
        feeds.monitor.confirm_repair(feeds.days[REPAIRED], by="ann", reason=" ")
    with pytest.raises(
        ValueError, match=r"no feature 'rsl' \(did you mean rsi\?\); watched are: .*vol"
    ):
        feeds.monitor.confirm_repair(feeds.days[REPAIRED], feature="rsl", by="ann", reason="rerun")
    feeds.monitor.confirm_repair(feeds.days[REPAIRED], feature="vol", by="ann", reason="wrong one")
    assert feeds.alerts()["feature late"] == [("critical", BROKEN, None)]
    feeds.monitor.confirm_repair(feeds.days[REPAIRED], feature="rsi", by="ann", reason="rerun")
    assert feeds.alerts()["feature late"] == [("critical", BROKEN, REPAIRED)]


@pytest.mark.parametrize("hours", [-8, 8])
def test_a_clock_that_moved_is_an_alert_until_it_is_set_right(feeds: Feeds, hours: int) -> None:
    """Late event times are of the session before, when the next one is judged."""
    feeds.delays[WHILE] = [timedelta(hours=hours)] * (REPAIRED - BROKEN)
    found = feeds.judge()
    seen_from = BROKEN if hours < 0 else BROKEN + 1
    assert found["feature clock"] == [("critical", seen_from, REPAIRED)]
    if hours > 0:
        assert found["feature stopped"] == [("critical", BROKEN, BROKEN + 1)]


def test_a_stopped_job_is_one_alert_that_is_not_inhibited(feeds: Feeds) -> None:
    for values in feeds.served.values():
        values[WHILE] = np.nan
    found = feeds.judge()
    assert found["feature stopped"] == [("critical", BROKEN, REPAIRED)]
    during = [a for a in feeds.monitor.alerts() if a.session == feeds.days[BROKEN]]
    assert {a.rule for a in during if not a.inhibited} >= {"feature stopped"}
    [stopped] = [a for a in during if a.rule == "feature stopped"]
    assert stopped.note == "2 of 2 features, all 40 names: rsi, vol"


def test_healthy_feeds_raise_no_alert(feeds: Feeds) -> None:
    assert not [rule for rule in feeds.judge() if rule.startswith("feature")]


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("few names", lambda said: {name: column[:15] for name, column in said.items()}),
        ("constant signals", lambda said: {**said, "signal": [0.25] * len(said["signal"])}),
        ("fewer signals", lambda said: {name: column[:25] for name, column in said.items()}),
        ("no version", lambda said: {k: v for k, v in said.items() if k != "model_version"}),
    ],
)
def test_predictions_that_become_poor_are_an_alert_until_they_are_whole_again(
    monitor: DriftMonitor, strategy: Strategy, rule: str, change: Callable[..., Any]
) -> None:
    for number in range(6):
        named = {"model_name": ["mom"] * len(NAMES), "model_version": ["1"] * len(NAMES)}
        said = strategy.predictions(slice(number, number + 1), **named)
        monitor.record_predictions(change(said) if number in (3, 4) else said)
    monitor.record_returns(strategy.realized(slice(6)))
    monitor.backfill(strategy.days[0], strategy.days[5])
    [alert] = [alert for alert in monitor.alerts() if alert.rule == rule]
    assert (alert.session, alert.resolved_session) == (strategy.days[3], strategy.days[5])


def test_a_missing_strategy_return_is_an_alert_until_it_is_recorded(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    strategy.record(monitor, slice(5))
    strategy.record(monitor, slice(6, 9))
    monitor.record_predictions(strategy.predictions(slice(5, 6)))
    monitor.backfill(strategy.days[0], strategy.days[8])
    [alert] = [a for a in monitor.alerts() if a.rule == "strategy returns missing"]
    assert (alert.session, alert.state) == (strategy.days[6], "open")
    assert alert.note == f"missing: {strategy.days[5]}"
    monitor.record_strategy_returns(strategy.own(slice(5, 6)))
    monitor.run_daily(strategy.days[8])
    assert not [a for a in monitor.alerts(states=["open"]) if a.rule == "strategy returns missing"]


def test_strategy_returns_that_stop_are_an_alert_one_session_later(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    strategy.record(monitor, slice(5))
    monitor.record_predictions(strategy.predictions(slice(5, 8)))
    monitor.backfill(strategy.days[0], strategy.days[7])
    [alert] = [a for a in monitor.alerts() if a.rule == "strategy returns missing"]
    assert (alert.session, alert.state) == (strategy.days[6], "open")
