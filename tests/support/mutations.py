"""Copies of an argument in which one text holds another character."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from enum import Enum
from typing import Any


def with_character(value: Any, character: str) -> Iterator[Any]:
    """A copy for each text in a value: in containers, in keys, in attributes of entities."""
    if isinstance(value, str) and not isinstance(value, Enum):
        yield value + character
    elif isinstance(value, dict):
        for key, part in value.items():
            yield {(key + character if other == key else other): value[other] for other in value}
            yield from ({**value, key: changed} for changed in with_character(part, character))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            for changed in with_character(part, character):
                yield [*value[:index], changed, *value[index + 1 :]]
    elif hasattr(value, "__dict__") and not isinstance(value, Enum):
        for name, part in vars(value).items():
            for changed in with_character(part, character):
                entity = copy.copy(value)
                vars(entity)[name] = changed
                yield entity
