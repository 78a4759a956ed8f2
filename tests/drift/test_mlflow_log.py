"""Sessions as MLflow runs."""

from __future__ import annotations

from datetime import date
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from support.strategies import NAMES, Strategy

from drift import DriftMonitor
from drift.mlflow_pages import NOTE
from drift.mlflow_runs import metric_name
from mlflow_timescale.db.uri import DatabaseURI


@pytest.fixture
def logged(database: DatabaseURI, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> DriftMonitor:
    """A monitor that logs into the same database, artifacts below tmp_path."""
    monkeypatch.chdir(tmp_path)
    monitor = DriftMonitor(database, "momentum", notify=())
    monitor.configure()
    return monitor


@pytest.fixture
def client(logged: DriftMonitor) -> MlflowClient:
    return MlflowClient(tracking_uri=logged.uri.url)


def runs(client: MlflowClient, role: str) -> list[Run]:
    experiment = client.get_experiment_by_name("drift/momentum")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], f"tags.`drift.role` = '{role}'")
    return sorted(found, key=lambda run: run.data.tags.get("drift.session", ""))


def flipped(frame: dict[str, Any]) -> dict[str, Any]:
    return {**frame, "value": [-value for value in frame["value"]]}


def test_each_session_is_a_child_and_the_series_is_in_the_parent(
    logged: DriftMonitor, client: MlflowClient, strategy: Strategy
) -> None:
    strategy.record(logged, slice(5))
    found = logged.backfill(strategy.days[0], strategy.days[4])
    [parent] = runs(client, "series")
    children = runs(client, "session")
    assert [run.info.run_name for run in children] == [str(day) for day in strategy.days[:5]]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    history = client.get_metric_history(parent.info.run_id, "ic")
    assert [metric.value for metric in history] == [metrics.ic for metrics in found]
    assert [metric.step for metric in history] == [0, 1, 2, 3, 4]
    closes = [logged.calendar.session_close(day).timestamp() for day in strategy.days[:5]]
    assert [metric.timestamp // 1000 for metric in history] == closes
    assert children[2].data.metrics["ic"] == found[2].ic
    assert children[2].data.params["calendar"] == "XNYS"


@pytest.mark.slow
def test_what_cannot_be_computed_is_a_tag_and_never_a_metric(
    logged: DriftMonitor, client: MlflowClient, strategy: Strategy
) -> None:
    logged.record_predictions(strategy.predictions(slice(1)))
    logged.run_daily(strategy.days[0])
    [run] = runs(client, "session")
    assert "ic" not in run.data.metrics
    assert run.data.tags["drift.status.ic"] == "no_returns_yet"
    assert all(value == value for value in run.data.metrics.values())


@pytest.mark.slow
def test_a_value_revised_downwards_shows_everywhere(
    logged: DriftMonitor, client: MlflowClient, strategy: Strategy
) -> None:
    strategy.record(logged, slice(3))
    before = logged.backfill(strategy.days[0], strategy.days[2])[1].ic
    assert before is not None
    assert before > 0
    logged.record_returns(flipped(strategy.realized(slice(1, 2))))
    logged.run_daily(strategy.days[2])
    child = runs(client, "session")[1]
    assert child.data.metrics["ic"] == pytest.approx(-before)
    assert child.data.tags["drift.revision"] == "2"
    [parent] = runs(client, "series")
    at_step = [m for m in client.get_metric_history(parent.info.run_id, "ic") if m.step == 1]
    assert max(at_step, key=lambda m: m.timestamp).value == pytest.approx(-before)


@pytest.mark.slow
def test_the_last_value_of_the_series_may_be_revised_downwards(
    logged: DriftMonitor, client: MlflowClient, strategy: Strategy
) -> None:
    strategy.record(logged, slice(3))
    before = logged.run_daily(strategy.days[2]).ic
    logged.record_returns(flipped(strategy.realized(slice(2, 3))))
    after = logged.run_daily(strategy.days[2]).ic
    [parent] = runs(client, "series")
    assert parent.data.metrics["ic"] == after == pytest.approx(-(before or 0))


@pytest.mark.slow
def test_a_value_that_comes_late_replaces_its_tag(
    logged: DriftMonitor, client: MlflowClient, strategy: Strategy
) -> None:
    logged.record_predictions(strategy.predictions(slice(2)))
    logged.run_daily(strategy.days[0])
    logged.record_returns(strategy.realized(slice(1)))
    logged.run_daily(strategy.days[1])
    run = runs(client, "session")[0]
    assert "ic" in run.data.metrics
    assert run.data.tags["drift.status.ic"] == "ok"


@pytest.mark.slow
def test_a_rerun_logs_nothing_again(
    logged: DriftMonitor, client: MlflowClient, strategy: Strategy
) -> None:
    strategy.record(logged, slice(2))
    logged.run_daily(strategy.days[1])
    before = [run.data for run in runs(client, "session")]
    logged.run_daily(strategy.days[1])
    after = runs(client, "session")
    assert [run.data.metrics for run in after] == [data.metrics for data in before]
    history = client.get_metric_history(after[0].info.run_id, "ic")
    assert len(history) == 1


@pytest.mark.slow
def test_an_outage_of_mlflow_does_not_lose_the_day(
    logged: DriftMonitor,
    client: MlflowClient,
    strategy: Strategy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    strategy.record(logged, slice(3))
    away = DriftMonitor(logged.uri, "momentum", tracking_uri="http://127.0.0.1:9", notify=())
    assert away.run_daily(strategy.days[0]).ic is not None
    assert "MLflow has 0 of 1 sessions of momentum; the next run tries again" in caplog.text
    logged.run_daily(strategy.days[1])
    assert [run.info.run_name for run in runs(client, "session")] == [
        str(day) for day in strategy.days[:2]
    ]


@pytest.mark.slow
def test_an_error_half_way_through_is_made_good_without_doubles(
    logged: DriftMonitor,
    client: MlflowClient,
    strategy: Strategy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strategy.record(logged, slice(3))
    terminate = MlflowClient.set_terminated
    calls: list[str] = []

    def fails_once(self: MlflowClient, run_id: str, *args: Any) -> None:
        calls.append(run_id)
        if len(calls) == 2:
            raise OSError("the server went away")
        terminate(self, run_id, *args)

    monkeypatch.setattr(MlflowClient, "set_terminated", fails_once)
    logged.backfill(strategy.days[0], strategy.days[2])
    logged.run_daily(strategy.days[2])
    children = runs(client, "session")
    assert [run.info.run_name for run in children] == [str(day) for day in strategy.days[:3]]
    [parent] = runs(client, "series")
    assert len(client.get_metric_history(parent.info.run_id, "ic")) == 3


@pytest.mark.slow
def test_the_last_session_has_its_report_and_pictures(
    logged: DriftMonitor, client: MlflowClient, strategy: Strategy
) -> None:
    strategy.record(logged, slice(6))
    logged.backfill(strategy.days[0], strategy.days[5])
    last = runs(client, "session")[-1].info.run_id
    names = {item.path for item in client.list_artifacts(last)}
    assert {"report.html", "ic.png", "alerts.png"} <= names
    page = mlflow.artifacts.load_text(f"{client.get_run(last).info.artifact_uri}/report.html")
    assert "momentum" in page
    assert "<script" not in page


@pytest.mark.slow
def test_the_inputs_are_a_dataset_with_a_digest_of_their_content(
    logged: DriftMonitor, client: MlflowClient, strategy: Strategy
) -> None:
    strategy.record(logged, slice(2))
    logged.backfill(strategy.days[0], strategy.days[1])
    first, second = (run.inputs.dataset_inputs[0].dataset for run in runs(client, "session"))
    assert first.name == f"predictions {strategy.days[0]}"
    assert first.digest != second.digest
    assert len(first.digest) == 16


@pytest.mark.slow
def test_the_judged_version_carries_its_drift_status(
    logged: DriftMonitor, client: MlflowClient, strategy: Strategy
) -> None:
    client.create_registered_model("lasso")
    version = client.create_model_version("lasso", "file:///models/lasso").version
    named = {"model_name": ["lasso"] * 40, "model_version": [str(version)] * 40}
    logged.record_predictions(strategy.predictions(slice(1), **named))
    logged.record_returns(strategy.realized(slice(1)))
    logged.run_daily(strategy.days[0])
    assert client.get_model_version("lasso", version).tags["drift.status"] == "ok"
    logged.run_daily(strategy.days[1])  # no predictions: critical
    assert client.get_model_version("lasso", version).tags["drift.status"] == "critical"
    run = runs(client, "session")[1]
    assert run.data.tags["drift.alerts"] == "no signals"
    assert run.data.tags["drift.status"] == "no_data"


@pytest.mark.slow
def test_a_past_session_lasts_as_long_as_its_computation(
    logged: DriftMonitor, client: MlflowClient, strategy: Strategy
) -> None:
    strategy.record(logged, slice(2))
    logged.backfill(strategy.days[0], strategy.days[1])
    logged.record_returns(flipped(strategy.realized(slice(0, 1))))
    logged.run_daily(strategy.days[1])  # the first session is logged again
    for run in runs(client, "session"):
        assert 0 <= run.info.end_time - run.info.start_time < 600_000


@pytest.mark.slow
def test_a_session_is_linked_to_the_model_that_it_judged(
    logged: DriftMonitor, client: MlflowClient, strategy: Strategy
) -> None:
    mlflow.set_tracking_uri(logged.uri.url)
    model = mlflow.initialize_logged_model(name="lasso")
    client.create_registered_model("lasso")
    client.finalize_logged_model(model.model_id, "READY")
    version = client.create_model_version("lasso", f"models:/{model.model_id}").version
    named = {"model_name": ["lasso"] * 40, "model_version": [str(version)] * 40}
    logged.record_predictions(strategy.predictions(slice(1), **named))
    logged.run_daily(strategy.days[0])
    [run] = runs(client, "session")
    inputs = client.get_run(run.info.run_id).inputs
    assert [used.model_id for used in inputs.model_inputs] == [model.model_id]
    assert f"[lasso/{version}](#/models/lasso/versions/{version})" in run.data.tags[NOTE]


@pytest.mark.slow
def test_the_pages_of_a_strategy_and_a_session_say_how_it_is(
    logged: DriftMonitor, client: MlflowClient, strategy: Strategy
) -> None:
    strategy.record(logged, slice(3))
    logged.backfill(strategy.days[0], strategy.days[2])
    [parent] = runs(client, "series")
    assert parent.data.tags["drift.status"] == "ok"
    assert parent.data.tags[NOTE].startswith(f"**ok** on {strategy.days[2]}.")
    logged.run_daily(strategy.days[3])  # no predictions
    [parent], child = runs(client, "series"), runs(client, "session")[-1]
    assert parent.data.tags["drift.status"] == "critical"
    assert parent.data.tags["drift.alerts"] == "no signals"
    for run in (parent, child):
        assert run.data.tags[NOTE].startswith(f"**critical** on {strategy.days[3]}. 1 open:")
        assert f"runs/{child.info.run_id}/artifacts/report.html" in run.data.tags[NOTE]
        assert "report.html" in {item.path for item in client.list_artifacts(run.info.run_id)}
    experiment = client.get_experiment_by_name("drift/momentum")
    assert experiment is not None
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


@pytest.mark.slow
def test_an_older_session_logged_again_leaves_the_strategys_page_alone(
    logged: DriftMonitor, client: MlflowClient, strategy: Strategy
) -> None:
    strategy.record(logged, slice(3))
    logged.backfill(strategy.days[0], strategy.days[2])
    logged.backfill(strategy.days[0], strategy.days[0])
    logged.record_returns(flipped(strategy.realized(slice(0, 1))))
    logged.backfill(strategy.days[0], strategy.days[0])
    assert runs(client, "series")[0].data.tags["drift.session"] == str(strategy.days[2])


@pytest.mark.slow
def test_a_model_that_is_not_registered_is_no_error(
    logged: DriftMonitor, client: MlflowClient, strategy: Strategy, days: list[date]
) -> None:
    named = {"model_name": ["ghost"] * len(NAMES), "model_version": ["1"] * len(NAMES)}
    logged.record_predictions(strategy.predictions(slice(1), **named))
    logged.run_daily(days[0])
    assert runs(client, "session")[0].data.tags["drift.model"] == "ghost/1"


def test_names_keep_to_what_mlflow_allows() -> None:
    assert metric_name("psi", "straße (neu)@2") == "psi/straße .neu..2"


def steps(client: MlflowClient) -> list[int]:
    [series] = runs(client, "series")
    return [metric.step for metric in client.get_metric_history(series.info.run_id, "ic")]


@pytest.mark.slow
def test_a_long_backfill_numbers_its_sessions_in_order(
    logged: DriftMonitor, client: MlflowClient, strategy: Strategy
) -> None:
    strategy.record(logged, slice(30))
    logged.backfill(strategy.days[0], strategy.days[29])
    assert steps(client) == list(range(30))


@pytest.mark.slow
def test_sessions_that_are_backfilled_later_come_first_in_a_new_series(
    logged: DriftMonitor, client: MlflowClient, strategy: Strategy
) -> None:
    strategy.record(logged, slice(9))
    logged.backfill(strategy.days[6], strategy.days[8])
    [before] = runs(client, "series")
    logged.backfill(strategy.days[3], strategy.days[5])
    logged.backfill(strategy.days[0], strategy.days[2])
    assert sorted(steps(client)) == list(range(9))
    [series] = runs(client, "series")
    assert client.get_run(before.info.run_id).info.lifecycle_stage == "deleted"
    children = runs(client, "session")
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {series.info.run_id}
    assert series.data.metrics["ic"] == children[-1].data.metrics["ic"]


@pytest.mark.slow
def test_a_series_with_wrong_steps_is_repaired_by_the_next_run(
    logged: DriftMonitor, client: MlflowClient, strategy: Strategy
) -> None:
    strategy.record(logged, slice(6))
    logged.backfill(strategy.days[0], strategy.days[4])
    with logged.connect() as conn:
        conn.execute(
            "UPDATE mlops.drift_runs SET session_number = session_number % 3, "
            "logged_number = session_number % 3"
        )
    logged.run_daily(strategy.days[5])
    assert sorted(steps(client)) == list(range(6))


@pytest.mark.slow
def test_a_session_that_the_calendar_loses_leaves_no_gap_in_the_series(
    logged: DriftMonitor, client: MlflowClient, strategy: Strategy
) -> None:
    """The exchange was closed, as was learned after the session had been computed."""
    for chosen in (slice(0, 2), slice(3, 5)):
        strategy.record(logged, chosen)
    logged.backfill(strategy.days[0], strategy.days[4])
    logged.override_session(strategy.days[2], is_session=False, why="storm")
    strategy.record(logged, slice(5, 6))
    logged.run_daily(strategy.days[5])
    assert sorted(steps(client)) == list(range(5))
