"""Uploads that arrive piece by piece, from clients that hang up, in bounded memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from mlflow_timescale.artifacts.contents import CHUNK
from mlflow_timescale.artifacts.in_database import InDatabaseRepository
from mlflow_timescale.db.uri import DatabaseURI


@pytest.fixture
def repository(database: DatabaseURI) -> InDatabaseRepository:
    return InDatabaseRepository("timescaledb-artifacts:/1/run/artifacts", database)


async def pieces(count: int, hang_up: bool = False) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number]) * (CHUNK // 3)
    if hang_up:
        raise ConnectionResetError("the client is gone")


def test_an_asynchronous_upload_arrives_whole(
    repository: InDatabaseRepository, tmp_path: Path
) -> None:
    asyncio.run(repository.log_artifact_from_async_stream(pieces(20), "model.bin", "deep"))
    arrived = Path(repository.download_artifacts("deep/model.bin", str(tmp_path)))
    assert arrived.read_bytes() == b"".join(bytes([n]) * (CHUNK // 3) for n in range(20))


def test_a_client_that_hangs_up_leaves_nothing(repository: InDatabaseRepository) -> None:
    with pytest.raises(ConnectionResetError):
        asyncio.run(repository.log_artifact_from_async_stream(pieces(9, hang_up=True), "model.bin"))
    assert repository.list_artifacts() == []


def test_a_writer_that_fails_does_not_leave_the_client_waiting(
    repository: InDatabaseRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(files: object) -> None:
        raise MlflowException("the disk is full")

    monkeypatch.setattr(repository, "_store", fail)
    with pytest.raises(MlflowException, match="the disk is full"):
        asyncio.run(repository.log_artifact_from_async_stream(pieces(30), "model.bin"))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(database: DatabaseURI, tmp_path: Path) -> None:
    script = f"""
        import os, resource, sys
        from mlflow_timescale.artifacts.in_database import InDatabaseRepository
        from mlflow_timescale.db.uri import DatabaseURI

        class Source:
            left = int(sys.argv[1])
            def read(self, size):
                size = min(size, self.left)
                self.left -= size
                return os.urandom(size)

        repository = InDatabaseRepository(
            "timescaledb-artifacts:/1/run/artifacts", DatabaseURI.parse({database.url!r}))
        repository.log_artifact_from_stream(Source(), "model.bin")
        path = repository.download_artifacts("model.bin", {str(tmp_path)!r})
        assert os.path.getsize(path) == int(sys.argv[1])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """

    def peak(size: int) -> int:
        command = [sys.executable, "-c", textwrap.dedent(script), str(size)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout.split()[-1])

    small, large = peak(4 * CHUNK), peak(256 * CHUNK)
    assert (large - small) * 1024 < 64 * CHUNK
