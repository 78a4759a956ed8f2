"""No result looks healthy beside an open alert, and a past session is shown as it was."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from support.strategies import Strategy

from drift import DriftMonitor
from drift.daily import HEALTHY, Daily, daily_job


def daily(monitor: DriftMonitor, session: date) -> Daily:
    [result] = daily_job(monitor.uri, ["momentum"], session=session, tracking_uri=False)
    assert isinstance(result, Daily)
    return result


def test_the_result_of_a_session_has_its_alerts_and_the_worst_severity(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    strategy.record(monitor, slice(5))
    healthy = monitor.backfill(strategy.days[0], strategy.days[4])[-1]
    assert (healthy.status, healthy.alerts) == ("ok", ())
    calculated = monitor.calculate_metrics(strategy.days[5])
    metrics = monitor.run_daily(strategy.days[5])
    for result in (metrics, calculated, monitor.metrics(strategy.days[5], strategy.days[5])[0]):
        assert result.status == "critical"
        assert [alert.rule for alert in result.alerts] == ["no signals"]
    with monitor.connect() as conn:
        rows = conn.execute("SELECT status FROM mlops.drift_metrics ORDER BY date").fetchall()
    assert [status for [status] in rows] == ["ok"] * 5 + ["critical"]


def test_a_past_session_is_shown_as_it_was(monitor: DriftMonitor, strategy: Strategy) -> None:
    strategy.record(monitor, slice(8))
    monitor.backfill(strategy.days[0], strategy.days[7])
    monitor.run_daily(strategy.days[9])  # two sessions without signals
    monitor.record_predictions(strategy.predictions(slice(10, 11)))
    monitor.run_daily(strategy.days[10])  # signals again
    before, during = daily(monitor, strategy.days[6]), daily(monitor, strategy.days[9])
    assert before.healthy
    assert before.decision[0].startswith(HEALTHY)
    assert (during.alerts[0].rule, during.alerts[0].state) == ("no signals", "open")
    assert not any(alert.rule == "no signals" for alert in daily(monitor, strategy.days[10]).alerts)


def test_the_report_has_the_cautions_of_its_session(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    strategy.record(monitor, slice(8))
    monitor.backfill(strategy.days[0], strategy.days[3])
    monitor.backfill(strategy.days[5], strategy.days[7])
    never, stopped = f"session {strategy.days[4]} was never computed", "the daily job has not run"
    last, earlier = monitor.report(), monitor.report(strategy.days[3])
    assert (never in last, stopped in last) == (True, True)
    assert (never in earlier, stopped in earlier) == (False, False)


def test_an_alert_that_a_louder_one_inhibits_later_was_heard_before(
    monitor: DriftMonitor, days: list[date], make: Callable[..., Strategy]
) -> None:
    strategy = make(days, [0.3] * 70 + [-0.1] * 30)
    strategy.record(monitor)
    monitor.backfill(days[0], days[-1])
    monitor.accept(days[0], days[69], "calm", min_sessions=60)
    monitor.backfill(days[70], days[-1])
    opened = {alert.rule: alert.session for alert in monitor.alerts()}
    first = opened["ic drift"]
    assert first < opened["ic drift critical"]
    [metrics] = monitor.metrics(first, first)
    assert [alert.rule for alert in metrics.alerts] == ["ic drift"]
    [last] = monitor.metrics(days[-1], days[-1])
    assert "ic drift" not in {alert.rule for alert in last.alerts}


def test_a_person_who_acknowledged_an_alert_is_not_told_of_it_again(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    strategy.record(monitor, slice(5))
    monitor.backfill(strategy.days[0], strategy.days[4])
    [alert] = monitor.run_daily(strategy.days[5]).alerts
    monitor.acknowledge(alert.alert_id, by="ann")
    assert monitor.metrics(strategy.days[5], strategy.days[5])[0].alerts == ()


def test_nothing_is_called_healthy_beside_an_acknowledged_alert(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    strategy.record(monitor, slice(5))
    monitor.backfill(strategy.days[0], strategy.days[4])
    [alert] = monitor.run_daily(strategy.days[5]).alerts
    monitor.acknowledge(alert.alert_id, by="ann", note="vendor called")
    result = daily(monitor, strategy.days[5])
    assert (result.metrics.status, result.healthy) == ("acknowledged", True)
    [line] = result.decision
    assert line.startswith("acknowledged: no signals (critical since")
    assert line.endswith("by ann: vendor called)")
