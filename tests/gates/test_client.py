"""A client with our URI and no server between: what a notebook or a training job does."""

from __future__ import annotations

import threading
from pathlib import Path

import mlflow
import numpy as np
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.cli import cli
from mlflow.genai.scorers import list_scorers, scorer
from sklearn.linear_model import Ridge
from support.servers import plain, run_python, with_password

from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.plugin import tracking_store


@pytest.fixture(autouse=True)
def _in_a_directory_of_its_own(
    shared_database: DatabaseURI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client without an artifact root writes to ./mlruns."""
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(shared_database.url)


@pytest.mark.slow
def test_a_program_needs_only_the_environment_variable(
    shared_database: DatabaseURI, tmp_path: Path
) -> None:
    done = run_python(
        "import mlflow\n"
        f"mlflow.create_experiment('program', artifact_location='file://{tmp_path}')\n"
        "mlflow.set_experiment('program')\n"
        "with mlflow.start_run() as run:\n"
        "    mlflow.log_param('window', 20)\n"
        "    mlflow.log_metric('ic', 0.04, step=1)\n"
        "    mlflow.log_text('report', 'report.txt')\n"
        "print(run.info.run_id)",
        MLFLOW_TRACKING_URI=shared_database.url,
    )
    run = mlflow.get_run(done.stdout.split()[-1])
    assert (run.data.params, run.data.metrics) == ({"window": "20"}, {"ic": 0.04})
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/report.txt") == "report"


def test_asynchronous_logging_keeps_every_point() -> None:
    mlflow.config.enable_async_logging()
    try:
        with mlflow.start_run() as run:
            for step in range(200):
                mlflow.log_metric("price", float(step), step=step)
            mlflow.log_params({"window": 20})
        mlflow.flush_async_logging()
    finally:
        mlflow.config.enable_async_logging(False)
    history = MlflowClient().get_metric_history(run.info.run_id, "price")
    assert [point.value for point in history] == [float(step) for step in range(200)]
    assert mlflow.get_run(run.info.run_id).data.params == {"window": "20"}


def test_threads_log_to_one_run_without_losing_anything() -> None:
    client = MlflowClient()
    run_id = client.create_run("0").info.run_id

    def log(key: str) -> None:
        for step in range(20):
            client.log_metric(run_id, key, float(step), step=step)

    threads = [threading.Thread(target=log, args=(f"m{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.get_run(run_id).data.metrics == {f"m{n}": 19.0 for n in range(4)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_autologging_logs_a_scikit_learn_model_that_predicts_the_same() -> None:
    x = np.arange(40.0).reshape(20, 2)
    y = x.sum(axis=1)
    mlflow.sklearn.autolog(log_datasets=False)
    try:
        with mlflow.start_run() as run:
            model = Ridge(alpha=0.5).fit(x, y)
    finally:
        mlflow.sklearn.autolog(disable=True)
    logged = mlflow.get_run(run.info.run_id)
    loaded = mlflow.sklearn.load_model(f"runs:/{run.info.run_id}/model")
    assert logged.data.params["alpha"] == "0.5"
    assert "training_r2_score" in logged.data.metrics
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))


def test_traces_are_searched_by_tag_and_come_with_their_spans() -> None:
    experiment = mlflow.set_experiment("traces")

    @mlflow.trace
    def predict(price: float) -> float:
        mlflow.update_current_trace(tags={"symbol": "AAPL"})
        with mlflow.start_span("features") as span:
            span.set_inputs({"price": price})
        return price * 2

    predict(21.0)
    mlflow.flush_trace_async_logging()
    (trace,) = mlflow.search_traces(
        locations=[experiment.experiment_id],
        filter_string="tags.symbol = 'AAPL'",
        return_type="list",
    )
    assert sorted(span.name for span in trace.data.spans) == ["features", "predict"]
    assert trace.info.state == "OK"


def test_evaluation_datasets_keep_their_records() -> None:
    experiment = mlflow.set_experiment("evaluation")
    dataset = mlflow.genai.datasets.create_dataset(
        name="questions", experiment_id=[experiment.experiment_id]
    )
    dataset.merge_records([{"inputs": {"question": "which version ran?"}}])
    found = mlflow.genai.datasets.get_dataset(dataset_id=dataset.dataset_id)
    assert [dict(row) for row in found.to_df()["inputs"]] == [{"question": "which version ran?"}]


def test_prompts_have_versions_and_aliases() -> None:
    for template in ("Explain {{symbol}}", "Explain {{symbol}} briefly"):
        prompt = mlflow.genai.register_prompt(name="explain", template=template)
    mlflow.genai.set_prompt_alias("explain", alias="live", version=prompt.version)
    loaded = mlflow.genai.load_prompt("prompts:/explain@live")
    assert loaded.format(symbol="AAPL") == "Explain AAPL briefly"


def test_scorers_are_registered_and_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS", "true")
    experiment = mlflow.set_experiment("scorers")

    @scorer
    def exact(outputs: str, expectations: str) -> bool:
        return outputs == expectations

    exact.register(name="exact", experiment_id=experiment.experiment_id)
    listed = list_scorers(experiment_id=experiment.experiment_id)
    assert [item.name for item in listed] == ["exact"]


def test_logged_models_hold_their_metrics() -> None:
    with mlflow.start_run():
        model = mlflow.initialize_logged_model(name="momentum")
        mlflow.log_metric("ic", 0.05, model_id=model.model_id)
        mlflow.finalize_logged_model(model.model_id, "READY")
    found = mlflow.search_logged_models(filter_string="metrics.ic > 0.04", output_format="list")
    assert [item.model_id for item in found] == [model.model_id]


def test_without_an_artifact_root_one_is_filled_in(shared_database: DatabaseURI) -> None:
    """MLflow gives a plugin none, where its own stores get a default."""
    for uri in (shared_database, with_password(shared_database)):
        mlflow.set_tracking_uri(uri.url)
        assert tracking_store(uri.url).artifact_root_uri
        with mlflow.start_run() as run:
            mlflow.log_text("report", "report.txt")
        assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/report.txt") == "report"


def test_inside_a_server_its_artifact_root_is_used(
    shared_database: DatabaseURI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that calls log_model builds a client inside the server."""
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "s3://bucket/root")
    store = tracking_store(shared_database.url)
    assert store.artifact_root_uri == "s3://bucket/root"
    assert tracking_store(shared_database.url, "s3://other").artifact_root_uri == "s3://other"


def test_the_command_line_lists_experiments_and_runs() -> None:
    mlflow.set_experiment("command line")
    with mlflow.start_run(run_name="from the shell") as run:
        pass
    experiments = CliRunner().invoke(cli, ["experiments", "search"])
    runs = CliRunner().invoke(cli, ["runs", "list", "--experiment-id", run.info.experiment_id])
    assert "command line" in experiments.output
    assert run.info.run_id in runs.output


def test_the_metrics_table_stays_readable_for_everybody(shared_database: DatabaseURI) -> None:
    """MLflow's own store, and SQL, see what ours wrote: going back is possible at any time."""
    with mlflow.start_run() as run:
        mlflow.log_metric("ic", float("nan"), step=3)
        mlflow.log_metric("ic", float("inf"), step=4)
    mlflow.set_tracking_uri(plain(shared_database))
    history = MlflowClient().get_metric_history(run.info.run_id, "ic")
    with db.connect(shared_database) as conn:
        rows = conn.execute(
            "SELECT step, is_nan FROM metrics WHERE run_uuid = %s ORDER BY step", [run.info.run_id]
        ).fetchall()
    assert [str(point.value) for point in history] == ["nan", "1.7976931348623157e+308"]
    assert rows == [(3, True), (4, False)]
