"""A large file through every kind of repository: neither client nor server holds it in memory."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.servers import Server, timescale_server

from mlflow_timescale.db.uri import DatabaseURI

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc"),
]
MIB = 1 << 20
SIZE = 200 * MIB
BOUND = 80 * MIB

# Prints by how many bytes the process has grown over an upload and a download.
CLIENT = """
    import sys
    from pathlib import Path
    import mlflow
    from mlflow import MlflowClient

    uri, root, file, folder = sys.argv[1:]

    def status(field):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024

    mlflow.set_tracking_uri(uri)
    client = MlflowClient()
    experiment = client.create_experiment("large " + root, root or None)
    run_id = client.create_run(experiment).info.run_id
    client.log_text(run_id, "small", "small.txt")
    client.download_artifacts(run_id, "small.txt", folder)
    before = status("VmRSS")
    client.log_artifact(run_id, file)
    path = client.download_artifacts(run_id, Path(file).name, folder)
    assert Path(path).stat().st_size == Path(file).stat().st_size
    print("grown", status("VmHWM") - before)
"""


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "weights.bin"
    piece = os.urandom(MIB - 8)
    with path.open("wb") as file:
        for number in range(SIZE // MIB):
            file.write(number.to_bytes(8, "big") + piece)
    return path


def growth(uri: str, root: str, file: Path, folder: Path) -> int:
    """By how many bytes a client of its own process grows."""
    folder.mkdir()
    command = [sys.executable, "-c", textwrap.dedent(CLIENT), uri, root, str(file), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


@pytest.mark.parametrize("kind", ["timescaledb-artifacts", "sha256+file", "sha256+s3"])
def test_a_client_of_the_database_holds_a_part_of_a_file(
    kind: str, database: DatabaseURI, large_file: Path, tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    if kind == "sha256+s3":
        request.getfixturevalue("s3")
    roots = {"sha256+file": f"sha256+file://{tmp_path}/store", "sha256+s3": "sha256+s3://models/x"}
    assert growth(database.url, roots.get(kind, ""), large_file, tmp_path / "down") < BOUND


@pytest.fixture
def server_process(database: DatabaseURI, tmp_path: Path) -> Iterator[Server]:
    environment = {
        "MLFLOW_TIMESCALE_URI": database.url,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with timescale_server(
        *("--workers", "1"), log_file=tmp_path / "log", environment=environment
    ) as running:
        yield running


@pytest.mark.server
def test_a_server_and_its_client_hold_a_part_of_a_file(
    server_process: Server, large_file: Path, tmp_path: Path
) -> None:
    growth(server_process.url, "", _small(tmp_path), tmp_path / "first")
    before = _memory(server_process, "VmRSS")
    client = growth(server_process.url, "mlflow-artifacts:/large", large_file, tmp_path / "down")
    assert client < BOUND
    assert _memory(server_process, "VmHWM") - before < BOUND


def _small(directory: Path) -> Path:
    path = directory / "small.bin"
    path.write_bytes(b"small")
    return path


def _memory(server: Server, field: str) -> int:
    """A figure of the memory of all processes of a server, in bytes."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        values = _fields(status)
        if values.get("NSpgid", "").split()[-1:] == [str(server.process.pid)]:
            total += int(values[field].split()[0]) * 1024
    assert total
    return total


def _fields(status: Path) -> dict[str, Any]:
    try:
        lines = status.read_text().splitlines()
    except OSError:  # it ended
        return {}
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)
