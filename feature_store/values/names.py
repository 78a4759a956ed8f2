"""Names of entities and features: what the store can keep, and how long they may be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlflow_timescale.common.text import check_text, refusal

from ..errors import FeatureError, InvalidName

LAST_VERSION = 2**31 - 1  # an integer of PostgreSQL
LONGEST = 1_000  # bytes in UTF-8; an index entry of 2,704 bytes holds an entity and a feature


def check_names(names: Iterable[str], what: str) -> None:
    r"""Raise InvalidName for a name that is no text, is empty, too long, or cannot be stored.

    >>> check_names(["AAPL", "A\0"], "entity_key")
    Traceback (most recent call last):
    feature_store.errors.InvalidName: entity_key holds NUL at character 1: 'A\x00'. ...
    """
    for name in names:
        if not isinstance(name, str) or not name:
            raise InvalidName(f"{what} is {name!r}; give a text that is not empty")
        reason = refusal(name)
        if reason is not None:
            raise InvalidName(f"{what} {reason}. PostgreSQL cannot keep it: remove the character")
        if len(name) > LONGEST // 4 and len(name.encode()) > LONGEST:
            raise InvalidName(
                f"{what} has {len(name.encode())} bytes ({name[:40]!r}...); the store takes up to "
                f"{LONGEST}"
            )


def entity_keys(given: Any) -> list[str]:
    """One entity, or a list of them, as a list; raises InvalidName for what is no text.

    >>> entity_keys("AAPL"), entity_keys(("AAPL", "MSFT"))
    (['AAPL'], ['AAPL', 'MSFT'])
    """
    is_one = isinstance(given, str) or not isinstance(given, Iterable)
    names = [given] if is_one else list(given)
    for name in names:
        if not isinstance(name, str):
            raise InvalidName(f"entity_key is {name!r}; entities are texts")
    check_text(names, "entity_key")
    return names


def check_version(version: Any) -> int:
    """The version as an int; raises FeatureError unless it is a whole number from 1 to 2**31 - 1.

    >>> check_version(2)
    2
    """
    is_whole = hasattr(version, "__index__") and not isinstance(version, bool)
    if not is_whole or not 1 <= int(version) <= LAST_VERSION:
        raise FeatureError(
            f"feature_version {version!r} is not a version: give a number from 1, 'newest', "
            f"or a mapping of feature to version"
        )
    return int(version)


def check_columns(names: list[str], taken: list[str]) -> None:
    """Raise InvalidName where two columns of a result would have one name."""
    both = sorted(set(names) & set(taken))
    if both:
        raise InvalidName(f"the frame has columns named {', '.join(both)} already; rename them")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidName(
            f"the result would have two columns {', '.join(map(repr, twice))}: a feature is named "
            f"as the event times of another; leave event_times out, or read them separately"
        )
