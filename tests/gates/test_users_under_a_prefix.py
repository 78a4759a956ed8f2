"""`mlflow-timescale server --app-name basic-auth --static-prefix`: who may write and read what."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from support.servers import Server, timescale_server, with_password

from mlflow_timescale.db.uri import DatabaseURI

pytestmark = [pytest.mark.server, pytest.mark.slow]
ADMIN = ("admin", "an admin's long passphrase")
OWNER = ("owner", "the owner's long passphrase")
OTHER = ("other", "the other's long passphrase")
PREFIX = "/mlflow"
API = PREFIX + "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture(scope="module")
def server_process(
    shared_database: DatabaseURI,
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("users")
    with new_database(empty=True) as users:
        (directory / "auth.ini").write_text(
            "[mlflow]\n"
            "default_permission = NO_PERMISSIONS\n"
            f"database_uri = {with_password(users).url.replace('%', '%%')}\n"
            f"admin_username = {ADMIN[0]}\nadmin_password = {ADMIN[1]}\n"
        )
        with timescale_server(
            *("--app-name", "basic-auth", "--static-prefix", PREFIX, "--workers", "1"),
            log_file=directory / "log",
            environment={
                "MLFLOW_TIMESCALE_URI": with_password(shared_database).url,
                "MLFLOW_AUTH_CONFIG_PATH": str(directory / "auth.ini"),
                "MLFLOW_FLASK_SERVER_SECRET_KEY": "a secret of the tests",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
            health=f"{PREFIX}/health",
        ) as server:
            for name, password in (OWNER, OTHER):
                body = {"username": name, "password": password}
                created = server.post(f"{API}/users/create", body, auth=ADMIN)
                assert created.ok, created.text
            yield server


@pytest.fixture(scope="module")
def place(server_process: Server) -> str:
    """Where a run of the owner has its artifacts, with one secret file."""
    experiment = post(server_process, "experiments/create", OWNER, name="owner's")
    experiment_id = experiment["experiment_id"]
    run = post(server_process, "runs/create", OWNER, experiment_id=experiment_id)
    place = f"{experiment_id}/{run['run']['info']['run_id']}/artifacts"
    assert upload(server_process, f"{PREFIX}{ARTIFACTS}/{place}/secret.txt", OWNER) == 200
    return place


def post(server: Server, call: str, user: tuple[str, str], **body: Any) -> dict[str, Any]:
    answer = server.post(f"{API}/{call}", body, auth=user)
    assert answer.ok, answer.text
    return dict(answer.json())


def upload(server: Server, path: str, user: tuple[str, str] | None) -> int:
    return server.request("PUT", path, data=iter([b"sec", b"ret"]), auth=user).status_code


@pytest.mark.parametrize("prefix", [PREFIX, ""])
@pytest.mark.parametrize(("user", "status"), [(OWNER, 200), (OTHER, 403), (None, 401)])
def test_streams_under_the_prefix_are_authorised(
    server_process: Server,
    place: str,
    prefix: str,
    user: tuple[str, str] | None,
    status: int,
) -> None:
    path = f"{prefix}{ARTIFACTS}/{place}/file{prefix.replace('/', '-')}.txt"
    assert upload(server_process, path, user) == status
    downloaded = server_process.get(f"{prefix}{ARTIFACTS}/{place}/secret.txt", auth=user)
    assert (downloaded.status_code, downloaded.content == b"secret") == (status, status == 200)


@pytest.mark.parametrize(
    "scheme", ["timescaledb-artifacts:", "sha256+mlflow-artifacts:", "mlflow-artifacts:"]
)
def test_a_version_does_not_open_the_files_of_another_user(
    server_process: Server, place: str, scheme: str
) -> None:
    model = f"model {scheme}".replace(":", "")
    post(server_process, "registered-models/create", OTHER, name=model)
    run = own_run(server_process, OTHER)
    for named in ({}, {"run_id": run}):
        body = {"name": model, "source": f"{scheme}/{place}", **named}
        refused = server_process.post(f"{API}/model-versions/create", body, auth=OTHER)
        assert refused.status_code == 400, refused.text
    read = server_process.get(
        f"{PREFIX}/model-versions/get-artifact",
        params={"name": model, "version": "1", "path": "secret.txt"},
        auth=OTHER,
    )
    assert read.status_code != 200


def own_run(server: Server, user: tuple[str, str]) -> str:
    """A run of a user, in a new experiment."""
    experiment = post(server, "experiments/create", user, name=f"{user[0]}'s {uuid.uuid4()}")
    run = post(server, "runs/create", user, experiment_id=experiment["experiment_id"])
    return str(run["run"]["info"]["run_id"])


def test_a_version_of_ones_own_run_is_registered(server_process: Server, place: str) -> None:
    post(server_process, "registered-models/create", OWNER, name="owner's model")
    version = post(
        server_process,
        "model-versions/create",
        OWNER,
        name="owner's model",
        source=f"timescaledb-artifacts:/{place}",
        run_id=place.split("/")[1],
    )
    assert version["model_version"]["version"] == "1"


@pytest.mark.parametrize(
    "scheme", ["timescaledb-artifacts:", "sha256+mlflow-artifacts:", "mlflow-artifacts:"]
)
def test_an_experiment_does_not_lie_in_the_files_of_another_user(
    server_process: Server, place: str, scheme: str
) -> None:
    body = {"name": f"in {scheme}", "artifact_location": f"{scheme}/{place}/model"}
    refused = server_process.post(f"{API}/experiments/create", body, auth=OTHER)
    assert refused.status_code == 400
    assert "of another experiment" in refused.json()["message"]
