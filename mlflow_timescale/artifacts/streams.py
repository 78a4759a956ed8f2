"""Uploads through a server: collected without waiting, then stored by threads of their own.

A client sends at its own pace, and may stop. While it does, an upload holds neither a thread nor a
connection to the database; both begin when its last byte has arrived, and depend on the server
only. MLflow's other routes share the default executor of the event loop, which uploads leave alone.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from tempfile import SpooledTemporaryFile
from typing import IO, BinaryIO, TypeVar, cast

T = TypeVar("T")
IN_MEMORY = 1 << 20  # bytes of one upload
UPLOADS = 4  # stored at a time by one process, each with one connection of the artifacts' pool
_BLOCK = 1 << 18  # bytes that one job writes to a file


async def store(chunks: AsyncIterable[bytes], consume: Callable[[BinaryIO], T]) -> T:
    """Run `consume` on an asynchronous stream, in a thread, after its end.

    Parameters
    ----------
    chunks
        The bytes. They are in memory up to IN_MEMORY, and in a temporary file beyond that. An error
        of theirs is raised, and nothing is stored.
    consume
        Reads a binary stream. It ends early with ValueError if the caller is cancelled.
    """
    with SpooledTemporaryFile(IN_MEMORY) as body:
        await receive(chunks, cast("IO[bytes]", body), in_memory=IN_MEMORY)
        body.seek(0)
        return await in_thread(consume, cast("BinaryIO", body))


async def receive(chunks: AsyncIterable[bytes], target: IO[bytes], *, in_memory: int = 0) -> None:
    """Write an asynchronous stream to a file; threads write what comes after `in_memory` bytes."""
    size, waiting = 0, bytearray()
    async for chunk in chunks:
        size += len(chunk)
        waiting += chunk
        if size <= in_memory:
            target.write(waiting)
            waiting.clear()
        elif len(waiting) >= _BLOCK:
            await _run(_files(), target.write, bytes(waiting))
            waiting.clear()
    if waiting:
        await _run(_files(), target.write, bytes(waiting))


async def in_thread(call: Callable[..., T], *arguments: object) -> T:
    """Call a function that stores an upload; at most UPLOADS run at a time."""
    return await _run(_uploads(), call, *arguments)


async def _run(executor: ThreadPoolExecutor, call: Callable[..., T], *arguments: object) -> T:
    loop, context = asyncio.get_running_loop(), copy_context()
    return await loop.run_in_executor(executor, lambda: context.run(call, *arguments))


@cache
def _uploads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(UPLOADS, "mlflow-timescale-upload")


@cache
def _files() -> ThreadPoolExecutor:
    """Apart from the uploads, so that a client that sends does not wait for the database."""
    return ThreadPoolExecutor(1, "mlflow-timescale-file")


if hasattr(os, "register_at_fork"):  # the child has none of the threads
    os.register_at_fork(after_in_child=_uploads.cache_clear)
    os.register_at_fork(after_in_child=_files.cache_clear)
