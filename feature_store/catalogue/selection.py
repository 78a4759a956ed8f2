"""Which series are meant by entities, features and versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlflow_timescale import db
from mlflow_timescale.common.text import check_text

from ..errors import UnknownFeature, unknown_feature
from ..values.names import check_version
from .definitions import FeatureView

_queries = db.load("features")
ANY_VERSION = 0
Versions = int | str | Mapping[str, int | str] | None
Features = str | FeatureView | Sequence[str | FeatureView]


class FeatureSelection(NamedTuple):
    """Features in the caller's order, and the version of each (0: the newest known at as_of)."""

    names: list[str]
    versions: list[int]


class SeriesTable(NamedTuple):
    """The series that exist, by position of entity and feature, lower versions first."""

    entity: npt.NDArray[np.int32]
    feature: npt.NDArray[np.int32]
    version: npt.NDArray[np.int32]
    series: npt.NDArray[np.int32]


def select(features: Features, versions: Versions) -> FeatureSelection:
    """Read what the caller wants; a view stands for its features in its version.

    >>> select(["rsi_14", "ret_5d"], {"ret_5d": 2})
    FeatureSelection(names=['rsi_14', 'ret_5d'], versions=[0, 2])
    """
    parts = [features] if isinstance(features, (str, FeatureView)) else list(features or ())
    chosen: dict[str, int] = {}
    for part in parts:
        if isinstance(part, FeatureView):
            chosen.update(dict.fromkeys(part.features, part.version))
        elif isinstance(part, str):
            chosen[part] = version_of(part, versions)
        else:
            raise UnknownFeature(f"{part!r} is neither a feature name nor a FeatureView")
    if not chosen:
        raise UnknownFeature("name at least one feature")
    check_text(list(chosen), "features")
    return FeatureSelection(list(chosen), list(chosen.values()))


def version_of(feature: str, versions: Versions) -> int:
    """The version of one feature; 0 for "newest", which is also the default."""
    version = versions.get(feature) if isinstance(versions, Mapping) else versions
    if version is None or version == "newest":
        return ANY_VERSION
    return check_version(version)


def series_table(
    conn: db.Connection, entities: list[str], selection: FeatureSelection
) -> SeriesTable:
    """The series of these entities. Raises UnknownFeature for features that were never written."""
    parameters = {
        "entities": entities,
        "features": selection.names,
        "versions": selection.versions,
    }
    with conn.cursor(binary=True) as cursor:
        row: Any = cursor.execute(_queries.series_of, parameters).fetchone()
    columns = [np.empty(0, dtype=np.int32) if column is None else column for column in row]
    table = SeriesTable(columns[0] - 1, columns[1] - 1, columns[2], columns[3])
    without = set(range(len(selection.names))) - set(table.feature.tolist())
    if without:
        check_known(conn, selection, sorted(without))
    order = np.lexsort((table.entity, table.feature, table.version))
    return SeriesTable(*(column[order] for column in table))


def check_known(conn: db.Connection, selection: FeatureSelection, positions: Sequence[int]) -> None:
    """Raise UnknownFeature where a feature, or its version, exists for no entity at all."""
    versions: dict[str, list[int]] = {}
    for name, version in conn.execute(_queries.feature_names):
        versions.setdefault(name, []).append(version)
    missing = [selection.names[i] for i in positions if selection.names[i] not in versions]
    if missing:
        raise unknown_feature(missing, versions)
    for i in positions:
        name, version = selection.names[i], selection.versions[i]
        if version != ANY_VERSION and version not in versions[name]:
            raise UnknownFeature(
                f"feature {name!r} has no version {version}; it has {versions[name]}"
            )


def entities_of(conn: db.Connection, names: list[str]) -> list[str]:
    """The entities that have any of these features."""
    rows = conn.execute(_queries.entities_of_features, {"features": names})
    return [entity for (entity,) in rows]


def feature_names_of(conn: db.Connection, entities: list[str]) -> list[str]:
    """The names of all features that any of these entities has."""
    rows = conn.execute(_queries.features_of_entities, {"entities": entities})
    return [name for (name,) in rows]
