"""Which version is judged, and whether it was the champion."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from support.strategies import NAMES, Strategy

from drift import DriftMonitor
from drift.computation.served_version import served_version
from drift.inputs.champions import Champions, Championship
from drift.inputs.signals_and_returns import Judged, Observed, Signal
from mlflow_timescale.common.calendars import TradingCalendar

NYSE = TradingCalendar("XNYS")
CLOSE = datetime(2024, 1, 3, 21, tzinfo=timezone.utc)


class Recorded(Champions):
    """Champions of "mom" without a database."""

    def __init__(self, *periods: tuple[int, str, str | None]) -> None:
        self._periods = [
            Championship(v, _at(s), _at(u) if u else None, "", "") for v, s, u in periods
        ]

    def _of(self, model: str) -> Sequence[Championship]:
        return self._periods if model == "mom" else ()


def _at(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=timezone.utc)


def signal(version: str, names: int, minutes: int = 0, **fields: Any) -> Signal:
    values = {"name": "signal", "horizon": 1, "model_name": "mom", **fields}
    return Signal(
        **values,
        model_version=version,
        signal_time=CLOSE + timedelta(minutes=minutes),
        entities=np.arange(names),
        values=np.ones(names),
        groups=None,
    )


@pytest.mark.parametrize(
    ("named", "champions", "before", "judged"),
    [
        ("", (), "", "1"),  # most names
        ("2", (), "1", "2"),  # named by the monitor
        ("", ((2, "2024-01-01", None),), "1", "2"),  # champion
        ("", ((3, "2024-01-01", None),), "2", "1"),  # a champion that did not signal
        ("", ((2, "2024-01-04", None),), "", "1"),  # champion only since the day after
    ],
)
def test_one_version_of_several_is_judged(
    named: str, champions: Any, before: str, judged: str
) -> None:
    rule = Judged("signal", "mom", named, Recorded(*champions))
    chosen = rule.choose([signal("1", 30), signal("2", 3, minutes=1)], before)
    assert chosen is not None
    assert chosen.model_version == judged


@pytest.mark.parametrize(("before", "judged"), [("1", "1"), ("2", "2"), ("", "2")])
def test_on_a_tie_the_version_of_the_session_before_is_judged(before: str, judged: str) -> None:
    chosen = Judged().choose([signal("1", 30), signal("2", 30, minutes=1)], before)
    assert chosen is not None
    assert chosen.model_version == judged


@pytest.mark.parametrize(
    ("served", "champions", "value", "status"),
    [
        ("1", ((1, "2024-01-01", None),), 0.0, "ok"),
        ("v1", ((1, "2024-01-01", None),), 0.0, "ok"),
        ("2", ((1, "2024-01-01", None),), 1.0, "ok"),
        ("1", ((1, "2024-01-01", "2024-01-03"), (2, "2024-01-03", None)), 1.0, "ok"),
        ("1", ((1, "2024-01-01", "2024-01-04"), (2, "2024-01-04", None)), 0.0, "ok"),
        ("2", ((1, "2024-02-01", None),), None, "unknown"),  # before the history
        ("2", ((1, "2024-01-01", "2024-01-02"),), None, "unknown"),  # no champion at the time
        ("2", (), None, "unknown"),
        ("", ((1, "2024-01-01", None),), None, "no_version"),
    ],
)
def test_the_version_is_compared_as_of_the_decision(
    served: str, champions: Any, value: float | None, status: str
) -> None:
    primary = signal(served, 30)
    observed = Observed(date(2024, 1, 3), (primary,), {}, primary)
    compared, note = served_version(observed, Recorded(*champions), NYSE)
    assert (compared.value, compared.status) == (value, status)
    assert bool(note) == bool(value)


def test_the_last_session_is_compared_with_the_champion_of_today() -> None:
    """Its signals may be older than the history of the registry."""
    last = NYSE.last_sessions(1, datetime.now(timezone.utc))[-1]
    primary = signal("2", 30)
    observed = Observed(last, (primary,), {}, primary)
    today = f"{datetime.now(timezone.utc):%Y-%m-%d}"
    compared, note = served_version(observed, Recorded((1, today, None)), NYSE)
    assert compared.value == 1.0
    assert note == f"served mom/2, champion is 1 (since {today})"


def test_a_wrong_version_is_a_critical_alert_until_the_champion_serves_again(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    with monitor.connect() as conn:
        conn.execute(
            "INSERT INTO mlops.registry_history "
            "(workspace, name, kind, subject, version, valid_from, mlflow_user) "
            "VALUES ('default', 'mom', 'alias', 'champion', 1, '2023-12-01', 'ann')"
        )
    for number, version in enumerate(["1", "2", "2", "1"]):
        named = {"model_name": ["mom"] * len(NAMES), "model_version": [version] * len(NAMES)}
        monitor.record_predictions(strategy.predictions(slice(number, number + 1), **named))
    judged = monitor.backfill(strategy.days[0], strategy.days[3])
    assert [metrics.model_version for metrics in judged] == ["1", "2", "2", "1"]
    [alert] = [alert for alert in monitor.alerts() if alert.rule == "version"]
    assert (alert.severity, alert.session, alert.resolved_session) == (
        "critical",
        strategy.days[1],
        strategy.days[3],
    )
    assert alert.note == "served mom/2, champion is 1 (since 2023-12-01, by ann)"


def test_a_shadow_version_is_computed_beside_the_judged_one(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    named = {"model_name": ["mom"] * len(NAMES), "model_version": ["1"] * len(NAMES)}
    monitor.record_predictions(strategy.predictions(slice(1), **named))
    shadow = {name: column[:25] for name, column in strategy.predictions(slice(1)).items()}
    shadow["signal"] = [-value for value in shadow["signal"]]
    late = [monitor.calendar.session_close(strategy.days[0]) + timedelta(minutes=1)] * 25
    monitor.record_predictions(
        {**shadow, "signal_time": late, "model_name": ["mom"] * 25, "model_version": ["2"] * 25}
    )
    monitor.record_returns(strategy.realized(slice(1)))
    metrics = monitor.calculate_metrics(strategy.days[0])
    assert (metrics.model_version, metrics.n_signals) == ("1", len(NAMES))
    assert metrics.value("ic", "mom/2") is not None


def test_a_model_that_the_registry_does_not_know_is_a_caution(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    client = MlflowClient(tracking_uri=monitor.uri.url, registry_uri=monitor.uri.url)
    client.create_registered_model("momentum")
    monitor.record_predictions(strategy.predictions(slice(1), model_name=["momentun"] * 40))
    monitor.backfill(strategy.days[0], strategy.days[0])
    first, *_ = monitor.cautions(monitor.calendar.session_close(strategy.days[0]))
    assert first.startswith("the predictions name the model 'momentun', which the registry does")
    assert "did you mean momentum?" in first


def test_a_report_says_what_changed_since_the_session_before(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    for number, version in ((0, "1"), (1, "2")):
        named = {"model_name": ["mom"] * 40, "model_version": [version] * 40}
        monitor.record_predictions(strategy.predictions(slice(number, number + 1), **named))
    monitor.backfill(strategy.days[0], strategy.days[1])
    page = monitor.report(strategy.days[1])
    assert "<li>served by mom/2, before by mom/1</li>" in page
    assert "Caution: no reference has been accepted" in page
    assert "no signals opened (critical)" in (
        monitor.run_daily(strategy.days[2]) and monitor.report(strategy.days[2])
    )


def test_an_alias_that_moves_back_opens_the_alert_again(monitor: DriftMonitor) -> None:
    client = MlflowClient(tracking_uri=monitor.uri.url, registry_uri=monitor.uri.url)
    client.create_registered_model("mom")
    for _ in range(2):
        client.create_model_version("mom", "file:///models/mom")
    last = monitor.calendar.last_sessions(1, datetime.now(timezone.utc))[-1]
    named = {"model_name": ["mom"] * 40, "model_version": ["2"] * 40}
    signals = np.random.default_rng(0).normal(size=40)
    frame = {"entity_key": NAMES, "session": [last] * 40, "signal": signals, **named}
    monitor.record_predictions(frame)
    for champion, expected in (("1", ["version"]), ("2", []), ("1", ["version"])):
        client.set_registered_model_alias("mom", "champion", champion)
        metrics = monitor.run_daily(last)
        assert [alert.rule for alert in metrics.alerts] == expected
        assert all("served mom/2, champion is 1" in alert.note for alert in metrics.alerts)
        assert metrics.status == ("critical" if expected else "ok")
