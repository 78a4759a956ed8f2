"""What a diff amounts to: by feature and kind of change, how many values, and how large."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InvalidValue

CHANGES = ("new", "revised")
Columns = Mapping[str, Sequence[Any]]


def check_change(change: str | None) -> str | None:
    """A kind of change, or None for all. Raises InvalidValue for any other word."""
    if change is not None and change not in CHANGES:
        raise InvalidValue(f"change {change!r} is none of {', '.join(CHANGES)}")
    return change


def only(columns: Columns, change: str | None) -> dict[str, list[Any]]:
    """The rows of one kind of change."""
    kept = [i for i, kind in enumerate(columns["change"]) if change in (None, kind)]
    return {name: [column[i] for i in kept] for name, column in columns.items()}


def summary(columns: Columns) -> dict[str, list[Any]]:
    """One row for each feature, version and kind of change.

    Columns: feature_name, feature_version, change, values, entities, and of revised numbers
    mean_size and largest_size (of value - previous_value, absolute), and largest_entity.
    """
    groups: dict[tuple[str, int, str], list[int]] = {}
    keys = zip(*(columns[name] for name in _KEY), strict=True)
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    rows = [(*key, *_amounts(columns, groups[key])) for key in sorted(groups)]
    return {name: [row[i] for row in rows] for i, name in enumerate((*_KEY, *_AMOUNTS))}


_KEY = ("feature_name", "feature_version", "change")
_AMOUNTS = ("values", "entities", "mean_size", "largest_size", "largest_entity")


def _amounts(columns: Columns, rows: list[int]) -> tuple[Any, ...]:
    sizes = {row: size for row in rows if (size := _size(columns, row)) is not None}
    entities = len({columns["entity_key"][row] for row in rows})
    if not sizes:
        return len(rows), entities, None, None, None
    largest = max(sizes, key=lambda row: sizes[row])
    mean = math.fsum(sizes.values()) / len(sizes)
    return len(rows), entities, mean, sizes[largest], columns["entity_key"][largest]


def _size(columns: Columns, row: int) -> float | None:
    """By how much a number was revised; None for other values, for NaN, and for new ones."""
    value, previous = columns["value"][row], columns["previous_value"][row]
    if not isinstance(value, (int, float)) or not isinstance(previous, (int, float)):
        return None
    size = abs(value - previous)
    return None if math.isnan(size) else size
