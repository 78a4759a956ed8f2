"""The origin of every cell of a training set, and the reason of every missing value."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mlflow_timescale import db
from mlflow_timescale.common.micros import MISSING
from mlflow_timescale.common.time import from_micros
from mlflow_timescale.db.arrays import Int4Array

from ..catalogue.selection import FeatureSelection, series_table
from ..values.encoding import is_there
from . import membership
from .cells import Cells
from .point_in_time import SILENT, FeatureValue, part_of, read_cells
from .query import PointInTimeQuery
from .spine import Group, Spine

_queries = db.load("features")
NEVER_WRITTEN = "never written"
NOT_YET_KNOWN = "not yet known"
EXPIRED = "expired"
OUTSIDE = "outside of the universe"
UNDEFINED = "written as undefined"
_WITH_DETAILS = SILENT._replace(details=True)
_PROVENANCE = ("producer", "producer_version", "run_id", "assumed_lag")


def explain(conn: db.Connection, spine: Spine, query: PointInTimeQuery) -> dict[str, Any]:
    """One row for each cell, by row of the spine and feature, as columns.

    Columns: row, entity_key, as_of, feature_name, feature_version, value, event_time, ingest_time,
    producer, producer_version, run_id, assumed_lag, reason.
    """
    selection = query.selection
    cells, expired = read_cells(conn, spine, query, _WITH_DETAILS)
    why = _reasons(conn, spine, selection, cells, expired)
    if query.universe is not None:
        why[membership.outside(conn, spine, query.universe, len(selection.names))] = OUTSIDE
    count = len(selection.names)
    return {
        "row": np.repeat(np.arange(len(spine)), count),
        "entity_key": _entity_of_cells(spine, count),
        "as_of": np.repeat(spine.as_of, count).view("M8[us]"),
        "feature_name": np.tile(np.array(selection.names, dtype=object), len(spine)),
        "feature_version": _by_row(cells.version),
        "value": _by_row(np.array([cells.objects(j) for j in range(count)])),
        "event_time": _by_row(cells.event).view("M8[us]"),
        "ingest_time": _by_row(cells.ingest).view("M8[us]"),
        **_provenance(conn, cells),
        "reason": _by_row(why),
    }


def values(conn: db.Connection, spine: Spine, query: PointInTimeQuery) -> list[FeatureValue]:
    """The values that exist, by row of the spine and feature."""
    selection = query.selection
    cells, _ = read_cells(conn, spine, query, _WITH_DETAILS)
    assert cells.ingest is not None  # nosec B101  # for mypy
    assert cells.write is not None  # nosec B101  # for mypy
    assert cells.version is not None  # nosec B101  # for mypy
    writes = writes_of(conn, cells.write)
    group = spine.groups[0]
    columns = [cells.objects(j) for j in range(len(selection.names))]
    return [
        FeatureValue(
            group.entities[group.entity[row]],
            name,
            int(cells.version[j, row]),
            from_micros(cells.event[j, row]),
            _python(columns[j][row]),
            from_micros(spine.as_of[row]),
            from_micros(cells.ingest[j, row]),
            *writes[int(cells.write[j, row])],
        )
        for row in range(len(spine))
        for j, name in enumerate(selection.names)
        if cells.event[j, row] != MISSING
    ]


def writes_of(conn: db.Connection, ids: npt.NDArray[np.int64]) -> dict[int, tuple[Any, ...]]:
    """Producer, its version, run and assumed lag of each write."""
    unique = np.unique(ids)
    rows = conn.execute(_queries.writes, {"writes": unique[unique > 0].tolist()})
    return {row[0]: tuple(row[2:]) for row in rows}


def _provenance(conn: db.Connection, cells: Cells) -> dict[str, npt.NDArray[Any]]:
    assert cells.write is not None  # nosec B101  # for mypy
    writes = writes_of(conn, cells.write)
    has_value = _by_row(cells.event) != MISSING
    ids = _by_row(cells.write)
    columns = {}
    for i, name in enumerate(_PROVENANCE):
        column = np.full(len(ids), None, dtype=object)
        column[has_value] = [writes[int(write)][i] for write in ids[has_value]]
        columns[name] = column
    return columns


def _reasons(
    conn: db.Connection, spine: Spine, selection: FeatureSelection, cells: Cells, expired: Any
) -> npt.NDArray[np.object_]:
    missing = cells.event == MISSING
    reasons: npt.NDArray[np.object_] = np.full(missing.shape, None, dtype=object)
    reasons[missing] = NEVER_WRITTEN
    for group in spine.groups:
        stored = _has_points(conn, group, selection)
        for j, position in enumerate(group.features):
            reasons[position][missing[position] & stored[group.entity, j]] = NOT_YET_KNOWN
    if expired is not None:
        reasons[expired] = EXPIRED
    for j in range(len(selection.names)):
        undefined = ~missing[j] & np.isnan(cells.value[j])
        if j in cells.structures:
            undefined &= ~is_there(cells.structures[j])
        reasons[j][undefined] = UNDEFINED
    return reasons


def _has_points(
    conn: db.Connection, group: Group, selection: FeatureSelection
) -> npt.NDArray[np.bool_]:
    """Whether any value is stored, by entity and feature of the group."""
    table = series_table(conn, group.entities, part_of(selection, group))
    lookups = {"series": Int4Array(table.series)}
    row: Any = conn.execute(_queries.series_with_points, lookups, binary=True).fetchone()
    written = np.isin(table.series, [] if row[0] is None else row[0])
    stored = np.zeros((len(group.entities), len(group.features)), dtype=bool)
    stored[table.entity[written], table.feature[written]] = True
    return stored


def _entity_of_cells(spine: Spine, count: int) -> npt.NDArray[np.object_]:
    entities: npt.NDArray[np.object_] = np.full((len(spine), count), None, dtype=object)
    for group in spine.groups:
        names = np.array(group.entities, dtype=object)[group.entity]
        entities[:, group.features] = names[:, None]
    return entities.ravel()


def _by_row(cells: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    assert cells is not None  # nosec B101  # for mypy
    return np.ascontiguousarray(cells.T).ravel()


def _python(value: Any) -> Any:
    return float(value) if isinstance(value, np.floating) else value
