"""Uploads that arrive piece by piece, from clients that hang up, in bounded memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextvars import ContextVar
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from support.forks import fork, wait_for

from mlflow_timescale.artifacts import streams
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


@pytest.mark.parametrize(
    "sizes",
    [
        [],
        [0],
        [1],
        [streams.IN_MEMORY],
        [streams.IN_MEMORY, 1],
        [streams.IN_MEMORY + 1],
        [1 << 16] * 40,
        [1, streams.IN_MEMORY * 3, 1],
    ],
)
def test_a_stream_of_any_size_is_read_whole(sizes: list[int]) -> None:
    bodies = [bytes([number % 251]) * size for number, size in enumerate(sizes)]

    async def chunks() -> AsyncIterator[bytes]:
        for body in bodies:
            yield body

    assert asyncio.run(streams.store(chunks(), lambda body: body.read())) == b"".join(bodies)


def test_clients_that_wait_do_not_hold_up_another() -> None:
    async def waits(end: asyncio.Event) -> AsyncIterator[bytes]:
        yield b"first"
        await end.wait()
        yield b" last"

    async def main() -> list[bytes]:
        end = asyncio.Event()
        slow = [
            asyncio.create_task(streams.store(waits(end), lambda body: body.read()))
            for _ in range(20 * streams.UPLOADS)
        ]
        quick = await streams.store(pieces(1), lambda body: body.read(1))
        end.set()
        return [quick, *await asyncio.gather(*slow)]

    quick, *slow = asyncio.run(asyncio.wait_for(main(), 60))
    assert quick == b"\x00"
    assert set(slow) == {b"first last"}


def test_a_stream_is_stored_in_the_context_of_its_request() -> None:
    request: ContextVar[str] = ContextVar("request")

    async def main() -> str:
        request.set("ann's")
        return await streams.store(pieces(1), lambda body: request.get())

    assert asyncio.run(main()) == "ann's"


def test_a_forked_child_stores_streams_of_its_own(repository: InDatabaseRepository) -> None:
    def upload(name: str) -> None:
        asyncio.run(repository.log_artifact_from_async_stream(pieces(5), name))

    upload("parent.bin")
    assert wait_for(fork(lambda: upload("child.bin"))) == 0
    assert [file.path for file in repository.list_artifacts()] == ["child.bin", "parent.bin"]
