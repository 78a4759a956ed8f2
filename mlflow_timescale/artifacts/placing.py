"""Downloads into a folder in which another account may have put something.

A link of another account in the place of a folder would lead a download of root's to /etc. Folders
are opened one after the other by descriptor, so that none can be exchanged in between.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from mlflow_timescale.artifacts.refusals import ArtifactRefused

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def make_stage(target: str | None) -> Path:
    """A new directory for what is not yet verified, on the file system of the target if it can be.

    In a folder where other accounts may rename it, it would not be ours for long.
    """
    if target is None:
        return Path(tempfile.mkdtemp(prefix="mlflow-"))
    _require_own(Path(target))
    is_safe = _is_ours_alone(Path(target).stat())
    return Path(tempfile.mkdtemp(prefix=".unchecked-", dir=target if is_safe else None))


def move_into(stage: Path, target: Path) -> None:
    """Move a verified directory to its destination, and remove it.

    Raises ArtifactRefused for a link of another account in the place of a directory.
    """
    root = os.open(target, _FOLDER)
    try:
        _merge(stage, root, target)
    finally:
        os.close(root)
    with suppress(OSError):
        shutil.rmtree(stage)


def _merge(source: Path, folder: int, shown: Path) -> None:
    for entry in sorted(source.iterdir()):
        if not entry.is_dir() or entry.is_symlink():
            _place(entry, folder)
            continue
        with suppress(FileExistsError):
            os.mkdir(entry.name, dir_fd=folder)
        below = _open_folder(folder, entry.name, shown / entry.name)
        try:
            _merge(entry, below, shown / entry.name)
        finally:
            os.close(below)


def _open_folder(folder: int, name: str, shown: Path) -> int:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode) and _is_trusted(status):
        return os.open(name, _FOLDER, dir_fd=folder)
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as exc:
        if stat.S_ISLNK(status.st_mode):
            raise _foreign(shown, status) from exc
        raise


def _place(file: Path, folder: int) -> None:
    """Put a file in its place, over what is there: a rename follows no link."""
    draft = file.name
    try:
        os.replace(file, draft, dst_dir_fd=folder)
    except OSError as exc:
        if exc.errno != errno.EXDEV:  # another file system
            raise
        draft = f".{os.urandom(8).hex()}.unchecked"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with (
            file.open("rb") as source,
            os.fdopen(os.open(draft, flags, 0o666, dir_fd=folder), "wb") as target,
        ):
            shutil.copyfileobj(source, target)
        os.replace(draft, file.name, src_dir_fd=folder, dst_dir_fd=folder)


def _require_own(folder: Path) -> None:
    status = folder.lstat()
    if stat.S_ISLNK(status.st_mode) and not _is_trusted(status):
        raise _foreign(folder, status)


def _is_trusted(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid())


def _is_ours_alone(status: os.stat_result) -> bool:
    """Whether no other account can rename what this process makes in a folder.

    Its group is trusted: with a umask of 002 every folder is writable for it.
    """
    is_open = bool(status.st_mode & stat.S_IWOTH)
    return _is_trusted(status) and (not is_open or bool(status.st_mode & stat.S_ISVTX))


def _foreign(path: Path, status: os.stat_result) -> ArtifactRefused:
    return ArtifactRefused(
        f"{path} is a symbolic link of user id {status.st_uid}, which a download does not follow: "
        f"name the folder that it leads to, or another one",
        INVALID_PARAMETER_VALUE,
    )
