"""Strategies that signal weekly, lose names slowly, or whose returns cover few names."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from support.strategies import NAMES, Strategy

from drift import DriftMonitor

SHORT = NAMES[:15]


def open_rules(monitor: DriftMonitor) -> dict[str, str]:
    return {alert.rule: alert.note for alert in monitor.alerts(states=["open"])}


def test_a_weekly_strategy_is_silent_between_its_signals_and_not_for_longer(
    monitor: DriftMonitor, days: list[date], make: Callable[..., Strategy]
) -> None:
    weekly = make(days[:60:5])
    weekly.record(monitor)
    monitor.backfill(days[0], days[59])
    assert "no signals" not in {alert.rule for alert in monitor.alerts()}
    monitor.backfill(days[60], days[61])
    [alert] = [alert for alert in monitor.alerts(states=["open"]) if alert.rule == "no signals"]
    assert alert.session == days[60]


def test_names_that_go_one_by_one_are_missed_although_each_day_is_like_the_one_before(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    strategy.record(monitor, slice(40))
    monitor.backfill(strategy.days[0], strategy.days[39])
    monitor.accept(strategy.days[0], strategy.days[39], "whole", min_sessions=30)
    for number in range(40, 60):
        rows = strategy.predictions(slice(number, number + 1))
        monitor.record_predictions({k: column[: 79 - number] for k, column in rows.items()})
    monitor.backfill(strategy.days[40], strategy.days[59])
    assert "fewer signals" in open_rules(monitor)


@pytest.mark.parametrize(
    ("rule", "note", "change"),
    [
        ("few returns", "15 names, and an IC needs min_n 20", lambda rows: cut(rows)),
        ("no returns", "40 returns of", lambda rows: renamed(rows)),
    ],
)
def test_returns_that_never_fitted_the_signals_are_told(
    monitor: DriftMonitor, strategy: Strategy, rule: str, note: str, change: Any
) -> None:
    for number in range(4):
        monitor.record_predictions(strategy.predictions(slice(number, number + 1)))
        if number:
            monitor.record_returns(change(strategy.realized(slice(number - 1, number))))
        close = monitor.calendar.session_close(strategy.days[number])
        monitor.run_daily(now=close + timedelta(hours=2))
    assert note in open_rules(monitor)[rule]


def cut(rows: dict[str, Any]) -> dict[str, Any]:
    return {name: column[: len(SHORT)] for name, column in rows.items()}


def renamed(rows: dict[str, Any]) -> dict[str, Any]:
    return {**rows, "entity_key": [f"US-{name}" for name in rows["entity_key"]]}


def test_a_revision_takes_back_the_remark_on_the_return_that_it_corrects(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    strategy.record(monitor, slice(3))
    day, right = strategy.days[1], strategy.realized(slice(1, 2))
    monitor.record_returns({**right, "value": (np.array(right["value"]) * 100).tolist()})
    monitor.backfill(strategy.days[0], strategy.days[2])
    assert monitor.metrics(day, day)[0].remarks
    monitor.record_returns(right)
    monitor.run_daily(strategy.days[2])
    assert not monitor.metrics(day, day)[0].remarks
