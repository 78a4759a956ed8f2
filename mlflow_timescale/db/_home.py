"""The directory of an embedded server: who works in it, and making and removing what is in it.

Root touches files in a directory of another account only as that account: whatever the account
has put there then leads no further than the account itself could go.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess  # nosec B404  # runs programs of the system and of PostgreSQL without a shell
import tarfile
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_timescale.db._accounts import FORMER, account_of, identity, own_account
from mlflow_timescale.db._private import DATA, close_to_others, foreign, hand_over, opened
from mlflow_timescale.db.errors import EmbeddedServerError

_SECONDS = 60  # a FIFO in the place of a file would never be read to its end


@contextmanager
def open_home(directory: Path) -> Iterator[Home]:
    """The opened and checked directory of an embedded server. Raises EmbeddedServerError."""
    with opened(directory) as descriptor:
        yield Home(directory, descriptor)


@dataclass(frozen=True)
class Home:
    """An opened directory of an embedded server."""

    directory: Path
    descriptor: int

    @property
    def account(self) -> pwd.struct_passwd | None:
        """The account that the server runs as; None for this process's own."""
        return account_of(self.descriptor, self.directory, DATA)

    @property
    def keeper(self) -> pwd.struct_passwd | None:
        """The account that makes files in the directory: its owner; None for this process's own."""
        return self.account if self._owner not in (0, os.geteuid()) else None

    @property
    def owners(self) -> list[int]:
        """The user ids that a directory of the server may belong to; the account's is the first.

        In a directory of root's, root may have restored the files, and earlier versions made them
        for `nobody`.
        """
        account = self.account
        if account is None:
            return [os.geteuid()]
        if self._owner != 0:
            return [account.pw_uid]
        former = [entry.pw_uid for entry in pwd.getpwall() if entry.pw_name == FORMER]
        return list(dict.fromkeys([account.pw_uid, 0, *former]))

    @property
    def _owner(self) -> int:
        return os.fstat(self.descriptor).st_uid

    @property
    def _cwd(self) -> str:
        """The directory by its descriptor where the system can: its path may change its meaning."""
        number = f"/proc/self/fd/{self.descriptor}"
        return number if Path(number).is_dir() else str(self.directory)

    @property
    def is_former(self) -> bool:
        """Whether the data belong to `nobody`, which served root's directories formerly."""
        account = self.account
        return account is not None and self._owner == 0 and account.pw_name == FORMER

    def let_in(self) -> None:
        """Let the account pass through a directory of root's."""
        if self.account is not None and self._owner == 0:
            mode = stat.S_IMODE(os.fstat(self.descriptor).st_mode)
            os.fchmod(self.descriptor, mode | stat.S_IXOTH)

    def run(
        self, account: pwd.struct_passwd | None, *command: str, **options: Any
    ) -> subprocess.CompletedProcess[Any]:
        """Run a program in the directory as an account, without an environment of ours."""
        defaults: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "env": {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            "cwd": self._cwd,
        }
        arguments = {**defaults, **options, **identity(account)}
        return subprocess.run(command, check=False, **arguments)  # nosec B603  # no shell

    def output(self, *command: str) -> bytes:
        """What a program prints that runs as the account; nothing where it fails."""
        captured = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "timeout": _SECONDS}
        done = self.run(self.account, *command, **captured)
        return bytes(done.stdout) if done.returncode == 0 else b""

    def _names(self) -> list[str]:
        return os.listdir(self.descriptor)  # noqa: PTH208

    def exists(self, name: str) -> bool:
        """Whether the directory has something of this name."""
        return name in self._names()

    def make_private(self, name: str) -> None:
        """Make a directory that only the account can enter, unless it exists; close it to others.

        Raises EmbeddedServerError if it belongs to another account, or is none.
        """
        self._make(name)
        self.close(name)

    def close(self, name: str) -> None:
        """Close a directory of the account to others. Raises EmbeddedServerError."""
        close_to_others(self.descriptor, name, self.owners, path=self.directory / name)

    def _make(self, name: str) -> None:
        if self.keeper is not None:
            self.run(self.keeper, "mkdir", "-m", "700", name, stderr=subprocess.DEVNULL)
        else:
            with suppress(FileExistsError):
                os.mkdir(name, stat.S_IRWXU, dir_fd=self.descriptor)

    def draft(self, prefix: str) -> str:
        """A new directory in which something is made before it is renamed.

        What a killed process left is removed. Its initdb may still be writing there: then the next
        call removes it.
        """
        for name in self._names():
            if name.startswith(prefix):
                self.remove(name)
        name = f"{prefix}{uuid.uuid4().hex[:12]}"
        self._make(name)
        return name

    def remove(self, name: str) -> None:
        """Remove a tree as far as possible, each part as its owner."""
        for account in {self.account: None, self.keeper: None}:
            self.run(account, "rm", "-rf", "--", name, stderr=subprocess.DEVNULL)

    def copy(self, parts: Sequence[tuple[Path, str]], target: str) -> None:
        """Copy files and trees into a directory, readable for others; our umask may forbid that.

        Parameters
        ----------
        parts
            Paths that this process can read, and the names that they get.
        target
            A directory that `draft` has made. Raises EmbeddedServerError.
        """
        with tempfile.TemporaryFile() as file:
            with tarfile.open(fileobj=file, mode="w") as archive:
                for source, name in parts:
                    archive.add(source, name, filter=_readable)
            file.seek(0)
            options = {"stdin": file, "capture_output": True, "umask": 0o022}
            done = self.run(self.keeper, "tar", "-xpf", "-", "-C", target, **options)
        if done.returncode != 0:
            raise EmbeddedServerError(
                f"cannot copy the programs of PostgreSQL into {self.directory}: "
                f"{' '.join(done.stderr.decode(errors='replace').split())}"
            )
        self.run(self.keeper, "chmod", "755", target)

    def rename(self, name: str, target: str) -> None:
        """Rename within the directory."""
        os.rename(name, target, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def take_data(self) -> None:
        """Make the data the account's: root's after a restore, `nobody`'s of an earlier version.

        Only in a directory of root's, whose server does not run. A symbolic link in the place of
        the data is left to PostgreSQL, which checks owner and mode of what it leads to.
        """
        status = os.stat(DATA, dir_fd=self.descriptor, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            return
        if status.st_uid not in self.owners:
            raise foreign(self.directory / DATA, status.st_uid, self.owners[0])
        if self.account is not None and self._owner == 0 and (status.st_uid == 0 or self.is_former):
            hand_over(self.descriptor, DATA, status.st_uid, own_account())
        self.close(DATA)


def _readable(file: tarfile.TarInfo) -> tarfile.TarInfo:
    """A member of a copy that every account may read, and execute where its owner may."""
    file.mode |= stat.S_IROTH | (stat.S_IXOTH if file.mode & stat.S_IXUSR else 0)
    file.uid = file.gid = 0
    file.uname = file.gname = ""
    return file
