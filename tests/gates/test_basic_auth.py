"""`mlflow server --app-name basic-auth`, with the users in the same PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.server.auth.db.cli import commands
from support.servers import Server, mlflow_server, plain, shows_password, with_password

from mlflow_timescale import ModelRegistry, db
from mlflow_timescale.common import attribution
from mlflow_timescale.db.uri import DatabaseURI

pytestmark = [pytest.mark.server, pytest.mark.slow]
ADMIN = ("admin", "an admin's long passphrase")


@pytest.fixture(scope="module")
def server_process(
    shared_database: DatabaseURI,
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("auth")
    with (
        new_database(empty=True) as users,
        mlflow_server(
            "--backend-store-uri",
            with_password(shared_database).url,
            "--app-name",
            "basic-auth",
            "--artifacts-destination",
            "timescaledb-artifacts:/",
            "--workers",
            "2",
            log_file=directory / "log",
            environment={
                "MLFLOW_AUTH_CONFIG_PATH": str(configuration(directory, plain(users))),
                "MLFLOW_FLASK_SERVER_SECRET_KEY": "a secret of the tests",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
        ) as server,
    ):
        yield server


def configuration(directory: Path, uri: str) -> Path:
    path = directory / "auth.ini"
    path.write_text(
        "[mlflow]\n"
        "default_permission = NO_PERMISSIONS\n"
        f"database_uri = {uri.replace('%', '%%')}\n"
        f"admin_username = {ADMIN[0]}\n"
        f"admin_password = {ADMIN[1]}\n"
    )
    return path


LogIn = Callable[[str, str], MlflowClient]


@pytest.fixture
def log_in(server_process: Server, monkeypatch: pytest.MonkeyPatch) -> LogIn:
    def log_in(name: str, password: str) -> MlflowClient:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        return MlflowClient(server_process.url)

    return log_in


def test_nobody_is_let_in_without_a_password(server_process: Server) -> None:
    assert server_process.get("/api/2.0/mlflow/experiments/get-by-name").status_code == 401


def test_a_user_sees_only_what_was_granted(server_process: Server, log_in: LogIn) -> None:
    created = server_process.post(
        "/api/2.0/mlflow/users/create",
        {"username": "ann", "password": "ann's long passphrase"},
        auth=ADMIN,
    )
    assert created.ok, created.text
    admins = log_in(*ADMIN).create_experiment("the admin's")
    client = log_in("ann", "ann's long passphrase")
    hers = client.create_experiment("ann's")
    run = client.create_run(hers)
    client.log_metric(run.info.run_id, "ic", 0.1)
    assert client.get_run(run.info.run_id).data.metrics == {"ic": 0.1}
    with pytest.raises(MlflowException, match="Permission denied"):
        client.get_experiment(admins)


def test_the_authenticated_user_is_who_logged_and_who_moved_the_alias(
    server_process: Server,
    log_in: LogIn,
    shared_database: DatabaseURI,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = log_in("ann", "ann's long passphrase")
    monkeypatch.setattr(attribution.RequestHeaders, "request_headers", claims_to_be_somebody_else)
    run = client.create_run(client.create_experiment("ann's models"))
    client.log_text(run.info.run_id, "alpha", "note.txt")
    client.create_registered_model("momentum")
    client.create_model_version("momentum", f"{run.info.artifact_uri}", run.info.run_id)
    client.set_registered_model_alias("momentum", "champion", "1")
    (change,) = ModelRegistry(shared_database).alias_history("momentum")
    assert (change.mlflow_user, change.reason) == ("ann", "IC > 0,05 \u2014 go")
    with db.connect(shared_database) as conn:
        logged = conn.execute("SELECT artifact_path, mlflow_user FROM mlops.model_artifacts")
        assert logged.fetchall() == [("note.txt", "ann")]


def claims_to_be_somebody_else(self: object) -> dict[str, str]:
    return {attribution.USER: "the%20chief", attribution.REASON: quote("IC > 0,05 \u2014 go")}


SCHEMES = ("mlflow-artifacts", "timescaledb-artifacts", "sha256+mlflow-artifacts")


def test_a_user_reads_no_file_of_another_by_naming_its_place(
    server_process: Server, log_in: LogIn
) -> None:
    """As the source of a version, or as the location of an experiment, in any scheme."""
    for name in ("owner", "other"):
        user = {"username": name, "password": f"the {name}'s long passphrase"}
        assert server_process.post("/api/2.0/mlflow/users/create", user, auth=ADMIN).ok
    owner = log_in("owner", "the owner's long passphrase")
    run = owner.create_run(owner.create_experiment("the owner's")).info
    owner.log_text(run.run_id, "secret", "secret.txt")
    place = run.artifact_uri.partition(":/")[2]
    other = ("other", "the other's long passphrase")
    model = server_process.post(
        "/api/2.0/mlflow/registered-models/create", {"name": "m"}, auth=other
    )
    assert model.ok, model.text
    for scheme in SCHEMES:
        version = {"name": "m", "source": f"{scheme}:/{place}"}
        refused = server_process.post("/api/2.0/mlflow/model-versions/create", version, auth=other)
        assert refused.status_code == 400, f"{scheme}: {refused.text}"
        experiment = {"name": f"inside {scheme}", "artifact_location": f"{scheme}:/{place}/x"}
        refused = server_process.post("/api/2.0/mlflow/experiments/create", experiment, auth=other)
        assert refused.status_code == 400, f"{scheme}: {refused.text}"
    path = "/model-versions/get-artifact?name=m&version=1&path=secret.txt"
    assert server_process.get(path, auth=other).status_code != 200
    assert server_process.get(
        f"/api/2.0/mlflow-artifacts/artifacts/{place}/secret.txt", auth=other
    ).status_code in (401, 403)


def test_the_log_names_no_password(server_process: Server) -> None:
    assert not shows_password(server_process.log)


def test_the_users_database_is_upgraded_by_its_own_command(
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
) -> None:
    with new_database(empty=True) as users:
        for uri in (plain(users), with_password(users).url):
            done = CliRunner().invoke(commands, ["upgrade", "--url", uri])
            assert done.exit_code == 0, done.output
