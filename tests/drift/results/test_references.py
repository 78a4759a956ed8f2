"""Accepting windows as references."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import numpy as np
import pytest
from support.strategies import Strategy

from drift import DriftMonitor
from drift.results.references import NotAcceptable


def test_a_reference_keeps_the_level_of_the_ic(monitor: DriftMonitor, strategy: Strategy) -> None:
    strategy.record(monitor)
    found = monitor.backfill(strategy.days[0], strategy.days[79])
    ics = np.array([metrics.ic for metrics in found])
    assert monitor.accept(strategy.days[0], strategy.days[79], "first", min_sessions=60) == 1
    accepted, fixed = monitor.references()
    assert (accepted.role, fixed.role) == ("accepted", "fixed")
    assert accepted.ic_mean == pytest.approx(ics.mean())
    assert accepted.ic_sd == pytest.approx(ics.std(ddof=1))
    assert (accepted.ic_n, accepted.reason) == (80, "first")


def test_sessions_computed_already_are_judged_by_the_new_reference(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    strategy.record(monitor)
    monitor.backfill(strategy.days[0], strategy.days[-1])
    monitor.accept(strategy.days[0], strategy.days[79], "first", min_sessions=60)
    last = monitor.run_daily(strategy.days[-1])
    assert last.ic_cusum is not None
    within, after = monitor.metrics(strategy.days[79], strategy.days[80])
    assert within.ic_cusum is None
    assert after.ic_cusum is not None
    assert after.psi is not None


def test_a_session_is_judged_by_the_newest_window_that_ends_before_it(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    from drift.results.references import References

    strategy.record(monitor)
    monitor.backfill(strategy.days[0], strategy.days[-1])
    monitor.accept(strategy.days[0], strategy.days[39], "first", min_sessions=30)
    monitor.accept(strategy.days[40], strategy.days[69], "second", min_sessions=20)
    with monitor.connect() as conn:
        references = References(conn, "momentum")
        versions = [references.at(strategy.days[i]).version for i in (10, 45, 69, 70, 99)]  # type: ignore[union-attr]
    assert versions == [1, 1, 1, 2, 2]


def test_the_onset_of_a_fall_is_dated(
    monitor: DriftMonitor, days: list[date], make: Callable[..., Strategy]
) -> None:
    strategy = make(days, [0.3] * 80 + [-0.3] * 20)
    strategy.record(monitor)
    monitor.backfill(days[0], days[59])
    monitor.accept(days[0], days[59], "first", min_sessions=60)
    assert monitor.onset() is None
    monitor.backfill(days[60], days[-1])
    found = monitor.onset()
    assert found is not None
    fall, sessions = found
    assert abs(sessions.index(days[80]) - fall.index) <= 2
    assert sessions[fall.low] <= days[80] <= sessions[fall.high]
    assert fall.after < 0 < fall.before


def test_too_short_a_window_is_refused(monitor: DriftMonitor, strategy: Strategy) -> None:
    strategy.record(monitor, slice(50))
    monitor.backfill(strategy.days[0], strategy.days[49])
    with pytest.raises(NotAcceptable, match=r"has 50 sessions with an IC.*need 120"):
        monitor.accept(strategy.days[0], strategy.days[49], "too short")
    assert not [window for window in monitor.references() if window.role != "provisional"]


def test_a_reference_needs_a_reason(monitor: DriftMonitor, strategy: Strategy) -> None:
    with pytest.raises(NotAcceptable, match="needs a reason"):
        monitor.accept(strategy.days[0], strategy.days[49], " ")
