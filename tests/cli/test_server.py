"""`mlflow-timescale server`: refusals, what it hands on, and that no password shows."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from support.servers import free_port, listening, timescale_server

from mlflow_timescale.cli import main
from mlflow_timescale.cli.server import environment
from mlflow_timescale.db import embedded
from mlflow_timescale.db.uri import DatabaseURI

PASSWORD = "s3cret-of-the-test"


@pytest.mark.parametrize("command", [["server"], ["demo", "--serve"]])
def test_a_port_in_use_is_refused_before_anything_else(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = "postgresql+timescaledb://127.0.0.1:1/nowhere"
    with listening() as port, pytest.raises(SystemExit) as end:
        main([*command, "--uri", nowhere, "--port", str(port)])
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert f"port {port} on 127.0.0.1 is in use" in error
    assert "--port" in error


def test_an_address_that_is_not_ours_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["server", "--host", "192.0.2.1", "--port", str(free_port())])
    assert end.value.code == 1
    assert "cannot listen on 192.0.2.1" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--registry-store-uri=", "--read-replica-backend-store-uri "])
def test_a_password_among_the_options_is_refused(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = f"{option}postgresql://ann:{PASSWORD}@db.example/trading".split()
    with pytest.raises(SystemExit) as end:
        main(["server", *given])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "MLFLOW_RE" in error
    assert PASSWORD not in error


def test_options_of_mlflow_server_are_handed_on(
    database: DatabaseURI, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = str(free_port())
    became: list[object] = []

    def execve(program: str, command: list[str], env: dict[str, str]) -> NoReturn:
        became.extend([program, command, env["MLFLOW_BACKEND_STORE_URI"]])
        raise SystemExit(0)

    monkeypatch.setattr(os, "execve", execve)
    arguments = ["--uri", database.url, "-p", port, "--workers", "3"]
    further = ["--static-prefix", "/mlflow", "--allowed-hosts=quant.example", "--enable-workspaces"]
    with pytest.raises(SystemExit):
        main(["server", *arguments, *further])
    assert became[0] == sys.executable
    assert became[1][1:] == [  # type: ignore[index]
        *["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "3"],
        *["--app-name", "timescale"],
        *further,
    ]
    assert became[2] == database.url


def test_an_application_that_is_not_installed_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["server", "--app-name", "basic-oauth"])
    assert end.value.code == 2
    assert "'basic-oauth' is not installed; there are basic-auth, " in capsys.readouterr().err


def test_artifacts_go_into_the_database_unless_told_otherwise() -> None:
    for uri in (DatabaseURI("mlflow", embedded=Path("/quant")), DatabaseURI("mlflow", host="db")):
        assert environment(uri, {})["MLFLOW_ARTIFACTS_DESTINATION"] == "timescaledb-artifacts:/"
        given = {"MLFLOW_ARTIFACTS_DESTINATION": "s3://quant"}
        assert environment(uri, given)["MLFLOW_ARTIFACTS_DESTINATION"] == "s3://quant"


def test_the_uri_may_come_from_mlflows_own_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "postgresql://127.0.0.1:1/trading")
    with pytest.raises(SystemExit):
        main(["server", "--port", str(free_port())])
    assert "cannot connect to postgresql+timescaledb://127.0.0.1:1/trading" in (
        capsys.readouterr().err
    )


def test_the_program_that_replaces_a_command_keeps_the_embedded_server(tmp_path: Path) -> None:
    # Without a reaper, which would be waiting for the same lock.
    program = """
import fcntl, os, sys
from pathlib import Path
from mlflow_timescale.db import embedded

directory = Path(sys.argv[1])
server = embedded.EmbeddedServer(embedded.Cluster(directory))
server._users_lock = embedded.lock(directory, embedded.USERS_LOCK, fcntl.LOCK_SH)
embedded._held[directory] = server
embedded.keep_across_exec(directory)
os.execv("/bin/sh", ["sh", "-c", "echo ready; read line"])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with pytest.raises(BlockingIOError):
        _hold_exclusively(tmp_path / "users.lock")
    process.communicate("end\n")
    _hold_exclusively(tmp_path / "users.lock")


def _hold_exclusively(path: Path) -> None:
    with path.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.server
@pytest.mark.slow
def test_a_running_server_shows_its_password_to_nobody(
    database: DatabaseURI, tmp_path: Path
) -> None:
    reached = DatabaseURI(**embedded.keywords(database)) if database.embedded else database
    uri = dataclasses.replace(reached, password=PASSWORD)
    options = {"log_file": tmp_path / "log", "environment": {"MLFLOW_TIMESCALE_URI": uri.url}}
    with timescale_server("--workers", "1", **options) as server:
        assert server.get("/health").content == b"OK"
        assert PASSWORD not in "\n".join(_command_lines())
    assert PASSWORD not in server.log


def _command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue  # it has ended


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 11), reason="PYTHONSAFEPATH is of Python 3.11")
def test_a_server_runs_no_module_of_its_working_directory(
    database: DatabaseURI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may start it in /tmp, or in a folder of another account."""
    # As the installed script does: -P, since `python -c` would import from there.
    command = [sys.executable, "-P", "-c", "from mlflow_timescale.cli import main; main()"]
    monkeypatch.setattr("support.servers.timescale_command", lambda: command)
    for name in ("mlflow", "click", "uvicorn", "starlette", "fastapi", "psycopg"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w').close()")
    variables = {"MLFLOW_TIMESCALE_URI": database.url}
    options = {"log_file": tmp_path / "log", "environment": variables}
    with timescale_server("--workers", "1", **options) as server:
        assert server.get("/health").content == b"OK"
    assert not (tmp_path / "ran").exists()
