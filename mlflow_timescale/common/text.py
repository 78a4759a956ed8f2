"""Text that no column can hold (NUL, lone surrogates), and text in one line.

PostgreSQL refuses NUL, and lone surrogates are no UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mlflow_timescale.common.errors import InvalidText

REFUSED = re.compile("[\0\ud800-\udfff]")
SURROGATES = re.compile("[\ud800-\udfff]")
_SHOWN = 20  # characters on each side of the refused one


def printable(text: str) -> str:
    r"""A text on one line, with control and other invisible characters escaped.

    Examples
    --------
    >>> printable("a\x1b[31m\tb\n")
    'a\\x1b[31m\\tb\\n'
    >>> printable("[/b].pkl")
    '[/b].pkl'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(value: object, limit: int | None = None) -> str:
    r"""The text of a value, such as an exception, on one line with single spaces.

    `limit` is the largest number of characters.

    >>> one_line(ValueError("no column\n  'score'"))
    "no column 'score'"
    """
    return " ".join(str(value).split())[:limit]


def refusal(text: str, refused: re.Pattern[str] = REFUSED) -> str | None:
    r"""Which character of a text PostgreSQL refuses, and where; None if it takes the text.

    >>> refusal("AAPL")
    >>> refusal("AA\0PL")
    "holds NUL at character 2: 'AA\\x00PL'"
    >>> refusal("cut \ud83d")
    "holds the lone surrogate U+D83D at character 4: 'cut \\ud83d'"
    """
    match = None if _is_plain(text) else refused.search(text)
    if match is None:
        return None
    position, code = match.start(), ord(match[0])
    name = f"the lone surrogate U+{code:04X}" if code else "NUL"
    excerpt = text[max(position - _SHOWN, 0) : position + _SHOWN]
    return f"holds {name} at character {position}: {excerpt!r}"


def check_text(value: Any, field: str) -> None:
    r"""Raise InvalidText that names the field if a text, or any text in a value, cannot be stored.

    >>> check_text({"name": "AAPL"}, "tags")
    >>> check_text(["AAPL", "\0"], "entities")
    Traceback (most recent call last):
    mlflow_timescale.common.errors.InvalidText: entities[1] holds NUL at character 0: '\x00'. ...
    """
    if isinstance(value, list) and all(map(_is_plain, value)):
        return  # names, the usual case, without a walk
    for path, reason in refusals(value, field):
        raise InvalidText(
            f"{path} {reason}. PostgreSQL stores no NUL, UTF-8 no lone surrogate: remove it"
        )


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and "\0" not in value


def refusals(
    value: Any, path: str, refused: re.Pattern[str] = REFUSED
) -> Iterator[tuple[str, str]]:
    r"""The place and reason of each text that cannot be stored, in containers and in attributes.

    With SURROGATES, NUL is allowed: JSON holds it as an escape.

    >>> list(refusals({"a": [1, "\0"]}, "tags"))
    [("tags['a'][1]", "holds NUL at character 0: '\\x00'")]
    """
    visited: set[int] = set()
    stack = [(path, value)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, str):
            if reason := refusal(value, refused):
                yield path, reason
        elif id(value) not in visited:
            visited.add(id(value))
            stack += [(path + step, part) for step, part in _parts(value)][::-1]


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield f" key {key!r}", key
            yield f"[{key!r}]", part
    elif isinstance(value, list | tuple | set | frozenset):
        for index, part in enumerate(value):
            yield f"[{index}]", part
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        for name, part in vars(value).items():
            yield f".{name.lstrip('_')}", part
