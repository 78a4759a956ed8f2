"""Servers and other programs as child processes of a test: start, wait, stop; free ports."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from mlflow_timescale.db import embedded
from mlflow_timescale.db.uri import DatabaseURI

PASSWORD = "correct-h0rse/b@ttery"  # must appear in no output
PATIENCE = 180  # seconds; a loaded machine starts a server slowly


@dataclass
class Server:
    """A running `mlflow server`."""

    process: subprocess.Popen[bytes]
    url: str
    log_file: Path
    session: requests.Session

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.session.request(method, self.url + path, timeout=PATIENCE, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any, **options: Any) -> requests.Response:
        return self.request("POST", path, json=body, **options)

    def commands(self) -> list[str]:
        """The command lines of the server's process group."""
        listing = subprocess.run(
            ["ps", "-eo", "pgid=,args="], capture_output=True, text=True, check=True
        )
        rows = (line.split(None, 1) for line in listing.stdout.splitlines())
        return [args for pgid, args in rows if pgid == str(self.process.pid)]


@contextmanager
def mlflow_server(
    *arguments: str, log_file: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run `mlflow server ...` on a free port; stop it and its children afterwards."""
    with _http_server([*mlflow_command(), "server", *arguments], log_file, environment) as server:
        yield server


@contextmanager
def timescale_server(
    *arguments: str,
    log_file: Path,
    environment: Mapping[str, str] | None = None,
    health: str = "/health",
) -> Iterator[Server]:
    """Run `mlflow-timescale server ...` on a free port; stop it and its children afterwards."""
    command = [*timescale_command(), "server", *arguments]
    with _http_server(command, log_file, environment, health) as server:
        yield server


@contextmanager
def running(
    command: list[str], *, log_file: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run any server in a process group of its own; end the group afterwards."""
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=child_environment(environment),
            cwd=log_file.parent,
        )
    try:
        yield process
    finally:
        stop(process)


@contextmanager
def _http_server(
    command: list[str],
    log_file: Path,
    environment: Mapping[str, str] | None,
    health: str = "/health",
) -> Iterator[Server]:
    port = free_port()
    command = [*command, "--port", str(port)]
    with (
        running(command, log_file=log_file, environment=environment) as process,
        requests.Session() as session,
    ):
        server = Server(process, f"http://127.0.0.1:{port}", log_file, session)
        try:
            _wait_until_healthy(server, health)
            yield server
        except BaseException:
            print(f"---- log of the server ----\n{server.log}")  # noqa: T201
            raise


def _wait_until_healthy(server: Server, health: str) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if (code := server.process.poll()) is not None:
            raise RuntimeError(f"the server ended with {code}:\n{server.log}")
        try:
            if server.get(health).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise TimeoutError(f"the server is not up after {PATIENCE} s:\n{server.log}")


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server without a health page accepts connections."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads its own group, with the whole group."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=30)
    signal_group(process, signal.SIGKILL)
    process.wait()


def signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def mlflow_command() -> list[str]:
    return [sys.executable, "-m", "mlflow"]


def timescale_command() -> list[str]:
    """`mlflow-timescale` of this interpreter, wherever its scripts are."""
    return [sys.executable, "-c", "from mlflow_timescale.cli import main; main()"]


def run_mlflow(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `mlflow ...` to its end."""
    return run([*mlflow_command(), *arguments], **environment)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own."""
    return run([sys.executable, "-c", code], **environment)


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=child_environment(environment),
    )


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process' variables without those of pytest and of other servers, plus `extra`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "_MLFLOW_"))
    }
    return {**kept, "MLFLOW_DISABLE_TELEMETRY": "true", **(extra or {})}


def free_port() -> int:
    """A port that nothing listens on at the moment."""
    with listening() as port:
        return port


@contextmanager
def listening(backlog: int = 128) -> Iterator[int]:
    """A port of 127.0.0.1 that is in use: it accepts connections and never answers."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(backlog)
        yield sock.getsockname()[1]


def with_password(uri: DatabaseURI) -> DatabaseURI:
    """The same database by a URI that holds PASSWORD; the servers of the tests accept any."""
    where = embedded.keywords(uri)
    return DatabaseURI(
        where["dbname"], where["user"], PASSWORD, where["host"], where.get("port", ""), uri.params
    )


def plain(uri: DatabaseURI) -> str:
    """The same database by a `postgresql://` URI, which is MLflow's own."""
    return with_password(uri).url.replace("postgresql+timescaledb:", "postgresql:")


def shows_password(text: str) -> bool:
    """Whether a text holds PASSWORD, as it is or percent-encoded."""
    return any(form in text for form in (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD)))
