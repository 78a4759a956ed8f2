"""Errors of the shared ground floor, which packages above it refine."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from mlflow_timescale.db import Error

_SHOWN = 10


class InvalidInput(Error):
    """Base of the errors that say what was wrong with a caller's input."""


class InvalidFrame(InvalidInput, ValueError):
    """A frame of an unsupported kind, without a required column, or with unusable values."""


class InvalidName(InvalidInput, ValueError):
    """A name that cannot be one: it is empty, too long, or of another form."""


class InvalidText(InvalidInput, ValueError):
    """A text that PostgreSQL cannot store: it holds NUL or a lone surrogate."""


class InvalidTime(InvalidInput, ValueError):
    """A time that is naive, missing, finer than a microsecond or out of range; or no duration."""


class UnknownCalendar(InvalidInput, ValueError):
    """A trading calendar that does not exist, cannot be built, or does not reach a date."""


class NotASession(InvalidInput, ValueError):
    """A date on which the exchange does not trade, or one outside the calendar."""


def in_rows(rows: Sequence[int]) -> str:
    """Positions of rows for an error: the first ten, and how many more there are.

    >>> in_rows([3, 7]), in_rows(range(12))
    ('3, 7', '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more')
    """
    return first_of([int(row) for row in rows], _SHOWN)


def first_of(items: Sequence[object], shown: int) -> str:
    """The first of some things for an error or a table, and how many more there are.

    >>> first_of(["ic", "psi", "sharpe"], 2)
    'ic, psi and 1 more'
    """
    first = ", ".join(str(item) for item in items[:shown])
    return f"{first} and {len(items) - shown} more" if len(items) > shown else first


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """The names that are spelt like one that matches nothing, to be put behind it in an error.

    >>> did_you_mean("momentm", ["momentum", "carry"]), did_you_mean("x", ["momentum"])
    (' (did you mean momentum?)', '')
    """
    near = get_close_matches(name, names, n=3)
    return f" (did you mean {', '.join(near)}?)" if near else ""
