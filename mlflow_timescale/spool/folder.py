"""The folder of a spool, opened once and then used by its descriptor; symbolic links are refused.

Otherwise another user could replace a folder in a shared place such as /tmp between two calls.
Files are created with mode 0600, the folder with 0700; a folder or file of another user is refused.
Locks (flock) belong to an open file, so that two threads exclude each other as two processes do; a
child of fork() closes the descriptors that it inherits, which keeps the locks of its parent.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow_timescale.db.errors import Error

_BLOCK = 2**20
_SMALL = 512  # bytes that every file system writes into a block at once
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | _FLAGS
_held: set[int] = set()  # descriptors of locks in this process


_FULL = (errno.ENOSPC, errno.EDQUOT)


class SpoolError(Error):
    """The folder of a spool cannot be used."""


class DiskFull(SpoolError):
    """The disk of a spool has no room, or its user has none left there."""


@contextmanager
def named(path: Path, what: str) -> Iterator[None]:
    """Raise SpoolError, which names the folder, for an OSError of the block."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL:
            advice = "make room there, or name a folder on another disk"
            raise DiskFull(f"cannot {what} the spool {path}: {exc.strerror}; {advice}") from exc
        raise SpoolError(f"cannot {what} the spool {path}: {exc.strerror or exc}") from exc


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of the folder, which is created if it does not exist. Raises SpoolError."""
    try:
        try:
            folder = os.open(path, _FOLDER)
        except FileNotFoundError:
            _make(path)
            folder = os.open(path, _FOLDER)
    except OSError as exc:
        raise SpoolError(f"cannot use the spool {path}: {exc.strerror}; {_advice(exc)}") from exc
    try:
        _refuse_strangers(os.fstat(folder), path)
        yield folder
    finally:
        os.close(folder)


def open_file(folder: int, name: str, flags: int) -> int:
    """A descriptor of a file in the folder. Raises SpoolError for a link or another user's file."""
    try:
        descriptor = os.open(name, flags | _FLAGS, 0o600, dir_fd=folder)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.EISDIR):
            raise SpoolError(f"{name} in the spool is no file ({exc.strerror}); remove it") from exc
        raise
    try:
        _refuse_strangers(os.fstat(descriptor), name)
    except SpoolError:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def locked(folder: int, name: str, *, wait: bool = True) -> Iterator[int | None]:
    """Hold a lock and yield the descriptor of its file; without `wait`, None if it is taken."""
    descriptor = open_file(folder, name, os.O_RDWR | os.O_CREAT)
    _held.add(descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        try:
            yield descriptor
        finally:
            if (
                descriptor in _held
            ):  # not in a child that was forked in the block: the parent's lock
                # close() does not unlock while a child that is being forked holds a copy.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        if descriptor in _held:
            _held.discard(descriptor)
            os.close(descriptor)


def names(folder: int) -> list[str]:
    """The names in the folder, sorted."""
    return sorted(os.listdir(folder))


def read(folder: int, name: str, start: int = 0) -> bytes:
    """The bytes of a file from an offset on; b"" if the file does not exist."""
    try:
        descriptor = open_file(folder, name, os.O_RDONLY)
    except FileNotFoundError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        if start:
            file.seek(start)
        return file.read()


def replace(folder: int, name: str, content: bytes) -> None:
    """Replace the content of a file atomically and durably."""
    temporary = f"{name}.new"
    descriptor = open_file(folder, temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        write_all(descriptor, content)
        os.fdatasync(descriptor)
    except OSError:
        os.unlink(temporary, dir_fd=folder)
        raise
    finally:
        os.close(descriptor)
    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


def overwrite(folder: int, name: str, content: bytes) -> None:
    """`replace`; on a full disk in place, within the block that the file has."""
    try:
        replace(folder, name, content)
    except OSError as exc:
        if exc.errno not in _FULL or len(content) > _SMALL:
            raise
        descriptor = open_file(folder, name, os.O_WRONLY)
        try:
            os.pwrite(descriptor, content, 0)
            os.ftruncate(descriptor, len(content))
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


def copy(folder: int, name: str, source: Path, *, sync: bool) -> int:
    """Copy a file into the folder; return its size. A failure leaves no partial copy."""
    descriptor = open_file(folder, name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        with source.open("rb") as read, os.fdopen(descriptor, "wb", closefd=False) as write:
            shutil.copyfileobj(read, write, _BLOCK)
        if sync:
            os.fdatasync(descriptor)
        return os.fstat(descriptor).st_size
    except BaseException:
        os.unlink(name, dir_fd=folder)
        raise
    finally:
        os.close(descriptor)


def remove(folder: int, name: str) -> int:
    """Remove a file; return its size, or 0 if it does not exist."""
    try:
        size = os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return 0
    return size


def write_all(descriptor: int, content: bytes) -> None:
    """Write all bytes. A full disk raises OSError after a part of them."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _refuse_strangers(status: os.stat_result, path: Path | str) -> None:
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SpoolError(
            f"{path} belongs to user {status.st_uid} with mode {status.st_mode & 0o777:o}; a spool "
            f"must belong to the user that writes it, and be writable for no one else"
        )


def _advice(exc: OSError) -> str:
    if exc.errno in (errno.ELOOP, errno.ENOTDIR):
        return "it is a link or a file: name a folder"
    return "name another folder"


def _after_fork() -> None:
    for descriptor in list(_held):
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_after_fork)
