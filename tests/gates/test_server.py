"""`mlflow server` on our URI, without jobs: what every user of the UI and of the REST API meets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import mlflow
import psycopg
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from psycopg import sql
from support.servers import Server, mlflow_server, shows_password, with_password

from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI

pytestmark = [pytest.mark.slow, pytest.mark.server]
API = "/api/2.0/mlflow"
REPLICA = "read replica"


@pytest.fixture(scope="module")
def server_process(
    shared_database: DatabaseURI, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Two workers, and a read replica: the same database by connections that refuse to write.

    Job execution, which starts nine more processes, has tests of its own.
    """
    directory = tmp_path_factory.mktemp("server")
    primary = with_password(shared_database)
    read_only = ("options", "-c default_transaction_read_only=on")
    replica = replace(primary, params=(read_only, ("application_name", REPLICA)))
    with mlflow_server(
        "--backend-store-uri",
        primary.url,
        "--read-replica-backend-store-uri",
        replica.url,
        "--workers",
        "2",
        "--artifacts-destination",
        str(directory / "artifacts"),
        log_file=directory / "log",
        environment={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    ) as server:
        yield server


@pytest.fixture
def client(server_process: Server) -> MlflowClient:
    mlflow.set_tracking_uri(server_process.url)
    return MlflowClient()


def test_the_user_interface_is_served(server_process: Server) -> None:
    page = server_process.get("/")
    script = re.search(r'src="(static-files/[^"]+\.js)"', page.text)
    assert page.ok
    assert script is not None
    assert server_process.get(f"/{script.group(1)}").ok


def test_the_server_says_that_its_store_is_a_database(server_process: Server) -> None:
    assert server_process.get("/api/3.0/mlflow/server-info").json()["store_type"] == "SqlStore"


def test_runs_written_over_rest_are_found_over_rest(server_process: Server) -> None:
    created = server_process.post(f"{API}/experiments/create", {"name": "over rest"}).json()
    experiment = created["experiment_id"]
    run = server_process.post(f"{API}/runs/create", {"experiment_id": experiment}).json()["run"]
    run_id = run["info"]["run_id"]
    for step in range(3):
        body = {"run_id": run_id, "key": "ic", "value": step / 10, "timestamp": step, "step": step}
        assert server_process.post(f"{API}/runs/log-metric", body).ok
    query = {"experiment_ids": [experiment], "filter": "metrics.ic > 0.1"}
    found = server_process.post(f"{API}/runs/search", query).json()["runs"]
    history = server_process.get(
        f"{API}/metrics/get-history", params={"run_id": run_id, "metric_key": "ic"}
    ).json()["metrics"]
    assert [item["info"]["run_id"] for item in found] == [run_id]
    assert [point["value"] for point in history] == [0.0, 0.1, 0.2]


def test_a_chart_of_the_user_interface_has_points(
    server_process: Server, client: MlflowClient
) -> None:
    with mlflow.start_run() as run:
        mlflow.log_metrics({"loss": 1.0}, step=0)
        mlflow.log_metrics({"loss": 0.5}, step=1)
    points = server_process.get(
        "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval",
        params={"run_ids": run.info.run_id, "metric_key": "loss", "max_results": 320},
    ).json()["metrics"]
    assert [(point["step"], point["value"]) for point in points] == [(0, 1.0), (1, 0.5)]


def test_artifacts_go_through_the_server(client: MlflowClient) -> None:
    with mlflow.start_run() as run:
        mlflow.log_text("weights", "model/weights.txt")
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/model/weights.txt") == "weights"


def test_a_model_is_registered_and_found_by_its_alias(client: MlflowClient) -> None:
    client.create_registered_model("momentum")
    version = client.create_model_version("momentum", "s3://models/momentum")
    client.set_registered_model_alias("momentum", "champion", version.version)
    assert client.get_model_version_by_alias("momentum", "champion").version == version.version


def test_a_stage_change_archives_the_other_versions(client: MlflowClient) -> None:
    client.create_registered_model("staged")
    for _ in range(2):
        client.create_model_version("staged", "s3://models/momentum")
    for version in ("1", "2"):
        with pytest.warns(FutureWarning):
            client.transition_model_version_stage(
                "staged", version, "Production", archive_existing_versions=True
            )
    found = client.search_model_versions("name = 'staged'")
    stages = {int(item.version): item.current_stage for item in found}
    assert stages == {1: "Archived", 2: "Production"}


def test_webhooks_are_kept(client: MlflowClient) -> None:
    created = client.create_webhook(
        name="deploy", url="https://8.8.8.8/hook", events=["model_version.created"]
    )
    client.update_webhook(created.webhook_id, name="deployment")
    assert [hook.name for hook in client.list_webhooks()] == ["deployment"]
    client.delete_webhook(created.webhook_id)
    assert list(client.list_webhooks()) == []


def test_traces_are_found_with_their_spans(client: MlflowClient) -> None:
    experiment = mlflow.set_experiment("traces over http")

    @mlflow.trace
    def predict(price: float) -> float:
        return price * 2

    assert predict(21.0) == 42.0
    mlflow.flush_trace_async_logging()
    (trace,) = mlflow.search_traces(
        locations=[experiment.experiment_id], return_type="list", include_spans=True
    )
    assert [(span.name, span.outputs) for span in trace.data.spans] == [("predict", 42.0)]


def test_reads_go_to_the_read_replica_and_writes_do_not(
    server_process: Server, client: MlflowClient, shared_database: DatabaseURI
) -> None:
    """All of this module's writes pass, though the replica's connections refuse every one."""
    client.create_experiment("routed")
    assert client.get_experiment_by_name("routed") is not None
    with db.connect(shared_database) as conn:
        rows = conn.execute(
            "SELECT query FROM pg_stat_activity"
            " WHERE application_name = %s AND datname = current_database()",
            [REPLICA],
        ).fetchall()
    assert rows
    assert not any(re.match("(?i)insert|update|delete", query) for (query,) in rows)


def test_an_error_page_names_no_password(server_process: Server, client: MlflowClient) -> None:
    answers = [
        server_process.get(f"{API}/runs/get", params={"run_id": "0" * 32}),
        server_process.get("/no/such/page"),
        server_process.post(f"{API}/runs/search", {"filter": "not a ' filter"}),
        server_process.get(f"{API}/model-versions/get", params={"name": "\0", "version": "x"}),
        server_process.get("/ajax-api/3.0/mlflow/ui-telemetry"),
    ]
    assert not any(answer.ok for answer in answers[:3])
    assert not any(shows_password(answer.text + str(answer.headers)) for answer in answers)
    with pytest.raises(MlflowException) as error:
        client.get_run("0" * 32)
    assert not shows_password(str(error.value))


def test_a_database_that_goes_away_gives_an_error_without_the_password_and_then_is_back(
    server_process: Server, server: DatabaseURI, shared_database: DatabaseURI
) -> None:
    query = {"filter": "name = 'Default'", "max_results": 1}
    with db.connect(server, autocommit=True) as admin, closed(admin, shared_database.dbname):
        answer = server_process.post(f"{API}/experiments/search", query)
    assert answer.status_code == 503
    assert "not currently accepting connections" in answer.text
    assert not shows_password(answer.text)
    assert server_process.post(f"{API}/experiments/search", query).ok


@contextmanager
def closed(admin: psycopg.Connection, dbname: str) -> Iterator[None]:
    """No user is in the database, and none is let in."""
    statement = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}")
    name = sql.Identifier(dbname)
    admin.execute(statement.format(name, sql.Literal(False)))
    admin.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [dbname]
    )
    try:
        yield
    finally:
        admin.execute(statement.format(name, sql.Literal(True)))


def test_the_log_of_the_server_names_no_password(server_process: Server) -> None:
    """Last in this file: all of the above is in the log."""
    assert "POST /api/2.0/mlflow/runs/search" in server_process.log
    assert "not currently accepting connections" in server_process.log
    assert not shows_password(server_process.log)
