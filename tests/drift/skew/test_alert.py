"""A session with a wrong cell opens an alert, which stays open until served values agree again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from drift import DriftMonitor, Rule
from mlflow_timescale.cli import main

DAY = 12
Desk = Any


@pytest.fixture
def late(desk: Desk, rsi: str) -> Desk:
    """Served a session late from `DAY` on, right again in the last session."""
    for day in range(20):
        is_late = DAY <= day < 19
        desk.serve(day, {rsi: desk.values[rsi][day - 1]} if is_late else {})
    return desk


def test_the_alert_opens_on_the_first_morning_and_closes_when_values_agree(
    late: Desk, rsi: str
) -> None:
    monitor, days = late.monitor, late.days
    monitor.backfill(days[DAY - 2], days[DAY - 1])
    assert "skew" not in {alert.rule for alert in monitor.alerts()}
    assert "skew" in {alert.rule for alert in monitor.run_daily(days[DAY]).alerts}
    monitor.backfill(days[DAY + 1], days[18])
    [alert] = [alert for alert in monitor.alerts() if alert.rule == "skew"]
    assert (alert.session, alert.severity, alert.value) == (days[DAY], "critical", 12.0)
    assert alert.last_session == days[18]
    assert alert.note == (
        f"{rsi} shifted: value served at t = research value of t-1, 12 of 12 cells"
    )
    monitor.run_daily(days[19])
    assert "skew" not in {alert.rule for alert in monitor.alerts(states=["open"])}


@pytest.mark.parametrize("rules", ["classic", [Rule("ic low", "ic", "<", -0.9)]])
def test_the_alert_needs_no_rule_of_its_own(late: Desk, rules: Any) -> None:
    late.monitor.configure(rules=rules)
    metrics = late.monitor.run_daily(late.days[DAY])
    assert [alert.rule for alert in metrics.alerts if alert.severity == "critical"] == ["skew"]


def test_a_note_groups_the_features_of_one_diagnosis(desk: Desk, rsi: str) -> None:
    names = [rsi, *(f"{rsi} {k}" for k in range(4))]
    right = {name: desk.values[rsi][DAY] + k for k, name in enumerate(names)}
    desk.write(DAY, {name: right[name] for name in names[1:]})
    desk.serve(DAY, {name: -values for name, values in right.items()})
    [alert] = desk.monitor.run_daily(desk.days[DAY]).alerts
    assert alert.note == f"{', '.join(names)} sign exchanged, 12 of 12 cells"


def test_a_strategy_that_serves_elsewhere_has_no_skew(desk: Desk) -> None:
    monitor = desk.monitor
    rows = {"entity_key": [f"N{i:02d}" for i in range(12)], "session": [desk.days[DAY]] * 12}
    monitor.record_predictions({**rows, "signal": [0.1 * i for i in range(12)]})
    metrics = monitor.run_daily(desk.days[DAY])
    assert "skew" not in {value.metric for value in metrics.values}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(["incident", "skew", *arguments])
    return int(end.value.code or 0), capsys.readouterr().out


def test_the_command_prints_the_diagnosis(
    late: Desk, rsi: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TIMESCALE_URI", late.uri.url)
    days = late.days
    late.monitor.backfill(days[DAY - 1], days[18])
    code, out = run(capsys, "-s", late.strategy, str(days[10]), str(days[18]))
    assert code == 3
    assert f"{days[10]} to {days[18]}, 9 sessions, 12 names, 216 cells served" in out
    [row] = [line for line in out.splitlines() if line.startswith(rsi)]
    assert row.split()[2:4] == ["22.2%", str(days[DAY])]
    assert row.endswith(
        f"shifted: value served at t = research value of t-1, 84 of 84 cells; "
        f"still so on {days[18]}"
    )
    assert "1 feature wrong in 7 sessions. First alert: " in out
    code, out = run(capsys, "-s", late.strategy)
    assert code == 0
    assert str(days[19]) in out
    assert "Every served value that was compared agrees" in out
    code, out = run(capsys, "-s", late.strategy, str(days[DAY]), "--json")
    assert code == 3
    assert '"kind": "shifted"' in out


def test_sources_and_tolerances_are_stored_with_the_strategy(
    desk: Desk, rsi: str, tmp_path: Path
) -> None:
    desk.serve(DAY, {rsi: desk.values[rsi][DAY] * (1 + 1e-7)})
    assert not desk.reconcile(DAY, DAY).agrees
    desk.monitor.configure(tolerances={rsi: 1e-6, "*": 1e-8})
    assert desk.reconcile(DAY, DAY).agrees
    path = tmp_path / "research.csv"
    rows = [f"N{i:02d},{desk.days[DAY]},{-v}" for i, v in enumerate(desk.values[rsi][DAY])]
    path.write_text("\n".join([f"entity_key,session,{rsi}", *rows]))
    desk.monitor.configure(research={rsi: path}, tolerances={"*": 1e-5})
    other = DriftMonitor(desk.uri, desk.strategy, tracking_uri=False)
    assert dict(other.strategy.tolerances) == {"*": 1e-5}
    result = other.reconcile(desk.days[DAY], desk.days[DAY])
    [found] = next(f for f in result.features if f.feature == rsi).findings
    assert found.kind == "sign"
    with pytest.raises(ValueError, match="cannot be stored"):
        desk.monitor.configure(research={rsi: lambda spine: spine})


def test_event_times_that_move_in_serving_alone_open_the_alert(desk: Desk, rsi: str) -> None:
    for day in range(DAY):
        desk.serve(day)
    desk.serve(DAY, late=timedelta(hours=-4))
    monitor, days = desk.monitor, desk.days
    monitor.backfill(days[DAY - 2], days[DAY - 1])
    metrics = monitor.run_daily(days[DAY])
    [alert] = [alert for alert in metrics.alerts if alert.rule == "skew"]
    assert f"event_time moved by -4h00 since {days[DAY]}" in alert.note
    assert alert.value == 24.0  # two features of twelve names
