"""Directories and lock files that no other account can prepare, replace or receive.

Everything is opened relative to a descriptor of its directory and without following symbolic links,
and is checked by its descriptor: a name may mean another file a moment later.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mlflow_timescale.db.errors import EmbeddedServerError

# What an embedded server makes in its directory; the last two are prefixes of drafts.
DATA, SOCKETS, PROGRAMS = "postgres", "run", "programs"
START_LOCK, USERS_LOCK, REAPER_LOCK = "start.lock", "users.lock", "reaper.lock"
CLUSTER_DRAFT, PROGRAMS_DRAFT = "initdb-", "copy-"
_OURS = (
    *(DATA, SOCKETS, PROGRAMS, START_LOCK, USERS_LOCK, REAPER_LOCK),
    *(CLUSTER_DRAFT, PROGRAMS_DRAFT),
)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK opening a FIFO would wait for a writer.
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHER_PLACE = "choose another directory, by ?embedded= in the URI or MLFLOW_TIMESCALE_HOME"


@contextmanager
def opened(directory: Path) -> Iterator[int]:
    """A descriptor of an embedded server's directory, in which only its owner may change names.

    A directory that is writable for its group, as a umask of 002 makes it, loses that right if it
    holds nothing but what an embedded server makes.

    Parameters
    ----------
    directory
        Belongs to this process's account or to root; for root, to any account.

    Raises
    ------
    EmbeddedServerError
        The directory belongs to another account, or others may write in it.
    """
    descriptor = os.open(directory, _DIRECTORY)
    try:
        _check_directory(descriptor, directory)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_directory(descriptor: int, directory: Path) -> None:
    status = os.fstat(descriptor)
    if os.geteuid() not in (0, status.st_uid) and status.st_uid != 0:
        raise EmbeddedServerError(
            f"{directory} belongs to {account_name(status.st_uid)}, not to "
            f"{account_name(os.geteuid())}: {_OTHER_PLACE}"
        )
    if status.st_mode & stat.S_IWOTH:
        raise _writable(directory, "every account of the machine", "o-w")
    if status.st_mode & stat.S_IWGRP and status.st_uid == os.geteuid():
        names = os.listdir(descriptor)
        if not all(name.startswith(_OURS) for name in names):
            raise _writable(directory, "a group", "g-w")
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode) & ~stat.S_IWGRP)


def _writable(directory: Path, who: str, change: str) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"{directory} is writable for {who}, which could replace the database: run "
        f"chmod {change} '{directory}', or name a new directory, such as {directory}/mlflow, by "
        f"?embedded= in the URI or MLFLOW_TIMESCALE_HOME"
    )


def close_to_others(parent: int, name: str, owners: Collection[int], *, path: Path) -> None:
    """Make a directory in `parent` accessible for its owner only; give root's to the first owner.

    Parameters
    ----------
    parent
        A descriptor of a directory in which only root and `owners` may rename files.
    owners
        User ids: the account that uses the directory, and those that may have made it.
    path
        Named in errors.

    Raises
    ------
    EmbeddedServerError
        It is a symbolic link, no directory, or belongs to another account.
    """
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENOTDIR):
            raise EmbeddedServerError(
                f"{path} is no directory but a file or a symbolic link, which an embedded server "
                f"never makes: remove it, or {_OTHER_PLACE}"
            ) from exc
        raise
    try:
        owner, account = os.fstat(descriptor).st_uid, next(iter(owners))
        if owner not in owners:
            raise foreign(path, owner, account)
        if owner != account:
            os.fchown(descriptor, account, pwd.getpwuid(account).pw_gid)
        os.fchmod(descriptor, stat.S_IRWXU)
    finally:
        os.close(descriptor)


def make_private(path: Path, owners: Collection[int]) -> None:
    """Make a directory in one that all accounts share, such as /tmp, and close it to others.

    Its sticky bit keeps other accounts from renaming what this process has made there.
    Raises EmbeddedServerError as `close_to_others` does.
    """
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(FileExistsError):
            os.mkdir(path.name, stat.S_IRWXU, dir_fd=parent)
        close_to_others(parent, path.name, [*owners, os.geteuid()], path=path)
    finally:
        os.close(parent)


def foreign(path: Path, owner: int, account: int) -> EmbeddedServerError:
    """The error for something in an embedded directory that belongs to a wrong account."""
    return EmbeddedServerError(
        f"{path} belongs to {account_name(owner)}, not to {account_name(account)}: if it is yours, "
        f"run chown -R {account_name(account)} '{path}', else choose another directory"
    )


def lock(directory: Path, name: str, kind: int, *, create: bool = True) -> int:
    """Open a lock file and lock it; the lock ends with the descriptor.

    Parameters
    ----------
    kind
        An operation of `fcntl.flock`.
    create
        Whether a missing file is created, for the owner of the directory; else FileNotFoundError.

    Raises
    ------
    EmbeddedServerError
        The file is not a lock file of ours: a link, of several names, or of another account.
    """
    with opened(directory) as parent:
        descriptor = _open_lock(parent, directory, name, create=create)
    try:
        fcntl.flock(descriptor, kind)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_lock(parent: int, directory: Path, name: str, *, create: bool) -> int:
    owner = os.fstat(parent).st_uid
    try:
        descriptor = _open_or_create(parent, name, owner, create=create)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise _not_a_lock(directory / name, "is a symbolic link") from exc
        raise
    try:
        _check_lock(descriptor, directory / name, {os.geteuid(), owner})
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_or_create(parent: int, name: str, owner: int, *, create: bool) -> int:
    while True:
        try:
            return os.open(name, os.O_RDWR | _FILE, dir_fd=parent)
        except FileNotFoundError:
            if not create:
                raise
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE
            descriptor = os.open(name, flags, stat.S_IRUSR | stat.S_IWUSR, dir_fd=parent)
        except FileExistsError:  # another process was faster
            continue
        if os.geteuid() == 0 != owner:
            # So that the owner of the directory can use it after root has. Only a file that this
            # call has created is given away.
            os.fchown(descriptor, owner, -1)
        return descriptor


def _check_lock(descriptor: int, path: Path, owners: Collection[int]) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise _not_a_lock(path, "is no regular file")
    if status.st_nlink > 1:
        raise _not_a_lock(path, f"has {status.st_nlink} names (hard links)")
    if status.st_uid not in owners:
        raise _not_a_lock(path, f"belongs to {account_name(status.st_uid)}")
    if status.st_uid == os.geteuid() and status.st_mode & _OTHERS:
        os.fchmod(descriptor, stat.S_IRUSR | stat.S_IWUSR)


def _not_a_lock(path: Path, reason: str) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"{path} {reason}, so it is no lock file of an embedded server: remove it, or "
        f"{_OTHER_PLACE}"
    )


def hand_over(parent: int, name: str, owner: int, account: pwd.struct_passwd) -> None:
    """Give a tree to an account: what belongs to `owner`, is a directory or a file of one name."""
    for _, _, names, directory in os.fwalk(name, dir_fd=parent, follow_symlinks=False):
        _give(directory, owner, account)
        for file in names:
            try:
                descriptor = os.open(file, os.O_RDONLY | _FILE, dir_fd=directory)
            except OSError as exc:
                if exc.errno in (errno.ELOOP, errno.ENXIO, errno.ENOENT):
                    continue  # a symbolic link to a tablespace, a socket, a file that has gone
                raise
            try:
                _give(descriptor, owner, account)
            finally:
                os.close(descriptor)


def _give(descriptor: int, owner: int, account: pwd.struct_passwd) -> None:
    status = os.fstat(descriptor)
    is_file = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
    if status.st_uid == owner and (is_file or stat.S_ISDIR(status.st_mode)):
        os.fchown(descriptor, account.pw_uid, account.pw_gid)


def account_name(uid: int) -> str:
    """The name of a user id, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
