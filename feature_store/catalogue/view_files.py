"""Feature views as JSON: files that people write, and what is printed of a view."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from mlflow_timescale.common.time import format_duration

from ..errors import DefinitionError
from .definitions import FeatureView


def read_views(path: Path) -> list[FeatureView]:
    """The feature views of a JSON file: one object, or a list of them.

    Parameters
    ----------
    path
        A file in UTF-8. Raises DefinitionError where it holds no views.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as exc:
        raise DefinitionError(f"{path} is not JSON: {exc}") from exc
    return [view_from_dict(item) for item in (content if isinstance(content, list) else [content])]


def view_from_dict(item: Any) -> FeatureView:
    """A feature view from the object of a JSON file.

    Parameters
    ----------
    item
        `name`, `features` (a list of names, or name to type), and optionally version, description,
        entity_kind, owner, max_staleness ("5d" or "1 session"), calendar and code_reference. Raises
        DefinitionError or InvalidTime.

    Examples
    --------
    >>> view_from_dict({"name": "momentum", "features": ["ret"], "max_staleness": "3d"}).name
    'momentum'
    """
    names = {field.name for field in fields(FeatureView)}
    if not isinstance(item, Mapping) or not {"name", "features"} <= set(item) <= names:
        optional = ", ".join(sorted(names - {"name", "features"}))
        keys = ", ".join(map(str, item)) if isinstance(item, Mapping) else repr(item)
        raise DefinitionError(
            f"a view is an object with name and features, optionally {optional}; got {keys}"
        )
    return FeatureView(**{**item, "max_staleness": item.get("max_staleness") or None})


def view_to_dict(view: FeatureView) -> dict[str, Any]:
    """The object that `view_from_dict` reads.

    Examples
    --------
    >>> view_to_dict(FeatureView("momentum", ["ret"]))["features"]
    {'ret': 'number'}
    """
    item = {field.name: getattr(view, field.name) for field in fields(view)}
    staleness = view.max_staleness
    return item | {
        "features": dict(view.features),
        "max_staleness": None if staleness is None else format_duration(staleness),
    }
