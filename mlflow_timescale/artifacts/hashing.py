"""SHA-256 of streams: readers that hash, copies that hash, and hashing during an upload."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

BLOCK = 1 << 20
AnyHasher = TypeVar("AnyHasher", bound="Hasher")


@dataclass(frozen=True)
class FileDigest:
    """The SHA-256 (hex) and the size of a file, in bytes.

    >>> FileDigest.of(b"momentum")
    FileDigest(sha256='446be308664e1964b816217ba48334a777837850765f863efbba3c6608da6b90', size=8)
    """

    sha256: str
    size: int

    @classmethod
    def of(cls, data: bytes) -> FileDigest:
        return cls(hashlib.sha256(data).hexdigest(), len(data))

    def __str__(self) -> str:
        return f"sha256 {self.sha256} ({self.size} bytes)"


class Hasher:
    """Incremental SHA-256 and size."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._size = 0

    def update(self, data: bytes | memoryview) -> None:
        self._sha256.update(data)
        self._size += len(data)

    @property
    def fingerprint(self) -> FileDigest:
        return FileDigest(self._sha256.hexdigest(), self._size)


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
    def fingerprint(self) -> FileDigest:
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


def hash_file(path: str | os.PathLike[str]) -> FileDigest:
    """Read a file and hash it, in bounded memory."""
    hasher = Hasher()
    buffer = memoryview(bytearray(BLOCK))
    with Path(path).open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
    return hasher.fingerprint


class BackgroundHasher(Generic[AnyHasher]):
    """Hashes streams, identified by a key, in another thread while the caller writes them.

    hashlib releases the GIL, so with a second core hashing adds almost no time.

    >>> with BackgroundHasher(Hasher) as hasher:
    ...     hasher.update("a", b"momentum")
    >>> hasher.of("a").fingerprint.size, hasher.of("never seen").fingerprint.size
    (8, 0)
    """

    def __init__(self, make: Callable[[], AnyHasher]) -> None:
        self._make = make
        self._hashers: dict[object, AnyHasher] = {}
        # One block at most: a buffer that is freed early is reused while it is in the CPU cache.
        self._pending: queue.Queue[tuple[object, bytes] | None] = queue.Queue(maxsize=1)
        self._thread = threading.Thread(target=self._work, name="sha256", daemon=True)

    def __enter__(self) -> BackgroundHasher[AnyHasher]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pending.put(None)
        self._thread.join()

    def update(self, key: object, data: bytes) -> None:
        self._pending.put((key, data))

    def of(self, key: object) -> AnyHasher:
        """The hasher of a stream; valid after the `with` block."""
        return self._hashers.get(key) or self._make()

    def _work(self) -> None:
        while item := self._pending.get():
            key, data = item
            self._hashers.setdefault(key, self._make()).update(data)


def copy_hashed(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> FileDigest:
    """Copy a file and hash the bytes written, reading them once."""
    with (
        Path(source).open("rb", buffering=0) as read,
        Path(target).open("wb", 0) as write,
        BackgroundHasher(Hasher) as hasher,
    ):
        while data := read.read(BLOCK):
            hasher.update(target, data)
            write.write(data)
    return hasher.of(target).fingerprint


@contextmanager
def hashed_alongside(paths: list[Path]) -> Iterator[dict[Path, Future[FileDigest]]]:
    """Hash files in other threads while the caller uploads them. Raises OSError if one changes.

    Both read each file; the second read comes from the page cache.
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
