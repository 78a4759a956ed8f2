"""The account that an embedded server runs as: PostgreSQL refuses to run as root."""

from __future__ import annotations

import logging
import os
import pwd
import subprocess  # nosec B404  # runs programs of the system and of PostgreSQL without a shell
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow_timescale.db.errors import EmbeddedServerError

_logger = logging.getLogger(__name__)

# An account that nothing else uses. Whatever runs as `nobody` could read the files of a server that
# does, connect to it and change its memory.
NAME = "mlflow-timescale-db"
FORMER = "nobody"
_NO_LOGIN = "/usr/sbin/nologin"
_ATTEMPTS, _PAUSE_SECONDS = 20, 0.1  # useradd fails while another one runs


def account_of(home: int, directory: Path, data: str) -> pwd.struct_passwd | None:
    """The account of a directory's server; None for this process's own.

    For root it is the directory's owner. In a directory of root's it is the owner of the data, and
    before there are data an account that only embedded servers use.

    Parameters
    ----------
    home
        A descriptor of the directory.
    directory
        Named in errors. Raises EmbeddedServerError for an owner without a name.
    data
        The name of the cluster's data in the directory.
    """
    if os.geteuid() != 0:
        return None
    owner = os.fstat(home).st_uid
    if owner == 0:
        with suppress(FileNotFoundError):
            owner = os.stat(data, dir_fd=home).st_uid
    if owner == 0:
        return own_account()
    try:
        return pwd.getpwuid(owner)
    except KeyError:
        raise EmbeddedServerError(
            f"PostgreSQL cannot run as root, and {directory} belongs to user id {owner}, "
            f"which has no entry in /etc/passwd: add one (useradd --uid {owner} ...), or "
            f"choose another directory"
        ) from None


def own_account() -> pwd.struct_passwd:
    """The account of servers that root starts in directories of root's; created if missing."""
    reason = ""
    for _ in range(_ATTEMPTS):
        try:
            return pwd.getpwnam(NAME)
        except KeyError:
            reason = _create()
        if reason:
            time.sleep(_PAUSE_SECONDS)
    raise EmbeddedServerError(
        f"PostgreSQL cannot run as root, and the account {NAME!r} cannot be created ({reason}): "
        f"create it (useradd --system {NAME}), or give the directory to an account of its own "
        f"with chown"
    )


def _create() -> str:
    """Create the account; return why it failed, or an empty text."""
    reasons = []
    for command in (
        ("useradd", "--system", "--no-create-home", "--shell", _NO_LOGIN, NAME),
        ("adduser", "-S", "-D", "-H", "-s", _NO_LOGIN, NAME),  # BusyBox
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True)  # nosec B603  # no shell, names of ours
        except OSError as exc:
            reasons.append(f"{command[0]}: {exc.strerror}")
            continue
        if done.returncode == 0:
            _logger.info("Created the account %s, as which embedded servers of root run.", NAME)
            return ""
        reasons.append(" ".join((done.stderr or command[0]).split()))
        break
    return "; ".join(reasons)


def identity(account: pwd.struct_passwd | None) -> dict[str, Any]:
    """The arguments of `subprocess.run` that make a program run as an account, without its groups.

    >>> identity(None)
    {}
    """
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
