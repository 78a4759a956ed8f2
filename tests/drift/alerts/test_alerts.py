"""What becomes of alerts: acknowledged, silenced, resolved, revised away."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta

import pytest
from support.strategies import Strategy

from drift import DriftMonitor, Rule
from drift.alerts import lifecycle
from drift.alerts.lifecycle import NoSuchAlert

LOW = Rule("low", "ic", "<", 0.0, sessions=2, action="Look at it.", resolve_sessions=2)


@pytest.fixture
def watched(monitor: DriftMonitor) -> DriftMonitor:
    return DriftMonitor(monitor.uri, "momentum", rules=[LOW], tracking_uri=False, notify=())


@pytest.fixture
def faulty(days: list[date], make: Callable[..., Strategy]) -> Strategy:
    """Skill, then its opposite from session 5 to 9, then skill again."""
    return make(days[:20], [0.9] * 5 + [-0.9] * 5 + [0.9] * 10)


def states(monitor: DriftMonitor) -> list[tuple[str, date, str]]:
    return [(alert.rule, alert.session, alert.state) for alert in monitor.alerts()]


def history(monitor: DriftMonitor) -> list[tuple[str | None, str | None]]:
    with monitor.connect() as conn:
        found = lifecycle.history(conn, monitor.strategy_id)
    return [(event["state_before"], event["state_after"]) for event in found]


def test_an_alert_opens_after_its_streak_and_resolves_with_hysteresis(
    watched: DriftMonitor, faulty: Strategy
) -> None:
    faulty.record(watched)
    watched.backfill(faulty.days[0], faulty.days[9])
    assert states(watched) == [("low", faulty.days[6], "open")]
    watched.backfill(faulty.days[10], faulty.days[10])
    assert states(watched)[0][2] == "open"
    watched.backfill(faulty.days[11], faulty.days[11])
    [alert] = watched.alerts()
    assert (alert.state, alert.resolved_session) == ("resolved", faulty.days[11])
    assert alert.last_session == faulty.days[10]
    assert history(watched) == [(None, "open"), ("open", "resolved")]


def test_an_acknowledged_alert_stays_acknowledged_while_it_holds(
    watched: DriftMonitor, faulty: Strategy
) -> None:
    faulty.record(watched)
    watched.backfill(faulty.days[0], faulty.days[6])
    watched.acknowledge(watched.alerts()[0].alert_id, by="ann", note="vendor called")
    watched.backfill(faulty.days[7], faulty.days[9])
    [alert] = watched.alerts(states=["acknowledged"])
    assert (alert.changed_by, alert.note) == ("ann", "vendor called")
    watched.backfill(faulty.days[10], faulty.days[12])
    assert history(watched) == [
        (None, "open"),
        ("open", "acknowledged"),
        ("acknowledged", "resolved"),
    ]


def test_only_an_open_alert_can_be_acknowledged(watched: DriftMonitor) -> None:
    with pytest.raises(NoSuchAlert, match="no open alert 99"):
        watched.acknowledge(99, by="ann")


def close(monitor: DriftMonitor, session: date) -> datetime:
    return monitor.calendar.session_close(session)


def test_a_silence_holds_by_the_sessions_close_whenever_they_are_computed(
    watched: DriftMonitor, faulty: Strategy
) -> None:
    faulty.record(watched)
    start, end = (close(watched, faulty.days[i]) for i in (6, 8))
    watched.silence("low", since=start, until=end, by="ann", why="index rebalancing")
    watched.backfill(faulty.days[0], faulty.days[8])
    assert states(watched)[0][2] == "silenced"
    watched.backfill(faulty.days[9], faulty.days[9])
    assert states(watched)[0][2] == "open"


def test_a_silence_hushes_an_open_alert_at_once(watched: DriftMonitor, faulty: Strategy) -> None:
    faulty.record(watched)
    watched.backfill(faulty.days[0], faulty.days[7])
    until = close(watched, faulty.days[15])
    since = close(watched, faulty.days[0])
    assert watched.silence("low", since=since, until=until, by="ann", why="known") == 1
    [alert] = watched.alerts()
    assert (alert.state, alert.silenced_until) == ("silenced", until)


def test_a_silence_needs_a_reason_and_an_end(watched: DriftMonitor, days: list[date]) -> None:
    begin = close(watched, days[1])
    with pytest.raises(ValueError, match="before it begins"):
        watched.silence("low", since=begin, until=begin - timedelta(days=1), by="a", why="b")
    with pytest.raises(ValueError, match="needs a reason"):
        watched.silence("low", since=begin, until=begin + timedelta(days=1), by="a", why=" ")


def test_an_alert_that_a_revision_takes_away_is_resolved(
    watched: DriftMonitor, faulty: Strategy, make: Callable[..., Strategy]
) -> None:
    faulty.record(watched, slice(10))
    watched.backfill(faulty.days[0], faulty.days[9])
    mended = faulty.realized(slice(5, 10))
    mended["value"] = [-value for value in mended["value"]]
    watched.record_returns(mended)
    watched.run_daily(faulty.days[9])
    [alert] = watched.alerts()
    assert (alert.state, alert.note) == ("resolved", lifecycle.REVISED_AWAY)


def test_a_revision_that_moves_the_start_keeps_what_people_said(
    watched: DriftMonitor, faulty: Strategy
) -> None:
    faulty.record(watched, slice(10))
    watched.backfill(faulty.days[0], faulty.days[9])
    watched.acknowledge(watched.alerts()[0].alert_id, by="ann")
    mended = faulty.realized(slice(5, 6))
    mended["value"] = [-value for value in mended["value"]]
    watched.record_returns(mended)
    watched.run_daily(faulty.days[9])
    assert states(watched) == [("low", faulty.days[7], "acknowledged")]


def test_sessions_without_a_value_neither_extend_nor_end_a_streak(
    watched: DriftMonitor, faulty: Strategy
) -> None:
    for index in (0, 1, 2, 3, 4, 5, 7):
        faulty.record(watched, slice(index, index + 1))
    watched.backfill(faulty.days[0], faulty.days[6])
    assert states(watched) == []
    watched.backfill(faulty.days[7], faulty.days[7])
    assert states(watched) == [("low", faulty.days[7], "open")]


def test_a_change_of_state_is_announced_in_the_database(
    watched: DriftMonitor, faulty: Strategy
) -> None:
    faulty.record(watched)
    with watched.connect() as listener:
        listener.execute("LISTEN mlops_drift_alerts")
        watched.backfill(faulty.days[0], faulty.days[6])
        [notice] = listener.notifies(timeout=5, stop_after=1)
    assert '"rule" : "low"' in notice.payload
    assert '"state" : "open"' in notice.payload
