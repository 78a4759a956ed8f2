"""A bridge from an asynchronous upload to a synchronous reader, with bounded memory."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterable, Callable
from typing import BinaryIO, cast

_POLL = 0.5


class Bridge:
    """A readable stream that another thread writes to."""

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(maxsize=4)
        self._rest = b""
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        if not self._rest and not self._ended:
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            self._rest, self._ended = item, not item
        data, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return data

    async def feed(self, item: bytes | BaseException, reader: asyncio.Task[None]) -> None:
        """Add a block, waiting while the queue is full and the reader alive."""
        while not reader.done():
            try:
                await asyncio.to_thread(self._queue.put, item, True, _POLL)
                break
            except queue.Full:
                continue


async def in_thread(chunks: AsyncIterable[bytes], consume: Callable[[BinaryIO], None]) -> None:
    """Run `consume` on an asynchronous stream in a thread; errors of the stream raise in both.

    A client that disconnects early makes the reader fail, so that its transaction is rolled back.
    """
    bridge = Bridge()
    reader = asyncio.create_task(asyncio.to_thread(consume, cast("BinaryIO", bridge)))
    try:
        async for chunk in chunks:
            if chunk:
                await bridge.feed(chunk, reader)
        await bridge.feed(b"", reader)
    except BaseException as exc:
        await bridge.feed(exc if isinstance(exc, Exception) else ConnectionAbortedError(), reader)
        await asyncio.gather(reader, return_exceptions=True)
        raise
    await reader
