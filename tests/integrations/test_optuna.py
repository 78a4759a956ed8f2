"""Optuna: its callback logs trials as runs, and its own storage lives beside us."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import mlflow
import psycopg
import pytest
from mlflow import MlflowClient

from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.schema import prepare

optuna = pytest.importorskip("optuna")
integration = pytest.importorskip("optuna_integration")


def loss(trial: optuna.Trial) -> float:
    lookback = trial.suggest_int("lookback", 5, 60)
    return float((lookback - 20) ** 2) + trial.suggest_float("decay", 0.0, 1.0)


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_every_trial_becomes_a_run_with_its_params_and_value(
    shared_database: DatabaseURI,
) -> None:
    callback = integration.MLflowCallback(
        tracking_uri=shared_database.url, metric_name="loss", mlflow_kwargs={"tags": {"team": "ü"}}
    )
    study = optuna.create_study(
        study_name="momentum", sampler=optuna.samplers.RandomSampler(seed=1)
    )
    study.optimize(loss, n_trials=8, callbacks=[callback])
    client = MlflowClient(shared_database.url)
    experiment = client.get_experiment_by_name("momentum")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], order_by=["metrics.loss ASC"])
    assert len(runs) == 8
    assert runs[0].data.metrics["loss"] == study.best_value
    assert runs[0].data.params["lookback"] == str(study.best_params["lookback"])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["team"] for run in runs} == {"ü"}


def test_what_an_objective_logs_is_in_the_run_of_its_trial(shared_database: DatabaseURI) -> None:
    callback = integration.MLflowCallback(tracking_uri=shared_database.url, metric_name="loss")

    @callback.track_in_mlflow()  # type: ignore[untyped-decorator]
    def objective(trial: optuna.Trial) -> float:
        for step in range(3):
            mlflow.log_metric("ic", step / 10, step=step)
        return loss(trial)

    study = optuna.create_study(study_name="with curves")
    study.optimize(objective, n_trials=2, callbacks=[callback])
    client = MlflowClient(shared_database.url)
    experiment = client.get_experiment_by_name("with curves")
    assert experiment is not None
    for run in client.search_runs([experiment.experiment_id]):
        points = client.get_metric_history(run.info.run_id, "ic")
        assert [point.step for point in points] == [0, 1, 2]
        assert "loss" in run.data.metrics


@pytest.mark.slow
def test_optunas_storage_lives_in_a_schema_of_its_own_beside_ours(
    empty_database: DatabaseURI,
) -> None:
    with db.connect(empty_database, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA optuna")
    prepare(empty_database.url)
    options = {"connect_args": {"options": "-csearch_path=optuna"}}
    storage = optuna.storages.RDBStorage(empty_database.url, engine_kwargs=options)
    study = optuna.create_study(study_name="beside", storage=storage)
    callback = integration.MLflowCallback(tracking_uri=empty_database.url, metric_name="loss")
    with ThreadPoolExecutor(3) as pool:
        for each in [
            pool.submit(study.optimize, loss, n_trials=2, callbacks=[callback]) for _ in range(3)
        ]:
            each.result()
    assert len(study.trials) == 6
    client = MlflowClient(empty_database.url)
    experiment = client.get_experiment_by_name("beside")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 6
    with db.connect(empty_database) as conn:
        assert conn.execute("SELECT count(*) FROM optuna.trials").fetchone() == (6,)
        with pytest.raises(psycopg.errors.UndefinedTable):
            conn.execute("SELECT count(*) FROM public.trials")
