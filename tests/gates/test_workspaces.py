"""`mlflow server --enable-workspaces`: our twins of MLflow's workspace-aware stores."""

from __future__ import annotations

import os
from collections.abc import Iterator

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow_process import Server, mlflow_server, shows_password, with_password

from mlflow_timescale.db.uri import DatabaseURI

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def server_process(
    shared_database: DatabaseURI, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("workspaces")
    with mlflow_server(
        "--backend-store-uri",
        with_password(shared_database).url,
        "--enable-workspaces",
        "--workers",
        "2",
        log_file=directory / "log",
        environment={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    ) as server:
        yield server


@pytest.fixture(autouse=True)
def _connected(server_process: Server) -> Iterator[None]:
    mlflow.set_tracking_uri(server_process.url)
    yield
    mlflow.set_workspace(None)
    os.environ.pop("MLFLOW_WORKSPACE", None)


def test_the_server_says_that_it_has_workspaces(server_process: Server) -> None:
    info = server_process.get("/api/3.0/mlflow/server-info").json()
    assert info["workspaces_enabled"] is True
    assert info["store_type"] == "SqlStore"


def test_a_workspace_is_created_and_listed() -> None:
    mlflow.create_workspace("desk-equities", description="Equities")
    assert {"default", "desk-equities"} <= {item.name for item in mlflow.list_workspaces()}


def test_runs_and_models_of_one_workspace_are_not_seen_in_another() -> None:
    for name in ("desk-rates", "desk-credit"):
        mlflow.create_workspace(name)
        mlflow.set_workspace(name)
        client = MlflowClient()
        experiment = client.create_experiment("alpha")
        run = client.create_run(experiment)
        client.log_metric(run.info.run_id, "ic", 0.1, step=1)
        client.create_registered_model("momentum")
        client.create_model_version("momentum", "s3://models/momentum")
        client.set_registered_model_alias("momentum", "champion", "1")
    assert len(client.search_experiments(filter_string="name = 'alpha'")) == 1
    assert len(client.search_model_versions("name = 'momentum'")) == 1
    mlflow.set_workspace("desk-rates")
    with pytest.raises(MlflowException, match="not found"):
        client.get_run(run.info.run_id)


def test_the_log_names_no_password(server_process: Server) -> None:
    assert "Traceback" not in server_process.log
    assert not shows_password(server_process.log)
