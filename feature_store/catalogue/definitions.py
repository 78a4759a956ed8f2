"""Feature views: definitions of groups of features, with types, owner and freshness limit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from mlflow_timescale import db
from mlflow_timescale.common.calendars import canonical_name
from mlflow_timescale.common.errors import InvalidInput
from mlflow_timescale.common.text import check_text
from mlflow_timescale.common.time import Duration, InvalidTime, SessionCount, optional_duration
from mlflow_timescale.db.rows import mappings

from ..errors import DefinitionError
from ..values.encoding import Floats, is_there
from ..values.names import check_names, check_version
from ..values.points import Points
from . import categories

_queries = db.load("features")
TYPES = ("number", "integer", "boolean", "category", "vector", "json")


@dataclass(frozen=True)
class FeatureView:
    """A versioned group of features, with types, an owner and a freshness limit.

    Definitions are optional. Once a feature has one, every write is checked against it. The version
    of a view is the `feature_version` of the values that are written for it.

    Attributes
    ----------
    name
        Unique among the views of a database.
    features
        Type by feature name: "number", "integer", "boolean", "category" (a text of at most 256
        characters), "vector" (a list of numbers) or "json". A list of names, or one name, means
        numbers.
    version
        From 1. A change to a registered view needs the next version.
    description, owner, code_reference
        Free text, shown by `mlflow-timescale features`.
    entity_kind
        What the entities are, such as "stock".
    calendar
        The trading calendar that ages the values, such as "XNYS"; None: all time ages them.
    max_staleness
        The age above which a value is stale: a read of the view leaves it out, and
        `FeatureStore.health` reports it. A timedelta, or a text such as "3d" or, with a calendar,
        "1 session"; None for no limit.

    Raises
    ------
    DefinitionError
        A type is unknown, or the view has no name, no feature, or a version below 1.
    InvalidTime
        `max_staleness` is no duration, or counts sessions and there is no calendar.
    UnknownCalendar
        There is no such calendar.

    Examples
    --------
    >>> FeatureView("momentum", ["ret_5d", "rsi_14"], owner="alpha team").features
    {'ret_5d': 'number', 'rsi_14': 'number'}
    """

    name: str
    features: Mapping[str, str]
    version: int = 1
    description: str = ""
    entity_kind: str = ""
    owner: str = ""
    max_staleness: Duration | None = None
    code_reference: str = ""
    calendar: str | None = None

    def __post_init__(self) -> None:
        features = self.features
        if not isinstance(features, Mapping):
            features = dict.fromkeys(_names(features), "number")
        limit = optional_duration(self.max_staleness, "max_staleness")
        object.__setattr__(self, "features", dict(features))
        object.__setattr__(self, "max_staleness", limit)
        self._check_calendar(limit)
        for name, kind in features.items():
            if kind not in TYPES or not name:
                raise DefinitionError(
                    f"feature {name!r} of view {self.name!r} has type {kind!r}; "
                    f"the types are {', '.join(TYPES)}"
                )
        if not features or not self.name:
            raise DefinitionError("a view needs a name and a feature")
        self._check_texts()

    def _check_texts(self) -> None:
        values = [(field.name, getattr(self, field.name)) for field in fields(self)]
        try:
            object.__setattr__(self, "version", check_version(self.version))
            check_names([self.name], "the name of a view")
            check_names(self.features, "the name of a feature")
            check_text({name: v for name, v in values if isinstance(v, str)}, "view")
        except InvalidInput as exc:
            raise DefinitionError(str(exc)) from exc

    def _check_calendar(self, limit: Duration | None) -> None:
        if self.calendar is not None:
            object.__setattr__(self, "calendar", canonical_name(self.calendar))
        elif isinstance(limit, SessionCount):
            raise InvalidTime(
                f"max_staleness of view {self.name!r} is {limit}; give a calendar such as 'XNYS'"
            )

    def __hash__(self) -> int:
        return hash((self.name, self.version))


def _names(features: Any) -> list[str]:
    """The names of features that are given without types."""
    is_one = isinstance(features, str) or not isinstance(features, Iterable)
    names = [features] if is_one else list(features)
    if not all(isinstance(name, str) for name in names):
        raise DefinitionError(f"features is {features!r}; give names, or a mapping of name to type")
    return names


def register(conn: db.Connection, view: FeatureView) -> bool:
    """Register a view; False if it is there already, word for word.

    Raises DefinitionError if it is there with another content, or a feature belongs to another
    view.
    """
    with conn.transaction():
        conn.execute(_queries.lock_definitions)
        stored = {(old.name, old.version): old for old in views(conn)}
        same = stored.get((view.name, view.version))
        if same is not None:
            _refuse_changes(same, view)
            return False
        _refuse_other_owners(stored.values(), view)
        values = {field.name: getattr(view, field.name) for field in fields(view)}
        limit = view.max_staleness
        counts = {"max_staleness": None, "max_sessions": limit.count} if isinstance(
            limit, SessionCount) else {"max_sessions": None}  # fmt: skip
        conn.execute(_queries.insert_view, values | {"features": None} | counts)
        conn.execute(
            _queries.insert_definitions,
            {
                "name": view.name,
                "version": view.version,
                "features": list(view.features),
                "types": list(view.features.values()),
            },
        )
    return True


def views(conn: db.Connection) -> list[FeatureView]:
    """All views, by name and version."""
    rows = mappings(conn, _queries.views)
    return [FeatureView(**_with_sessions(row)) for row in rows]


def check(
    conn: db.Connection,
    points: Points,
    version: int,
    view: FeatureView | None,
    stored: dict[str, str] | None = None,
) -> None:
    """Raise DefinitionError where points contradict the definitions that there are.

    InvalidValue is raised where a feature without a definition would mix texts with numbers.
    `stored` keeps what the earlier batches of the same write brought.
    """
    stored = {} if stored is None else stored
    unknown = [name for name in points.features if name not in stored]
    values = {"features": points.features, "version": version, "unknown": unknown}
    rows = conn.execute(_queries.definitions_of, values).fetchall()
    kinds: dict[str, dict[int, str]] = {}
    for name, defined, kind in rows:
        if defined is None:
            stored[name] = kind
        else:
            kinds.setdefault(name, {})[defined] = kind
    categories.check(points, stored, kinds)
    if view is not None:
        _refuse_strangers(points.features, view)
    for code, name in enumerate(points.features):
        if name in kinds:
            if version not in kinds[name]:
                raise DefinitionError(
                    f"feature {name!r} is defined in version {sorted(kinds[name])}, not {version}; "
                    f"register version {version} of its view first"
                )
            _check_type(points, code, kinds[name][version])


def calendars(conn: db.Connection) -> dict[str, str]:
    """The calendar of each feature whose view has one; that of the newest version counts."""
    return {
        name: view.calendar
        for view in views(conn)
        if view.calendar is not None
        for name in view.features
    }


def _with_sessions(row: dict[str, Any]) -> dict[str, Any]:
    sessions = row.pop("max_sessions")
    return row if sessions is None else row | {"max_staleness": SessionCount(sessions)}


def find_or_register(conn: db.Connection, view: FeatureView | str) -> FeatureView:
    """The view of a write: a name in its newest version, or a view, which is registered if new."""
    if isinstance(view, str):
        return find(conn, view)
    require_view(view)
    register(conn, view)
    return view


def require_view(view: object) -> None:
    """Raise DefinitionError for what is neither a view, nor the name of one, nor None."""
    if view is not None and not isinstance(view, (str, FeatureView)):
        raise DefinitionError(
            f"view is {view!r}; give a FeatureView, or the name of a registered one"
        )


def category_names(view: FeatureView) -> set[str]:
    """The features of a view that hold texts; a CSV file gives them as they are written."""
    return {name for name, kind in view.features.items() if kind == "category"}


def find(conn: db.Connection, name: str, version: int | None = None) -> FeatureView:
    """A registered view, in its newest version if none is given. Raises DefinitionError."""
    registered = views(conn)
    matches = [view for view in registered if view.name == name and version in (None, view.version)]
    if not matches:
        names = sorted({f"{view.name} v{view.version}" for view in registered})
        label = name if version is None else f"{name} v{version}"
        raise DefinitionError(f"no view {label!r} is registered; there are {names}")
    return matches[-1]


def _refuse_changes(old: FeatureView, new: FeatureView) -> None:
    names = [field.name for field in fields(new)]
    changed = [name for name in names if getattr(old, name) != getattr(new, name)]
    if changed:
        raise DefinitionError(
            f"view {new.name!r} version {new.version} is registered with another "
            f"{', '.join(changed)}; register the change as version {new.version + 1}"
        )


def _refuse_other_owners(stored: Any, view: FeatureView) -> None:
    for old in stored:
        shared = sorted(set(old.features) & set(view.features))
        if shared and (old.name != view.name):
            raise DefinitionError(
                f"feature(s) {', '.join(shared)} belong to view {old.name!r} already"
            )


def _refuse_strangers(features: list[str], view: FeatureView) -> None:
    strangers = [name for name in features if name not in view.features]
    if strangers:
        raise DefinitionError(
            f"view {view.name!r} v{view.version} has no feature {', '.join(strangers)}; "
            f"it has {', '.join(view.features)}"
        )


def _check_type(points: Points, code: int, kind: str) -> None:
    of_feature = points.feature == code
    texts = np.full(of_feature.sum(), None) if points.json is None else points.json[of_feature]
    wrong = _wrong_values(points.value[of_feature], texts, kind)
    if wrong.any():
        at = np.flatnonzero(of_feature)[int(wrong.argmax())]
        text = None if points.json is None else points.json[at]
        raise DefinitionError(
            f"feature {points.features[code]!r} is defined as {kind}, got "
            f"{float(points.value[at]) if text is None else text!r} for "
            f"{points.entities[points.entity[at]]} ({int(wrong.sum())} such value(s))"
        )


def _wrong_values(
    numbers: Floats, texts: npt.NDArray[np.object_], kind: str
) -> npt.NDArray[np.bool_]:
    first = {"vector": "[", "json": "[{", "category": '"'}.get(kind)
    if first is None:
        return is_there(texts) | _wrong_numbers(numbers, kind)
    of_kind = np.array([text is not None and text[0] in first for text in texts], dtype=bool)
    undefined = np.isnan(numbers) & ~is_there(texts)
    return ~of_kind & ~undefined if kind == "category" else ~of_kind


def _wrong_numbers(numbers: Floats, kind: str) -> npt.NDArray[np.bool_]:
    wrong = ~np.isnan(numbers)
    if kind == "integer":
        wrong &= numbers != np.floor(numbers)
    elif kind == "boolean":
        wrong &= (numbers != 0) & (numbers != 1)
    else:
        wrong[:] = False
    return wrong
