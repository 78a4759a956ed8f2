"""Which features hold categories, numbers or structures, and which categories there are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import psycopg

from mlflow_timescale import db

from ..errors import InvalidValue
from ..values.categories import is_label, looks_like_a_number
from ..values.encoding import is_there
from ..values.points import Points

_queries = db.load("features")
MOST_CATEGORIES = 1000
NUMBER, CATEGORY, STRUCTURE = "number", "category", "structure"


class _Mix(NamedTuple):
    """Which values of one feature of a batch are numbers (NaN is none), texts or structures."""

    rows: npt.NDArray[np.intp]
    masks: dict[str, npt.NDArray[np.bool_]]

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, mask in self.masks.items() if mask.any()]


def check(points: Points, kinds: dict[str, str], defined: Mapping[str, object]) -> None:
    """Raise InvalidValue where a feature without a definition mixes texts with other values.

    Parameters
    ----------
    kinds
        What is stored of each feature: "number", "category" or "structure". What the batch brings
        is added, so that the next batch of the same write is checked against it.
    defined
        The features that have a definition, which is checked elsewhere.
    """
    for code, name in enumerate(points.features):
        if name not in defined and _may_mix(points, kinds.get(name)):
            mix = _mix(points, code)
            _check_feature(points, name, mix, kinds.get(name))
            if mix.kinds:
                kinds.setdefault(name, mix.kinds[0])
        elif name not in defined:
            kinds.setdefault(name, NUMBER)


def register(conn: db.Connection, points: Points, version: int) -> None:
    """Record the texts of a batch, in the transaction of its write.

    Raises InvalidValue where a feature has more than 1,000 distinct texts, db.MigrationError where
    the database has no table of categories yet.
    """
    for name, texts in sorted(categories(points).items()):
        values = {"feature": name, "version": version, "categories": texts}
        try:
            with conn.transaction():
                conn.execute(_queries.add_categories, values)
                count: Any = conn.execute(_queries.count_categories, values).fetchone()
        except psycopg.errors.UndefinedTable as exc:
            raise db.MigrationError(
                f"feature {name!r} holds text, and this database has no table of categories yet: "
                f"its administrator runs `mlflow-timescale migrate` once"
            ) from exc
        if count[0] > MOST_CATEGORIES:
            raise InvalidValue(
                f"feature {name!r} would have {count[0]} distinct texts, such as {texts[0]!r}; "
                f"the limit is {MOST_CATEGORIES}. A name or an id is an entity, not a category"
            )


def categories(points: Points) -> dict[str, list[str]]:
    """The distinct texts of each feature of a batch that has any."""
    if points.json is None:
        return {}
    is_text = is_label(points.json)
    distinct: dict[str, list[str]] = {}
    for code in np.unique(points.feature[is_text]).tolist():
        texts = set(points.json[is_text & (points.feature == code)].tolist())
        distinct[points.features[code]] = sorted(json.loads(text) for text in texts)
    return distinct


def _may_mix(points: Points, stored: str | None) -> bool:
    return points.json is not None or stored == CATEGORY


def _mix(points: Points, code: int) -> _Mix:
    rows = np.flatnonzero(points.feature == code)
    texts = np.full(len(rows), None) if points.json is None else points.json[rows]
    is_json, is_text = is_there(texts), is_label(texts)
    is_number = ~is_json & ~np.isnan(points.value[rows])
    return _Mix(rows, {CATEGORY: is_text, NUMBER: is_number, STRUCTURE: is_json & ~is_text})


def _check_feature(points: Points, name: str, mix: _Mix, stored: str | None) -> None:
    if stored is None and mix.masks[CATEGORY].any():
        _refuse_numbers_as_text(points, name, mix)
    stored = stored or next(iter(mix.kinds), NUMBER)
    refused = {CATEGORY: (NUMBER, STRUCTURE), NUMBER: (CATEGORY,), STRUCTURE: (CATEGORY,)}
    for kind in refused[stored]:
        if mix.masks[kind].any():
            raise _refusal(points, name, mix, kind, stored)


def _refusal(points: Points, name: str, mix: _Mix, kind: str, stored: str) -> InvalidValue:
    row = int(mix.rows[int(mix.masks[kind].argmax())])
    text = None if points.json is None else points.json[row]
    value = points.value[row] if text is None else text
    held = {CATEGORY: "texts", NUMBER: "numbers", STRUCTURE: "structures"}[stored]
    return InvalidValue(
        f"feature {name!r} holds {held}, got {value} for {points.entities[points.entity[row]]} "
        f"({int(mix.masks[kind].sum())} such value(s)); write {kind} values under another feature "
        f"name or version"
    )


def _refuse_numbers_as_text(points: Points, name: str, mix: _Mix) -> None:
    """A column of numbers with a typo is read as text: it must not become a category."""
    texts = categories(points)[name]
    numbers = [text for text in texts if looks_like_a_number(text)]
    if numbers:
        others = [text for text in texts if text not in numbers]
        reason = f" and {others[0]!r}" if others else ""
        raise InvalidValue(
            f"feature {name!r} is new and holds text that looks like numbers: {numbers[0]!r}"
            f"{reason}. Write numbers, or define the feature as 'category' in a FeatureView"
        )
