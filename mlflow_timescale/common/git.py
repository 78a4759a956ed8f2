"""The state of a directory in git: its commit, and whether its files differ from it."""

from __future__ import annotations

import os
import subprocess  # nosec B404  # runs git without a shell
from functools import cache
from pathlib import Path

_SECONDS = 10  # a repository on a network drive must not hold up a run


@cache
def version(directory: Path) -> str | None:
    """The commit that a directory is at, with "-dirty" if tracked files differ; None outside git.

    Asked once per process and directory: a feature write must not start a program each time.
    """
    return _output(directory, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")


def is_dirty(directory: Path) -> bool | None:
    """Whether tracked files differ from the commit; None outside git."""
    changes = _output(directory, "status", "--porcelain", "--untracked-files=no", empty="")
    return None if changes is None else bool(changes)


def _output(directory: Path, *arguments: str, empty: str | None = None) -> str | None:
    """What git prints; `empty` for nothing, None where it fails or is not installed."""
    try:
        done = subprocess.run(  # nosec B603 B607  # git of the user's PATH, no shell, arguments of ours
            ["git", *arguments],
            cwd=directory,
            # Without it `git status` writes the index, beside a git that the user runs.
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (done.stdout.strip() or empty) if done.returncode == 0 else None
