"""A strategy for which no reference was accepted: judged provisionally, and shown as such."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from support.strategies import NAMES, Strategy

from drift import DriftMonitor
from feature_store import FeatureStore
from mlflow_timescale.cli import main
from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.db.uri import DatabaseURI

YEAR = TradingCalendar("XNYS").sessions_in_range(date(2023, 1, 3), date(2023, 12, 29))
TURN = 160


@pytest.fixture
def turned(monitor: DriftMonitor, make: Callable[..., Strategy]) -> Strategy:
    """A skill of 0.3 that becomes -0.3."""
    strategy = make(YEAR[:180], [0.3] * TURN + [-0.3] * 20)
    strategy.record(monitor)
    return strategy


def ic_alerts(monitor: DriftMonitor) -> list[date]:
    return [alert.session for alert in monitor.alerts() if alert.rule == "ic drift"]


@pytest.mark.slow
def test_the_first_sessions_judge_until_a_window_is_accepted(
    monitor: DriftMonitor, turned: Strategy
) -> None:
    monitor.backfill(YEAR[0], YEAR[179])
    features, level = monitor.references()
    assert (features.role, features.window_end, features.ic_mean) == ("provisional", YEAR[19], None)
    assert (level.window_start, level.window_end, level.ic_n) == (YEAR[0], YEAR[119], 120)
    [opened] = ic_alerts(monitor)
    assert YEAR[TURN] <= opened <= YEAR[TURN + 4]
    [caution] = monitor.cautions(datetime.combine(YEAR[180], datetime.min.time(), timezone.utc))
    assert "no reference has been accepted: judged provisionally" in caution
    assert "mean IC 0.277" in caution


@pytest.mark.slow
def test_day_by_day_it_is_the_same(monitor: DriftMonitor, turned: Strategy) -> None:
    monitor.backfill(YEAR[0], YEAR[117])
    for session in YEAR[118:122]:
        monitor.run_daily(session)
    assert [window.window_end for window in monitor.references()] == [YEAR[19], YEAR[119]]


@pytest.mark.slow
def test_an_accepted_window_replaces_the_provisional_ones(
    monitor: DriftMonitor, turned: Strategy
) -> None:
    monitor.backfill(YEAR[0], YEAR[179])
    monitor.accept(YEAR[160], YEAR[179], "the new normal", min_sessions=20)
    monitor.run_daily(YEAR[179])
    assert [window.role for window in monitor.references()] == ["accepted", "fixed"]
    assert not monitor.alerts(states=["open"])
    [alert] = [alert for alert in monitor.alerts() if alert.rule == "ic drift"]
    assert alert.note == "its session belongs to a window that was accepted since"
    assert not monitor.cautions(datetime.combine(YEAR[180], datetime.min.time(), timezone.utc))


def test_daily_and_status_say_it_without_changing_their_exit_code(
    monitor: DriftMonitor, strategy: Strategy, capsys: Any
) -> None:
    strategy.record(monitor, slice(3))
    monitor.backfill(strategy.days[0], strategy.days[2])
    day = str(strategy.days[2])
    arguments = ["daily", "--uri", monitor.uri.url, "--no-mlflow", "--session", day]
    with pytest.raises(SystemExit) as left:
        main([*arguments, "--json"])
    [result] = json.loads(capsys.readouterr().out)
    assert (left.value.code, result["healthy"]) == (0, True)
    assert "no reference has been accepted" in result["cautions"][0]
    with pytest.raises(SystemExit) as left:
        main(["drift", "status", "--uri", monitor.uri.url, "-s", "momentum"])
    assert left.value.code == 0
    assert "Caution: no reference has been accepted" in capsys.readouterr().out


def test_a_stopped_job_and_a_gap_are_told(monitor: DriftMonitor, strategy: Strategy) -> None:
    monitor.run_daily(strategy.days[0])
    monitor.run_daily(strategy.days[20])
    now = monitor.calendar.session_close(strategy.days[23])
    _, gap, stopped = monitor.cautions(now)
    assert f"19 sessions from {strategy.days[1]} to {strategy.days[19]}" in gap
    assert f"{strategy.days[20]}, 3 before {strategy.days[23]}" in stopped


@pytest.mark.slow
def test_the_training_snapshot_of_the_version_gives_the_distributions(
    database: DatabaseURI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first sessions have another mean than the training set: a drift since training."""
    monkeypatch.chdir(tmp_path)
    days, store = YEAR[:45], FeatureStore(database)
    monitor = DriftMonitor(database, "momentum", tracking_uri=database.url, notify=())
    closes = [monitor.configure().calendar.session_close(day) for day in days]
    values = np.random.default_rng(0).normal(size=(45, 40))
    values[20:] += 3.0
    times = [close for close in closes for _ in NAMES]
    frame = {"entity_key": NAMES * 45, "event_time": times, "rsi": values.ravel()}
    store.write_frame(frame, availability_lag=timedelta(minutes=1))
    later = [close + timedelta(hours=1) for close in closes]
    spine = {"entity_key": NAMES * 20, "as_of": [time for time in later[:20] for _ in NAMES]}
    snapshot = store.snapshot(pd.DataFrame(spine), ["rsi"], "training")
    client = MlflowClient(tracking_uri=database.url)
    mlflow.set_tracking_uri(database.url)
    with mlflow.start_run() as run:
        mlflow.log_input(snapshot.to_mlflow())
    client.create_registered_model("mom")
    client.create_model_version("mom", "file:///models/mom", run.info.run_id)
    served = slice(20, 45)
    signals = [time for time in later[served] for _ in NAMES]
    named = {"model_name": ["mom"] * 1000, "model_version": ["1"] * 1000}
    monitor.record_predictions(
        {
            "entity_key": NAMES * 25,
            "signal_time": signals,
            "signal": values[served].ravel(),
            **named,
        }
    )
    last = monitor.backfill(days[20], days[-1])[-1]
    [reference] = monitor.references()
    assert reference.reason.endswith("features as in the training snapshot")
    assert (last.value("psi", "rsi") or 0) > 1
    assert "feature drift" in [alert.rule for alert in monitor.alerts(states=["open"])]
