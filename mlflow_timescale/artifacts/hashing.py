"""SHA-256 of what passes by: readers that hash, copies that hash, and hashing beside an upload."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

BLOCK = 1 << 20


@dataclass(frozen=True)
class Fingerprint:
    """What a file's bytes are: their SHA-256 in hex, and how many there are.

    >>> Fingerprint.of(b"momentum")
    Fingerprint(sha256='446be308664e1964b816217ba48334a777837850765f863efbba3c6608da6b90', size=8)
    """

    sha256: str
    size: int

    @classmethod
    def of(cls, data: bytes) -> Fingerprint:
        return cls(hashlib.sha256(data).hexdigest(), len(data))

    def __str__(self) -> str:
        return f"sha256 {self.sha256} ({self.size} bytes)"


class Hasher:
    """Takes bytes as they come."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._size = 0

    def update(self, data: bytes | memoryview) -> None:
        self._sha256.update(data)
        self._size += len(data)

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self._sha256.hexdigest(), self._size)


class HashingReader:
    """A binary stream that hashes what is read from it."""

    def __init__(self, stream: IO[bytes] | Any) -> None:
        self._stream = stream
        self._hasher = Hasher()

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        self._hasher.update(data)
        return data

    @property
    def fingerprint(self) -> Fingerprint:
        return self._hasher.fingerprint


def blocks(stream: Any, size: int = BLOCK) -> Iterator[bytes]:
    """Cut a stream into blocks of exactly `size` bytes, the last one shorter.

    Sockets and pipes return what they have, so one block may take several reads.

    >>> import io
    >>> list(blocks(io.BytesIO(b"abcdefgh"), 3))
    [b'abc', b'def', b'gh']
    """
    while data := stream.read(size):
        if len(data) < size:
            parts = [data]
            missing = size - len(data)
            while missing and (more := stream.read(missing)):
                parts.append(more)
                missing -= len(more)
            data = b"".join(parts)
        yield data


def hash_file(path: str | os.PathLike[str]) -> Fingerprint:
    """Read a file and hash it, in bounded memory."""
    hasher = Hasher()
    buffer = memoryview(bytearray(BLOCK))
    with Path(path).open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
    return hasher.fingerprint


def copy_hashed(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> Fingerprint:
    """Copy a file and hash the bytes that were written, at about the cost of the copy.

    The bytes are read once; a second thread hashes each block while the first writes it.
    """
    hasher = Hasher()
    pending: queue.Queue[bytes] = queue.Queue(maxsize=8)
    thread = threading.Thread(target=_drain, args=(pending, hasher), daemon=True)
    with Path(source).open("rb", buffering=0) as read, Path(target).open("wb", 0) as write:
        thread.start()
        try:
            while data := read.read(BLOCK):
                pending.put(data)
                write.write(data)
        finally:
            pending.put(b"")
            thread.join()
    return hasher.fingerprint


def _drain(pending: queue.Queue[bytes], hasher: Hasher) -> None:
    while data := pending.get():
        hasher.update(data)


@contextmanager
def hashed_alongside(paths: list[Path]) -> Iterator[dict[Path, Future[Fingerprint]]]:
    """Hash files in other threads while the caller uploads them; raise if one changes meanwhile.

    The uploader reads each file itself, so the bytes come from the page cache here.
    """
    before = {path: _state(path) for path in paths}
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="sha256") as pool:
        yield {path: pool.submit(hash_file, path) for path in paths}
    for path, state in before.items():
        if _state(path) != state:
            raise OSError(
                f"{path} was changed while it was being logged, so its checksum cannot be known; "
                f"log it again"
            )


def _state(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
