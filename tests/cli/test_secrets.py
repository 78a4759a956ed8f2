"""Secrets on command lines are refused; those in the environment show nowhere."""

from __future__ import annotations

import pytest

from mlflow_timescale.cli import COMMANDS, main
from mlflow_timescale.cli.kit.secrets import require_no_secrets

SECRET = "s3cr3t"
URIS = [
    f"postgresql://ann:{SECRET}@127.0.0.1:1/trading",
    f"postgresql://127.0.0.1:1/trading?user=ann&password={SECRET}",
    f"postgresql://127.0.0.1:1/trading?p%61ssword={SECRET}",
    f"postgresql+timescaledb://127.0.0.1:1/trading?sslpassword={SECRET}",
    f"timescaledb://127.0.0.1:1/trading?options=-c%20app.token%3D{SECRET}",
]
OF_THE_SERVER = [
    ("--registry-store-uri", "MLFLOW_REGISTRY_STORE_URI"),
    ("--read-replica-backend-store-uri", "MLFLOW_READ_REPLICA_BACKEND_STORE_URI"),
    ("--workspace-store-uri", "MLFLOW_WORKSPACE_STORE_URI"),
    ("--backend-store-uri", "MLFLOW_BACKEND_STORE_URI"),
    ("--artifacts-destination", "MLFLOW_ARTIFACTS_DESTINATION"),
    ("--default-artifact-root", "MLFLOW_DEFAULT_ARTIFACT_ROOT"),
]


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out + err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("uri", URIS)
def test_every_command_refuses_a_secret_in_its_uri(
    command: str, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["--uri", uri], [f"--uri={uri}"]):
        code, text = failed(capsys, command, *arguments)
        assert code == 2
        assert len(text.splitlines()) == 1
        assert "MLFLOW_TIMESCALE_URI" in text
        assert SECRET not in text


@pytest.mark.parametrize(("option", "variable"), OF_THE_SERVER)
@pytest.mark.parametrize("uri", [*URIS, f"s3://AKIA:{SECRET}@bucket/runs"])
def test_the_server_refuses_secrets_in_the_options_that_it_hands_on(
    option: str, variable: str, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ([option, uri], [f"{option}={uri}"]):
        code, text = failed(capsys, "server", "--workers", "1", *arguments)
        assert (code, SECRET in text) == (2, False)
        assert variable in text


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["import", f"mysql://ann:{SECRET}@db/mlflow"], "MLFLOW_TIMESCALE_IMPORT_SOURCE"),
        (["import", f"mssql+pyodbc:///?odbc_connect=PWD%3D{SECRET}"], "IMPORT_SOURCE"),
        (["features", "lake", f"s3://key:{SECRET}@bucket/lake"], "in the environment"),
        (["artifacts", "adopt", "--root", f"s3://bucket?secret={SECRET}"], "in the environment"),
        (["doctor", "--uri", f"host=db password={SECRET}"], "MLFLOW_TIMESCALE_URI"),
    ],
)
def test_other_arguments_are_refused_too(
    arguments: list[str], remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = failed(capsys, *arguments)
    assert (code, SECRET in text) == (2, False)
    assert remedy in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor", "--uri", "postgresql://ann@db/trading?sslmode=require&passfile=/etc/pgpass"],
        ["registry", "rollback", "m", "--reason", "see https://wiki.example/page?id=7"],
        ["server", "--artifacts-destination", "s3://bucket/runs", "--host", "::1"],
    ],
)
def test_arguments_without_secrets_pass(arguments: list[str]) -> None:
    require_no_secrets(arguments)


@pytest.mark.parametrize("command", ["doctor", "migrate", "features list", "drift alerts"])
@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("uri", URIS)
def test_a_uri_from_the_environment_shows_in_no_error(
    command: str,
    debug: bool,
    uri: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TIMESCALE_URI", uri)
    code, text = failed(capsys, *["--debug"] * debug, *command.split())
    assert code == 1
    assert "127.0.0.1" in text
    assert SECRET not in text


def test_an_import_reads_its_source_from_the_environment_and_hides_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for source in URIS:
        monkeypatch.setenv("MLFLOW_TIMESCALE_IMPORT_SOURCE", source)
        nowhere = ["--uri", "postgresql://127.0.0.1:1/trading"]
        for arguments in (["import", *nowhere], ["--debug", "import", *nowhere]):
            code, text = failed(capsys, *arguments)
            assert (code, SECRET in text) == (1, False)
            assert "127.0.0.1" in text
