"""The exit codes of all commands."""

from __future__ import annotations

from enum import IntEnum
from typing import NoReturn

import click


class Exit(IntEnum):
    """What an exit code means, the same for every command.

    Examples
    --------
    >>> Exit.NO
    <Exit.NO: 3>
    >>> Exit.NO.meaning
    'the answer is no, or a check failed'
    """

    OK = 0
    ERROR = 1
    USAGE = 2
    NO = 3
    ALERT = 4
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """One line, as `--help` and the documentation print it."""
        return _MEANINGS[self]


_MEANINGS = {
    Exit.OK: "done, or the answer is yes",
    Exit.ERROR: "an error; one line on standard error names it",
    Exit.USAGE: "the command line is wrong",
    Exit.NO: "the answer is no, or a check failed",
    Exit.ALERT: "a drift alert is open",
    Exit.INTERRUPTED: "interrupted by Ctrl-C, or a question was answered with no",
}


def exit_with(code: Exit) -> NoReturn:
    """End the current command with an exit code."""
    click.get_current_context().exit(int(code))


def epilog() -> str:
    """The exit codes as text below a help page; \\b keeps click from joining the lines."""
    lines = [f"  {code.value:<4} {code.meaning}" for code in Exit]
    return "\n".join(["\b", "Exit codes:", *lines])
