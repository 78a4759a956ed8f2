"""What changed: revisions of a value, what became known in between, what would have leaked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg.rows import dict_row

from mlflow_timescale import db
from mlflow_timescale.common.time import from_micros, to_micros

from ..catalogue.selection import FeatureSelection, check_known, select
from ..errors import InvalidTime
from .frontier import search, search_by_event, strict_frontier
from .lookups import SeriesLookup
from .plans import StoredSeries, stream_series
from .point_in_time import lookups_of
from .query import PointInTimeQuery
from .spine import Spine

_queries = db.load("features")
Columns = dict[str, list[Any]]


def history(conn: db.Connection, entity: str, feature: str, version: int | None) -> Columns:
    """All values of one feature of one entity, oldest event first.

    `revision` counts from 1 within an event_time; `previous_value` is what it replaced.
    """
    parameters = {"entity": entity, "feature": feature, "version": version}
    columns = _columns(conn, _queries.history, parameters)
    if not columns["event_time"]:
        check_known(conn, select([feature], version), [0])
    return columns


def diff(
    conn: db.Connection,
    earlier: datetime,
    later: datetime,
    entities: Sequence[str] | None,
    features: Sequence[str] | None,
) -> Columns:
    """What was known at `later` and not yet at `earlier`: new values, and revisions of older ones.

    `change` is "new" or "revised"; `previous_value` is what was known of that event_time before.
    """
    if to_micros(earlier, "as_of_1") > to_micros(later, "as_of_2"):
        raise InvalidTime("as_of_1 is later than as_of_2")
    parameters = {
        "earlier": earlier,
        "later": later,
        "entities": None if entities is None else list(entities),
        "features": None if features is None else list(features),
    }
    return _columns(conn, _queries.diff, parameters)


def leak_report(
    conn: db.Connection, spine: Spine, query: PointInTimeQuery
) -> dict[str, npt.NDArray[Any] | list[str]]:
    """By feature: in what share of the cells would a join on event_time alone look ahead?

    Columns: feature_name, cells (with a value by such a join), leaked (filled with a value that
    was not known yet), leak_share, changed (of these, cells where the answer differs),
    assumed_share (of the cells with a point-in-time value, those whose ingest time is an
    assumption).
    """
    selection = query.selection
    counts = np.zeros((4, len(selection.names)), dtype=np.int64)
    lookups = _newest_versions(lookups_of(conn, spine, selection))
    assumed = np.array([row[0] for row in conn.execute(_queries.assumed_writes)], dtype=np.int64)
    if lookups:
        window = {
            "first": "-infinity",
            "last": from_micros(max(lookup.as_of[-1] for lookup in lookups)),
            "last_ingest": "infinity",
            "written_by": None,
        }
        ids = np.array([lookup.series for lookup in lookups], dtype=np.int32)
        for position, series in stream_series(conn, ids, window, writes=bool(len(assumed))):
            lookup = lookups[position]
            counts[:, lookup.feature] += _leaks(lookup, series, assumed)
    return _report(selection, len(spine), counts)


def inventory(conn: db.Connection) -> Columns:
    """Every feature and version that has points."""
    return _columns(conn, _queries.list_features, {})


def lineage(conn: db.Connection, feature: str, version: int | None) -> Columns:
    """The writers of a feature, by producer, code version, run and assumption."""
    columns = _columns(conn, _queries.lineage, {"feature": feature, "version": version})
    if not columns["points"]:
        check_known(conn, select([feature], version), [0])
    return columns


def _newest_versions(lookups: list[SeriesLookup]) -> list[SeriesLookup]:
    """Of several versions of a cell's series, which come lowest first, the last."""
    return list(
        {
            (lookup.feature, lookup.rows[0]): lookup for lookup in lookups if len(lookup.rows)
        }.values()
    )


def _leaks(lookup: SeriesLookup, series: StoredSeries, assumed: npt.NDArray[np.int64]) -> list[int]:
    """Counts of cells, leaked, changed, and assumed, of one series."""
    naive = search_by_event(series.event, lookup.as_of)
    right = search(strict_frontier(series.event, series.ingest), lookup.as_of)
    has_value = naive >= 0
    leaked = has_value & (series.ingest[naive] > lookup.as_of)
    same = naive == right
    if not series.has_json:
        same = (right >= 0) & _equal(series.value[naive], series.value[right])
    hits = right[right >= 0]
    assumed_cells = 0 if series.write is None else np.isin(series.write[hits], assumed).sum()
    return [
        int(has_value.sum()),
        int(leaked.sum()),
        int((leaked & ~same).sum()),
        int(assumed_cells),
    ]


def _equal(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    equal: npt.NDArray[np.bool_] = (left == right) | (np.isnan(left) & np.isnan(right))
    return equal


def _report(
    selection: FeatureSelection, rows: int, counts: npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[Any] | list[str]]:
    cells, leaked, changed, assumed = counts
    return {
        "feature_name": selection.names,
        "rows": np.full(len(selection.names), rows),
        "cells": cells,
        "leaked": leaked,
        "leak_share": leaked / np.maximum(cells, 1),
        "changed": changed,
        "assumed": assumed,
        "assumed_share": assumed / np.maximum(cells, 1),
    }


def _columns(conn: db.Connection, query: Any, parameters: dict[str, Any]) -> Columns:
    """The answer by column; a value that is a structure stands where a number would."""
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query, parameters).fetchall()
        names = [column.name for column in cursor.description or ()]
    columns = {name: [row[name] for row in rows] for name in names}
    for name in [name for name in names if f"{name}_json" in names]:
        structures = columns.pop(f"{name}_json")
        pairs = zip(columns[name], structures, strict=True)
        columns[name] = [number if structure is None else structure for number, structure in pairs]
    return columns
