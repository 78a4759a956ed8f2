"""`mlflow-timescale drift ...` and `mlflow-timescale daily`."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.strategies import Strategy

from drift import DriftMonitor
from drift.daily import HEALTHY, daily_job
from feature_store import FeatureStore, FeatureView
from mlflow_timescale import db
from mlflow_timescale.cli import main
from mlflow_timescale.db import DatabaseURI, Error


class Shell:
    """Runs commands on one database; `code` is the last one's exit code."""

    def __init__(self, uri: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.uri, self._capsys, self.code = uri, capsys, -1

    def __call__(self, *words: str) -> str:
        command = 2 if words[0] == "drift" and words[1] != "rules" else 1
        command = 3 if words[:2] == ("drift", "rules") else command
        arguments = [*words[:command], "--uri", self.uri, *words[command:]]
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        self.code = int(caught.value.code or 0)
        printed = self._capsys.readouterr()
        return printed.out + printed.err

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))


@pytest.fixture
def shell(monitor: DriftMonitor, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> Shell:
    monkeypatch.setenv("COLUMNS", "200")
    return Shell(monitor.uri.url, capsys)


@pytest.fixture
def recorded(monitor: DriftMonitor, strategy: Strategy) -> Strategy:
    strategy.record(monitor)
    return strategy


MOMENTUM = ("-s", "momentum")


def test_files_are_recorded(shell: Shell, strategy: Strategy, tmp_path: Path) -> None:
    said, returned, own = (tmp_path / name for name in ("said.csv", "returned.parquet", "own.csv"))
    pd.DataFrame(strategy.predictions(slice(2))).to_csv(said, index=False)
    pd.DataFrame(strategy.realized(slice(2))).to_parquet(returned)
    pd.DataFrame(strategy.own(slice(2))).to_csv(own, index=False)
    assert "80 new rows" in shell("drift", "record", *MOMENTUM, "predictions", str(said))
    assert "80 new rows" in shell("drift", "record", *MOMENTUM, "returns", str(returned))
    assert "2 new rows" in shell("drift", "record", *MOMENTUM, "strategy-returns", str(own))
    assert "0 new rows" in shell("drift", "record", *MOMENTUM, "returns", str(returned))


def test_columns_of_a_file_may_have_other_names(
    shell: Shell, strategy: Strategy, tmp_path: Path
) -> None:
    path = tmp_path / "factor.csv"
    names = {"entity_key": "asset", "session": "date", "signal": "factor"}
    pd.DataFrame(strategy.predictions(slice(1))).rename(columns=names).to_csv(path, index=False)
    given = ("--entity-column", "asset", "--session-column", "date", "--signal-column", "factor")
    printed = shell("drift", "record", *MOMENTUM, *given, "predictions", str(path))
    assert "40 new rows" in printed
    assert "no column 'asst'" in shell(
        "drift", "record", *MOMENTUM, "--entity-column", "asst", "predictions", str(path)
    )


def test_a_healthy_session_exits_with_0_and_alerts_with_4(shell: Shell, recorded: Strategy) -> None:
    shell(
        "drift", "backfill", "--no-mlflow", *MOMENTUM, str(recorded.days[0]), str(recorded.days[9])
    )
    found = shell.json("drift", "run", "--no-mlflow", *MOMENTUM, "--session", str(recorded.days[9]))
    assert shell.code == 0
    assert found["ic"] is not None
    beyond = shell("drift", "run", "--no-mlflow", *MOMENTUM, "--session", "2024-12-31")
    assert shell.code == 4
    assert "no signals" in beyond


def test_errors_exit_with_1_and_say_what_to_do(shell: Shell, recorded: Strategy) -> None:
    assert "recorded are: momentum" in shell("drift", "status", "-s", "momentun")
    assert shell.code == 1
    assert "use `drift run`" in shell("drift", "status", *MOMENTUM)
    assert shell.code == 1
    assert "is not a session" in shell("drift", "run", *MOMENTUM, "--session", "2024-01-15")
    assert shell.code == 1


def test_a_mistyped_strategy_does_not_become_a_new_one(shell: Shell, recorded: Strategy) -> None:
    shell("drift", "run", "-s", "momentun")
    assert shell.code == 1
    shell("daily", "--no-mlflow", "-s", "momentun")
    assert shell.code == 1
    with DriftMonitor(shell.uri, "momentum", tracking_uri=False).connect() as conn:
        names = conn.execute("SELECT strategy_id FROM mlops.drift_strategies").fetchall()
    assert names == [("momentum",)]


def test_alerts_are_acknowledged_and_silenced(shell: Shell, recorded: Strategy) -> None:
    shell("drift", "backfill", "--no-mlflow", *MOMENTUM, str(recorded.days[0]), "2024-06-14")
    alert, profits = shell.json("drift", "alerts", *MOMENTUM)
    assert (alert["rule"], profits["rule"]) == ("no signals", "strategy returns missing")
    shell("drift", "ack", *MOMENTUM, str(profits["alert_id"]), "--by", "ann")
    shell("drift", "ack", *MOMENTUM, str(alert["alert_id"]), "--by", "ann", "--note", "on it")
    assert shell.json("drift", "alerts", *MOMENTUM)[0]["state"] == "acknowledged"
    shell("drift", "status", *MOMENTUM)
    assert shell.code == 0
    silence = ["drift", "silence", *MOMENTUM, "no signals", "--reason", "holiday", "--until"]
    assert "has no time zone" in shell(*silence, "2024-07-01T00:00")
    assert "(1 open alerts)" in shell(*silence, "2024-07-01T00:00Z", "--from", "2024-01-01T00:00Z")
    assert "holiday" in shell("drift", "alerts", *MOMENTUM)


def test_a_reference_is_accepted_and_rules_are_simulated(shell: Shell, recorded: Strategy) -> None:
    start, end = str(recorded.days[0]), str(recorded.days[79])
    shell("drift", "backfill", "--no-mlflow", *MOMENTUM, start, end)
    accept = ["drift", "accept", *MOMENTUM, start, end, "--reason", "calm"]
    assert "need 120" in shell(*accept)
    assert "reference 1 accepted" in shell(*accept, "--min-sessions", "60")
    assert "has not left its accepted level" in shell("drift", "onset", *MOMENTUM)
    simulated = shell.json("drift", "rules", "simulate", *MOMENTUM, "--paths", "50")
    assert "ic drift" in [result["rule"]["name"] for result in simulated]
    assert "feature break" in shell("drift", "rules", "list", *MOMENTUM)
    shell("drift", "rules", "use", *MOMENTUM, "classic")
    assert "ic negative" in shell("drift", "rules", "list", *MOMENTUM)


def test_a_report_is_one_file(shell: Shell, recorded: Strategy, tmp_path: Path) -> None:
    shell(
        "drift", "backfill", "--no-mlflow", *MOMENTUM, str(recorded.days[0]), str(recorded.days[9])
    )
    output = tmp_path / "report.html"
    shell("drift", "report", *MOMENTUM, "-o", str(output))
    page = output.read_text()
    assert str(recorded.days[9]) in page
    assert "data:image/png;base64," in page


def test_the_daily_job_says_features_model_drift_and_decision(
    shell: Shell, recorded: Strategy, monitor: DriftMonitor
) -> None:
    store, day = FeatureStore(monitor.uri), recorded.days[9]
    close = monitor.calendar.session_close(day)
    store.write_features("N00", close, {"rsi": 50.0}, ingest_time=close)
    old = monitor.calendar.session_close(recorded.days[2])
    store.write_features("N00", old, {"momentum": 0.1}, ingest_time=old)
    [found] = shell.json("daily", "--no-mlflow", "--session", str(day))
    assert shell.code == 3
    stale = {f["feature_name"]: f["is_stale"] for f in found["features"]}
    assert stale == {"rsi": False, "momentum": True}
    assert "nothing new of momentum" in found["decision"][0]
    assert found["metrics"]["n_signals"] == 40
    store.write_features("N00", close, {"momentum": 0.1}, ingest_time=close)
    assert HEALTHY in shell("daily", "--no-mlflow", "--session", str(day))
    assert shell.code == 0


def test_the_daily_job_runs_a_command_and_lists_what_it_did_not_take(
    shell: Shell, days: list[date], make: Any, monitor: DriftMonitor, tmp_path: Path
) -> None:
    make(days[:4], -0.9).record(monitor)
    monitor.configure(rules="classic")
    options = ("daily", "--no-mlflow", "--session", str(days[0]))
    printed = shell(*options, "--on-alert", "false")
    assert "undelivered  command false: ended with exit code 1 (1 attempt" in printed
    assert "Retraining trigger: ic: ic very low since" in printed
    listed = shell("drift", "alerts", *MOMENTUM, "--undelivered")
    assert "ended with exit code 1" in listed
    shell(*options, "--on-alert", "not 'closed")
    assert shell.code == 2
    [result] = shell.json(*options, "--on-alert", "true")  # another target: the message stays
    assert [each["attempts"] for each in result["undelivered"]] == [1]
    assert [each["cause"] for each in result["retraining"]] == ["ic"]
    [result] = shell.json(*options, "--on-alert", "false")
    assert [each["attempts"] for each in result["undelivered"]] == [2]
    assert shell.json("drift", "alerts", *MOMENTUM, "--undelivered")[0]["attempts"] == 2


def test_the_daily_job_allows_a_feature_the_age_that_its_definition_does(
    shell: Shell, recorded: Strategy, monitor: DriftMonitor
) -> None:
    """Age is counted on sessions: two of them, over a weekend, are not four days."""
    store, friday = FeatureStore(monitor.uri), date(2024, 1, 12)
    assert recorded.days[8] == friday
    store.register(FeatureView("slow", ["rsi"], max_staleness=timedelta(days=3)))
    store.register(FeatureView("lost", ["never"], max_staleness=timedelta(days=3)))
    wednesday = monitor.calendar.session_close(date(2024, 1, 10))
    store.write_features("N00", wednesday, {"rsi": 50.0}, ingest_time=wednesday)
    [found] = shell.json("daily", "--no-mlflow", "--session", str(friday))
    assert shell.code == 3
    assert {f["feature_name"]: f["is_stale"] for f in found["features"]} == {
        "rsi": False,
        "never": True,
    }
    assert "never" in shell("daily", "--no-mlflow", "--session", str(friday))
    [tuesday] = shell.json("daily", "--no-mlflow", "--session", "2024-01-16")
    assert next(f for f in tuesday["features"] if f["feature_name"] == "rsi")["is_stale"]


def test_another_strategys_features_are_not_this_ones_concern(
    shell: Shell, recorded: Strategy, monitor: DriftMonitor
) -> None:
    old = monitor.calendar.session_close(recorded.days[0])
    FeatureStore(monitor.uri).write_features("GOLD", old, {"carry": 1.0}, ingest_time=old)
    [found] = shell.json("daily", "--no-mlflow", "--session", str(recorded.days[9]))
    assert (found["features"], shell.code) == ([], 0)


@pytest.mark.slow
def test_the_daily_job_names_the_model(
    monitor: DriftMonitor, strategy: Strategy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    client = MlflowClient(tracking_uri=monitor.uri.url)
    client.create_registered_model("lasso")
    client.create_model_version("lasso", "file:///models/lasso")
    client.set_registered_model_alias("lasso", "champion", "1")
    named = {"model_name": ["lasso"] * 40, "model_version": ["1"] * 40}
    monitor.record_predictions(strategy.predictions(slice(1), **named))
    [found] = daily_job(monitor.uri, ["momentum"], session=strategy.days[0])
    assert (found.model.name, found.model.version, found.model.aliases) == (
        "lasso",
        "1",
        ("champion",),
    )
    assert found.model.created is not None


def test_a_strategy_that_fails_stops_no_other(
    shell: Shell, recorded: Strategy, monitor: DriftMonitor
) -> None:
    """Shanghai was closed on a day on which New York traded; a third has unreadable rules."""
    DriftMonitor(monitor.uri, "a", calendar="XSHG", tracking_uri=False).configure()
    DriftMonitor(monitor.uri, "b", tracking_uri=False).configure()
    with monitor.connect() as conn:
        conn.execute(
            'UPDATE mlops.drift_strategies SET settings = \'{"rules": "gone"}\' '
            "WHERE strategy_id = 'b'"
        )
    closed, unreadable, judged = shell.json("daily", "--no-mlflow", "--session", "2024-02-12")
    assert shell.code == 1
    assert "2024-02-12 is not a session of calendar XSHG" in closed["error"]
    assert "no preset 'gone'" in unreadable["error"]
    assert (judged["strategy_id"], judged["metrics"]["n_signals"]) == ("momentum", 40)
    printed = shell("daily", "--no-mlflow", "--session", "2024-02-12")
    assert "2024-02-12 is not a session of calendar XSHG" in printed
    assert "momentum 2024-02-12, closed 2024-02-12 21:00 UTC, computed 20" in printed


def test_an_unknown_strategy_does_not_stop_the_daily_job_of_the_others(
    shell: Shell, recorded: Strategy
) -> None:
    names = ("-s", "momentun", "-s", "momentum")
    unknown, judged = shell.json("daily", "--no-mlflow", "--session", "2024-02-12", *names)
    assert (shell.code, judged["strategy_id"]) == (1, "momentum")
    assert "did you mean 'momentum'" in unknown["error"]


def test_no_explanation_is_padded_by_a_long_line(shell: Shell, recorded: Strategy) -> None:
    printed = shell("daily", "--no-mlflow", "--session", "2024-02-12")
    assert "ic_cusum    none (" in printed
    assert all("   " not in line[12:] for line in printed.splitlines())


@pytest.mark.parametrize("words", [("daily",), ("drift", "status", *MOMENTUM)])
def test_a_reader_sets_up_no_schema_of_ours(
    empty_database: DatabaseURI, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    printed = Shell(empty_database.url, capsys)(*words)
    assert "has no schema of this mlflow-timescale" in printed
    assert len(printed.splitlines()) == 1
    with db.connect(empty_database) as conn:
        assert db.read_state(conn) is None


def test_the_daily_job_needs_a_strategy(monitor: DriftMonitor) -> None:
    with monitor.connect() as conn:
        conn.execute("DELETE FROM mlops.drift_strategies")
    with pytest.raises(Error, match="no strategy is watched yet"):
        daily_job(monitor.uri)


def test_the_daily_job_runs_every_strategy(monitor: DriftMonitor, strategy: Strategy) -> None:
    other = DriftMonitor(monitor.uri, "value", tracking_uri=False)
    for each in (monitor, other):
        strategy.record(each, slice(2))
    found = daily_job(monitor.uri, session=strategy.days[0], tracking_uri=False)
    assert [item.strategy_id for item in found] == ["momentum", "value"]
    assert all(item.session == date(2024, 1, 2) for item in found)
    assert not found[0].alerts
    assert found[0].session + timedelta(days=1) == strategy.days[1]
