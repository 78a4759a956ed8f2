"""A real `mlflow server`, and other mlflow programs, as child processes of a test."""

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

PASSWORD = "correct-h0rse/b@ttery"  # what must appear nowhere
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
    """Run `mlflow server ...` on a free port; it and its children are gone afterwards."""
    port = free_port()
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [*mlflow_command(), "server", "--port", str(port), *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=child_environment(environment),
            cwd=log_file.parent,
        )
    server = Server(process, f"http://127.0.0.1:{port}", log_file, requests.Session())
    try:
        _wait_until_healthy(server)
        yield server
    except BaseException:
        print(f"---- log of the server ----\n{server.log}")  # noqa: T201
        raise
    finally:
        server.session.close()
        stop(process)


def _wait_until_healthy(server: Server) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if (code := server.process.poll()) is not None:
            raise RuntimeError(f"mlflow server ended with {code}:\n{server.log}")
        try:
            if server.get("/health").ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise TimeoutError(f"mlflow server is not up after {PATIENCE} s:\n{server.log}")


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
    """Ours without what belongs to pytest or to another server, and `extra`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "_MLFLOW_"))
    }
    return {**kept, "MLFLOW_DISABLE_TELEMETRY": "true", **(extra or {})}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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
