"""Paths of artifacts: which ones a repository accepts, and the files of a local directory.

Everything that is accepted here can be listed and downloaded again, on every disk and in every
store. All refusals are INVALID_PARAMETER_VALUE and name the path.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.utils.validation import bad_path_message, path_not_unique

from mlflow_timescale.common.text import refusal

LONGEST_NAME = 255  # bytes: the limit of ext4, XFS, APFS and NTFS
LONGEST_PATH = 2000  # bytes: an entry of a PostgreSQL index has at most 2,704
# A directory may be reached by several links, but a chain of doubled links has 2^n paths.
_MOST_VISITS = 100


def refused(path: str | os.PathLike[str], reason: str) -> MlflowException:
    """The error for a path that cannot be stored."""
    return MlflowException(f"artifact path {str(path)!r} {reason}", INVALID_PARAMETER_VALUE)


def require_text(path: str) -> None:
    """Raise MlflowException for a path that is not UTF-8 or has a NUL: no store can hold it."""
    if reason := refusal(path):
        raise refused(path, f"is not UTF-8 or has a NUL ({reason}); use another name")


def require_storable(path: str) -> None:
    """Raise MlflowException for a path that could not be downloaded again.

    >>> require_storable("figures/equity curve #1.png")
    >>> require_storable("x" * 300)
    Traceback (most recent call last):
    ...
    mlflow.exceptions.MlflowException: artifact path 'xxxx...' has a name of 300 bytes (most: 255)
    """
    require_text(path)
    if len(path.encode()) > LONGEST_PATH:
        raise refused(f"{path[:20]}...", f"is longer than {LONGEST_PATH} bytes; use a shorter one")
    for name in path.split("/"):
        if (length := len(name.encode())) > LONGEST_NAME:
            raise refused(f"{name[:4]}...", f"has a name of {length} bytes (most: {LONGEST_NAME})")


def destination(local_file: str | os.PathLike[str], artifact_path: str | None) -> str:
    """The path of a file logged under `artifact_path`, relative to the root.

    >>> destination("/tmp/weights.pkl", "model")
    'model/weights.pkl'
    """
    _require_normal(artifact_path)
    path = posixpath.join(artifact_path or "", Path(local_file).name)
    require_storable(path)
    return path


def tree(local_dir: str | os.PathLike[str], artifact_path: str | None) -> dict[str, Path]:
    """The files of a directory, by their path relative to the root; symbolic links are followed.

    Raises MlflowException, before anything is stored, for a link that leads into itself, for what
    is no regular file (a FIFO would never end), and for names that cannot be stored.
    """
    _require_normal(artifact_path)
    root = Path(local_dir)
    files = {
        posixpath.join(artifact_path or "", file.relative_to(root).as_posix()): file
        for file in sorted(_files(root, (), Counter()))
    }
    for path in files:
        require_storable(path)
    return files


def open_regular(file: Path) -> BinaryIO:
    """Open a local file to read it. Raises MlflowException for a FIFO, a device or a directory."""
    # O_NONBLOCK: opening a FIFO would wait for its writer; for a regular file it has no effect.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _require_regular(file, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb", buffering=0)


def require_regular(file: Path) -> None:
    """Raise MlflowException for what is no regular file; FileNotFoundError for what is missing."""
    _require_regular(file, file.stat())


def require_tree(paths: Iterable[str]) -> None:
    """Raise MlflowException if one of these paths is both a file and a directory of another."""
    files = set(paths)
    for path in files:
        if clash := next((above for above in parents(path) if above in files), None):
            raise refused(
                clash,
                "is both a file and a directory, so they cannot be downloaded together; download "
                "its files one by one, or delete it",
            )


def clash(path: str, existing: str) -> MlflowException:
    """The error for a path that needs a directory where a file is, or the other way round."""
    kind = "a directory" if existing.startswith(f"{path}/") else f"below the file {existing!r}"
    return refused(path, f"is {kind} already; use another name, or delete that first")


def parents(path: str) -> Iterator[str]:
    """The directories above a path, the innermost first.

    >>> list(parents("a/b/c"))
    ['a/b', 'a']
    """
    while path := path.rpartition("/")[0]:
        yield path


def _require_normal(artifact_path: str | None) -> None:
    if artifact_path:
        require_text(str(artifact_path))
        if path_not_unique(artifact_path):
            message = f"Invalid artifact path: '{artifact_path}'. {bad_path_message(artifact_path)}"
            raise MlflowException(message, INVALID_PARAMETER_VALUE)


def _files(
    directory: Path, above: tuple[tuple[int, int], ...], visits: Counter[tuple[int, int]]
) -> Iterator[Path]:
    state = directory.stat()
    identity = (state.st_dev, state.st_ino)
    visits[identity] += 1
    if identity in above or visits[identity] > _MOST_VISITS:
        raise refused(directory, "is reached through symbolic links without end; remove the link")
    for entry in sorted(directory.iterdir()):
        try:
            state = entry.stat()
        except OSError as exc:
            raise refused(entry, f"cannot be read: {exc.strerror}") from exc
        if stat.S_ISDIR(state.st_mode):
            yield from _files(entry, (*above, identity), visits)
        else:
            _require_regular(entry, state)
            yield entry


def _require_regular(file: Path, state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        kind = "a directory" if stat.S_ISDIR(state.st_mode) else "a FIFO, socket or device"
        raise refused(file, f"is {kind}, not a regular file; only files can be logged")
