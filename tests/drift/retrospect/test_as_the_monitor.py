"""A model of the past gets the values, alerts and onset that the monitor gives it."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from support.strategies import NAMES, Strategy

from drift import DriftMonitor
from drift.metrics.turnover import rank_return
from drift.results import values as stored_values
from drift.retrospect.judging import Terms, judge
from drift.retrospect.panels import Panel
from mlflow_timescale import db

REFERENCE, FALL, SESSIONS = 60, 100, 150
SAME = ("ic", "ic_60d_avg", "ic_cusum", "psi_max", "psi_ratio", "psi_5d_ratio", "sharpe_60d")


@pytest.mark.slow
def test_values_alerts_and_onset_are_those_of_the_monitor(monitor: DriftMonitor) -> None:
    days = monitor.calendar.sessions_in_range(date(2024, 1, 2), date(2024, 12, 31))[:SESSIONS]
    strategy = Strategy.of(days, [0.3] * FALL + [-0.1] * (SESSIONS - FALL))
    strategy.signals[120:] *= 2  # the scores drift
    returns = strategy.returns / 100
    own = [rank_return(*pair) for pair in zip(strategy.signals, returns, strict=True)]
    monitor.record_predictions(strategy.predictions())
    monitor.record_returns(strategy.realized())
    monitor.record_strategy_returns({"session": days, "value": own})
    monitor.backfill(days[0], days[REFERENCE - 1])
    monitor.accept(days[0], days[REFERENCE - 1], "calm", min_sessions=REFERENCE)
    monitor.backfill(days[REFERENCE], days[-1])

    starts = np.arange(SESSIONS + 1) * len(NAMES)
    names = np.tile(np.arange(len(NAMES)), SESSIONS)
    panel = Panel(tuple(days), starts, names, strategy.signals.ravel(), returns.ravel())
    judged = judge("momentum", panel, Terms(reference=REFERENCE))

    with db.connect(monitor.uri) as conn:
        stored = stored_values.of_sessions(conn, "momentum", days[REFERENCE], days[-1], SAME, [""])
    for metric in SAME:
        there = {v.session: v.value for v in stored if v.metric == metric and v.value is not None}
        here = dict(zip(days, judged.values[metric].tolist(), strict=True))
        assert len(there) >= SESSIONS - FALL
        assert {day: here[day] for day in there} == pytest.approx(there, abs=1e-9)
    found = monitor.onset()
    assert found is not None
    assert judged.decay is not None
    assert (judged.decay.first, judged.decay.interval) == (found.first, found.interval)
    assert judged.decay.onset.after == pytest.approx(found.onset.after)
    of_monitor = {(a.rule, a.session) for a in monitor.alerts() if a.metric in SAME}
    of_model = {(a.rule.name, a.opened) for a in judged.alerts if a.resolved is None}
    assert of_monitor
    assert of_monitor == {pair for pair in of_model if pair[0] in {n for n, _ in of_monitor}}
