"""`mlflow-timescale server` under a prefix, and with slow, silent and stalled clients."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from support.servers import PATIENCE, Server, timescale_server, with_password

from mlflow_timescale import db
from mlflow_timescale.artifacts import streams
from mlflow_timescale.db.uri import DatabaseURI

pytestmark = [pytest.mark.server, pytest.mark.slow]
PREFIX = "/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
PIECES = (b"x" * 50_000, b"y" * 50_000)
CLIENTS = 100
SILENCE = 8  # seconds


@pytest.fixture(scope="module")
def server_process(
    shared_database: DatabaseURI, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with timescale_server(
        *("--workers", "1", "--static-prefix", PREFIX),
        log_file=tmp_path_factory.mktemp("prefix") / "log",
        environment=environment(shared_database),
        health=f"{PREFIX}/health",
    ) as server:
        yield server


def environment(database: DatabaseURI) -> dict[str, str]:
    return {
        "MLFLOW_TIMESCALE_URI": with_password(database).url,
        "MLFLOW_TIMESCALE_CLIENT_TIMEOUT": str(SILENCE),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


@pytest.mark.parametrize("prefix", [PREFIX, ""])
@pytest.mark.parametrize("api", ["/api", "/ajax-api"])
def test_a_chunked_upload_arrives_whole(server_process: Server, prefix: str, api: str) -> None:
    path = f"{prefix}{ARTIFACTS.replace('/api', api)}/chunked{prefix}{api}.bin"
    assert server_process.request("PUT", path, data=iter(PIECES)).status_code == 200
    arrived = server_process.get(path)
    assert arrived.content == b"".join(PIECES)
    assert arrived.headers["X-Content-Type-Options"] == "nosniff"


def test_a_chunked_body_that_flask_would_lose_is_refused(server_process: Server) -> None:
    for path in ("/api/2.0/mlflow/experiments/create", "/ajax-api/2.0/mlflow/upload-artifact"):
        refused = server_process.request("POST", PREFIX + path, data=iter([b"{}"]))
        assert (refused.status_code, refused.json()["error_code"]) == (
            411,
            "INVALID_PARAMETER_VALUE",
        )


@pytest.mark.parametrize("body", ["[" * 100_000, '{"a":' * 100_000, '{"filter": ' + "[" * 50_000])
@pytest.mark.parametrize("route", ["runs/search", "runs/log-batch", "webhooks", "mpu"])
def test_a_body_that_is_nested_without_end_is_refused(
    server_process: Server, route: str, body: str
) -> None:
    path = f"{PREFIX}/api/2.0/mlflow/{route}"
    if route == "mpu":
        path = f"{PREFIX}/api/2.0/mlflow-artifacts/mpu/create/x"
    headers = {"Content-Type": "application/json"}
    refused = server_process.request("POST", path, data=body, headers=headers)
    assert refused.status_code == 400
    assert refused.json()["message"] == "the request is nested too deeply"


@pytest.mark.parametrize("route", ["runs/search", "experiments/search"])
def test_a_filter_of_megabytes_is_not_parsed(server_process: Server, route: str) -> None:
    body = {"experiment_ids": ["0"], "max_results": 1, "filter": f"tags.a = '{'x' * 1_000_000}'"}
    path = f"{PREFIX}/api/2.0/mlflow/{route}"
    refused = server_process.request("POST", path, json=body)
    assert (refused.status_code, refused.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "at most 100,000" in refused.json()["message"]
    body["filter"] = "tags.a = 'x'"
    assert server_process.request("POST", path, json=body).status_code == 200


def test_a_hundred_slow_clients_hold_neither_threads_nor_connections(
    server_process: Server, shared_database: DatabaseURI
) -> None:
    with ExitStack() as stack:
        clients = [
            Upload(stack, server_process, number, streams.IN_MEMORY + 8 if number % 10 == 0 else 16)
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.send_first()
        assert quick_requests(server_process) == [200, 200, 200]
        assert connections_of_artifacts(shared_database) <= streams.UPLOADS
        for client in clients:
            client.send_rest()
        assert [client.status() for client in clients] == [200] * CLIENTS


def quick_requests(server: Server) -> list[int]:
    path = f"{PREFIX}{ARTIFACTS}/quick.bin"
    answers = [
        server.request("PUT", path, data=b"quick"),
        server.get(path),
        server.get(f"{PREFIX}/api/2.0/mlflow/experiments/get?experiment_id=0"),
    ]
    return [answer.status_code for answer in answers]


def connections_of_artifacts(database: DatabaseURI) -> int:
    with db.connect(database) as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND state <> 'active'"
        ).fetchone()
    assert row is not None
    return int(row[0])


class Upload:
    """A client that sends a file in two pieces."""

    def __init__(self, stack: ExitStack, server: Server, number: int, size: int) -> None:
        where = urlsplit(server.url)
        self._socket = stack.enter_context(
            socket.create_connection((where.hostname, where.port), timeout=PATIENCE)
        )
        self._body = bytes([number % 251]) * size
        self._head = (
            f"PUT {PREFIX}{ARTIFACTS}/slow/{number}.bin HTTP/1.1\r\nHost: {where.netloc}\r\n"
            f"Content-Length: {size}\r\n\r\n"
        ).encode()

    def send_first(self) -> None:
        self._socket.sendall(self._head + self._body[:-8])

    def send_rest(self) -> None:
        self._socket.sendall(self._body[-8:])

    def status(self) -> int:
        return int(self._socket.recv(4096).split()[1])


def test_a_silent_client_is_told_and_leaves_nothing(server_process: Server) -> None:
    with ExitStack() as stack:
        client = Upload(stack, server_process, 1000, 16)
        client.send_first()
        assert client.status() == 408
    assert server_process.get(f"{PREFIX}{ARTIFACTS}/slow/1000.bin").status_code == 404
    assert "the client was silent" in server_process.log
    assert "Traceback" not in server_process.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_stalled_clients_do_not_keep_the_server_from_ending(
    shared_database: DatabaseURI, tmp_path: Path, workers: str
) -> None:
    unlimited = {**environment(shared_database), "MLFLOW_TIMESCALE_CLIENT_TIMEOUT": "0"}
    with (
        timescale_server(
            *("--workers", workers, "--static-prefix", PREFIX),
            log_file=tmp_path / "log",
            environment=unlimited,
            health=f"{PREFIX}/health",
        ) as server,
        ExitStack() as stack,
    ):
        for number in range(4):
            Upload(stack, server, number, 16).send_first()
        locked = stack.enter_context(db.connect(shared_database))
        locked.execute("LOCK TABLE mlops.model_artifacts IN ACCESS EXCLUSIVE MODE")
        waiting = Upload(stack, server, 9, 16)  # its thread waits for the database
        waiting.send_first()
        waiting.send_rest()
        wait_for_the_lock(shared_database)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(timeout=PATIENCE / 4)
        with pytest.raises(requests.ConnectionError):
            server.get(f"{PREFIX}/health")


def wait_for_the_lock(database: DatabaseURI) -> None:
    with db.connect(database, autocommit=True) as conn:
        while not conn.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
            conn.execute("SELECT pg_sleep(0.05)")
