"""Names of entities and features: what the store can keep, and how long they may be."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow_timescale.common.text import refusal

from ..errors import InvalidFrame

LONGEST = 1_000  # bytes in UTF-8; an index entry of 2,704 bytes holds an entity and a feature


def check_names(names: Iterable[str], what: str) -> None:
    r"""Raise InvalidFrame for a name that is no text, is empty, too long, or cannot be stored.

    >>> check_names(["AAPL", "A\0"], "entity_key")
    Traceback (most recent call last):
    mlflow_timescale.common.errors.InvalidFrame: entity_key holds NUL at character 1: 'A\x00'. ...
    """
    for name in names:
        if not isinstance(name, str) or not name:
            raise InvalidFrame(f"{what} is {name!r}; give a text that is not empty")
        reason = refusal(name)
        if reason is not None:
            raise InvalidFrame(f"{what} {reason}. PostgreSQL cannot keep it: remove the character")
        if len(name) > LONGEST // 4 and len(name.encode()) > LONGEST:
            raise InvalidFrame(
                f"{what} has {len(name.encode())} bytes ({name[:40]!r}...); the store takes up to "
                f"{LONGEST}"
            )
