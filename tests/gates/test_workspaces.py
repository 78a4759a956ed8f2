"""`mlflow server --enable-workspaces`: our twins of MLflow's workspace-aware stores."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime, timezone

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from support.servers import (
    Server,
    mlflow_server,
    run,
    shows_password,
    timescale_command,
    with_password,
)

from mlflow_timescale import ModelRegistry, because, db
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
        "--artifacts-destination",
        "timescaledb-artifacts:/",
        "--workers",
        "2",
        log_file=directory / "log",
        environment={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    ) as server:
        for _ in range(8):  # MLflow's client waits 3 s for this: each worker has its store by then
            server.get("/api/3.0/mlflow/server-info")
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


def moves(name: str, reasons: list[str]) -> None:
    """The same model and alias in a workspace of its own, once to each new version."""
    mlflow.create_workspace(name)
    mlflow.set_workspace(name)
    client = MlflowClient()
    client.create_registered_model("carry")
    for reason in reasons:
        version = client.create_model_version("carry", f"s3://models/{name}").version
        with because(reason):
            client.set_registered_model_alias("carry", "champion", version)


def registry_command(database: DatabaseURI, *arguments: str) -> str:
    command = [*timescale_command(), "registry", *arguments]
    return run([*command, "--uri", database.url]).stdout


def test_each_workspace_has_a_history_of_its_own(shared_database: DatabaseURI) -> None:
    moves("desk-asia", ["a1", "a2"])
    moves("desk-europe", ["e1", "e2", "e3"])
    for desk, last in (("desk-asia", "2"), ("desk-europe", "3")):
        where = ("carry", "champion", "--workspace", desk)
        rows = json.loads(registry_command(shared_database, "history", *where, "--json"))
        assert [row["reason"] for row in rows] == [f"{desk[5]}{n + 1}" for n in range(int(last))]
        at = registry_command(shared_database, "at", *where, "2100-01-01T00:00:00Z")
        assert f"carry@champion was version {last} " in at
    rolled = registry_command(
        shared_database, "rollback", "carry", "champion", "--workspace", "desk-europe",
        "--reason", "too much turnover",
    )  # fmt: skip
    assert rolled == "carry@champion: version 3 -> 2.\n"
    for desk in ("desk-asia", "desk-europe"):
        mlflow.set_workspace(desk)
        assert int(MlflowClient().get_model_version_by_alias("carry", "champion").version) == 2
    nothing = registry_command(shared_database, "at", "carry", "champion", "2100-01-01T00:00:00Z")
    assert "pointed at no version" in nothing


def test_models_keep_their_past_when_their_workspace_is_deleted(
    shared_database: DatabaseURI,
) -> None:
    moves("desk-closed", ["c1", "c2"])
    before = datetime.now(timezone.utc)
    mlflow.set_workspace(None)
    os.environ.pop("MLFLOW_WORKSPACE", None)
    MlflowClient().create_registered_model("unrelated")
    mlflow.delete_workspace("desk-closed", mode="SET_DEFAULT")
    registry = ModelRegistry(shared_database)
    states = registry.alias_history("carry", "champion")
    assert [(state.workspace, state.version) for state in states] == [
        ("desk-closed", 1),
        ("desk-closed", 2),
        ("default", 2),
    ]
    assert [state.ended for state in states] == ["changed", "renamed", None]
    assert states[1].valid_to == states[2].valid_from
    assert registry.version_at("carry", "champion", before) == 2


def test_artifacts_of_a_workspace_are_in_the_ledger_and_checked(
    shared_database: DatabaseURI,
) -> None:
    mlflow.create_workspace("desk-vol")
    mlflow.set_workspace("desk-vol")
    with mlflow.start_run(experiment_id=mlflow.create_experiment("vol")) as active:
        mlflow.log_text("alpha", "note.txt")
    client = MlflowClient()
    client.create_registered_model("vol")
    client.create_model_version("vol", active.info.artifact_uri, active.info.run_id)
    with db.connect(shared_database, autocommit=True) as conn:
        (row,) = conn.execute(
            "SELECT workspace, checksum FROM mlops.models WHERE name = 'vol'"
        ).fetchall()
        assert row[0] == "desk-vol"
        assert row[1]
        conn.execute("UPDATE mlops.artifact_chunks SET data = 'omega'")
    with pytest.raises(MlflowException, match="cannot become 'champion'"):
        client.set_registered_model_alias("vol", "champion", "1")


def test_the_log_names_no_password(server_process: Server) -> None:
    assert "Traceback" not in server_process.log
    assert not shows_password(server_process.log)
