"""MLflow's autolog of scikit-learn, LightGBM and PyTorch Lightning logs into our store."""

from __future__ import annotations

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from mlflow_timescale.db.uri import DatabaseURI

ROWS = np.random.default_rng(7).normal(size=(200, 4))
RETURNS = ROWS @ np.array([0.3, -0.2, 0.1, 0.0]) + 0.01


@pytest.fixture
def client(shared_database: DatabaseURI) -> MlflowClient:
    mlflow.set_tracking_uri(shared_database.url)
    mlflow.set_experiment("autolog")
    return MlflowClient()


def the_run(client: MlflowClient) -> Run:
    """The run that was logged last."""
    experiment = client.get_experiment_by_name("autolog")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id], max_results=1)
    assert run.info.status == "FINISHED"
    return run


def logged_model(client: MlflowClient, run: Run) -> mlflow.pyfunc.PyFuncModel:
    """The model that autolog logged with a run, loaded from our store."""
    [output] = run.outputs.model_outputs
    assert client.get_logged_model(output.model_id).source_run_id == run.info.run_id
    return mlflow.pyfunc.load_model(f"models:/{output.model_id}")


@pytest.mark.slow
def test_scikit_learn_logs_params_scores_the_dataset_and_a_model_that_predicts(
    client: MlflowClient,
) -> None:
    from sklearn.linear_model import Ridge

    mlflow.sklearn.autolog(log_input_examples=True, silent=True)
    model = Ridge(alpha=0.5).fit(ROWS, RETURNS)
    run = the_run(client)
    assert run.data.params["alpha"] == "0.5"
    assert run.data.metrics["training_r2_score"] > 0.9
    assert run.inputs.dataset_inputs[0].dataset.digest
    assert np.array_equal(logged_model(client, run).predict(ROWS), model.predict(ROWS))


def test_a_search_of_scikit_learn_logs_its_best_runs_as_children(client: MlflowClient) -> None:
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV

    mlflow.sklearn.autolog(log_models=False, silent=True)
    with mlflow.start_run() as parent:
        GridSearchCV(Ridge(), {"alpha": [0.1, 1.0, 10.0]}, cv=2).fit(ROWS, RETURNS)
    tag = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    children = client.search_runs([parent.info.experiment_id], tag)
    assert sorted(run.data.params["alpha"] for run in children) == ["0.1", "1.0", "10.0"]


@pytest.mark.slow
def test_lightgbm_logs_a_point_for_each_round_importances_and_a_model_that_predicts(
    client: MlflowClient,
) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    mlflow.lightgbm.autolog(silent=True)
    data = lightgbm.Dataset(ROWS, RETURNS)
    params = {"objective": "regression", "num_leaves": 4, "verbose": -1, "num_threads": 1}
    model = lightgbm.train(params, data, 12, valid_sets=[data], valid_names=["train"])
    run = the_run(client)
    assert run.data.params["num_leaves"] == "4"
    losses = client.get_metric_history(run.info.run_id, "train-l2")
    assert [point.step for point in losses] == list(range(12))
    assert losses[-1].value < losses[0].value
    files = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert "feature_importance_split.json" in files
    assert np.array_equal(logged_model(client, run).predict(ROWS), model.predict(ROWS))


@pytest.mark.slow
def test_pytorch_lightning_logs_a_point_for_each_epoch_and_a_model(client: MlflowClient) -> None:
    torch = pytest.importorskip("torch")
    lightning = pytest.importorskip("lightning")

    class Net(lightning.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch, _):  # type: ignore[no-untyped-def]
            rows, returns = batch
            loss = torch.nn.functional.mse_loss(self.layer(rows)[:, 0], returns)
            self.log("loss", loss, on_epoch=True, on_step=False)
            return loss

        def configure_optimizers(self):  # type: ignore[no-untyped-def]
            return torch.optim.Adam(self.parameters(), lr=0.05)

    mlflow.pytorch.autolog(silent=True)
    data = torch.utils.data.TensorDataset(
        torch.tensor(ROWS, dtype=torch.float32), torch.tensor(RETURNS, dtype=torch.float32)
    )
    trainer = lightning.Trainer(
        max_epochs=5,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Net(), torch.utils.data.DataLoader(data, batch_size=50))
    run = the_run(client)
    assert run.data.params["lr"] == "0.05"
    losses = client.get_metric_history(run.info.run_id, "loss")
    assert len(losses) == 5
    assert losses[-1].value < losses[0].value
    assert run.outputs.model_outputs
