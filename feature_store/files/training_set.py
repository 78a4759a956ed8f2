"""A training set as Arrow columns with a description of each feature: the content of a snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from mlflow_timescale import db
from mlflow_timescale.common.frames import (
    JSON,
    Column,
    Columns,
    Frame,
    as_field,
    dump_json,
    load_json,
)
from mlflow_timescale.common.micros import MISSING
from mlflow_timescale.common.time import SessionCount, optional_duration, to_micros
from mlflow_timescale.db import Database, DatabaseURI

from ..catalogue import definitions
from ..catalogue.selection import FeatureSelection
from ..errors import InvalidTime
from ..read import watermarks
from ..read.ages import on_calendars
from ..read.cells import Cells
from ..read.point_in_time import Options, read_cells
from ..read.query import PointInTimeQuery
from ..read.spine import Spine
from .fingerprint import VERSION, Fingerprint
from .manifest import (
    Manifest,
    SnapshotFeature,
    library_versions,
)
from .storage import DataFile


@dataclass(frozen=True)
class TrainingSet:
    """The columns of a snapshot before they are written, in the order of as_of."""

    table: pa.Table
    query: PointInTimeQuery
    written_by: datetime
    features: list[SnapshotFeature]
    spine_columns: list[str]
    fingerprint_version: int = VERSION

    @cached_property
    def fingerprint(self) -> str:
        """The hash of all columns."""
        return fingerprint_of(self.table, self.fingerprint_version)

    def manifest(
        self, name: str, partition: str | None, files: list[DataFile], uri: DatabaseURI
    ) -> Manifest:
        """The manifest of the content and its files."""
        entity = self.query.entity
        plain = entity if isinstance(entity, str) else {k: list(v) for k, v in entity.items()}
        return Manifest(
            name=name,
            fingerprint=self.fingerprint,
            spine_hash=fingerprint_of(
                self.table.select(self.spine_columns), self.fingerprint_version
            ),
            written_by=self.written_by,
            created_at=datetime.now(timezone.utc),
            rows=len(self.table),
            entity=plain,
            as_of=self.query.as_of,
            spine_columns=self.spine_columns,
            features=self.features,
            max_age=optional_duration(self.query.max_age, "max_age"),
            partition=partition,
            schema=[{"name": entry.name, "type": str(entry.type)} for entry in self.table.schema],
            files=files,
            database=str(uri),
            libraries=library_versions(),
            fingerprint_version=self.fingerprint_version,
            age_limits={
                name: [rule.to_dict() for rule in rules]
                for name, rules in self.query.limits.items()
                if rules
            },
        )


def read_training_set(database: Database, frame: Any, query: PointInTimeQuery) -> TrainingSet:
    """Read the training set of a query, up to its watermark or, without one, up to now."""
    selection = query.selection
    spine = query.spine(frame, missing=query.recorded is not None)
    with database.connection() as conn:
        written_by = _settled(conn, query.written_by)
        limits = on_calendars(conn, query.limits)
        query = replace(query, written_by=written_by, recorded=limits)
        cells, _ = read_cells(conn, spine, query, Options())
        views = definitions.views(conn)
    order = np.argsort(spine.as_of, kind="stable")
    table = _spine_table(spine, query.as_of)
    names = table.column_names
    for j, feature in enumerate(selection.names):
        entry, column = _feature_column(cells, j, feature)
        table = table.append_column(entry, column)
    features = [_describe(cells, j, selection, views) for j in range(len(selection.names))]
    return TrainingSet(table.take(pa.array(order)), query, written_by, features, names)


def _settled(conn: db.Connection, written_by: datetime | None) -> datetime:
    settled = watermarks.watermark(conn)
    if written_by is None:
        return settled
    if to_micros(written_by, "written_by") > to_micros(settled):
        raise InvalidTime(
            f"written_by {written_by.isoformat()} is not settled: writes stamped before it may "
            f"still commit; the watermark is {settled.isoformat()}"
        )
    return written_by


def _spine_table(spine: Spine, as_of: str) -> pa.Table:
    fields = {name: _plain(name, column) for name, column in spine.frame.columns().items()}
    missing = spine.as_of == MISSING
    times = pa.array(spine.as_of, mask=missing, type=pa.timestamp("us", "UTC"))
    fields[as_of] = pa.field(as_of, times.type), times
    schema = pa.schema([entry for entry, _ in fields.values()])
    return pa.Table.from_arrays([array for _, array in fields.values()], schema=schema)


def _plain(name: str, column: Column) -> tuple[pa.Field, pa.Array]:
    entry, array = as_field(column, name, f"column {name!r} of the spine")
    if not pa.types.is_dictionary(array.type):
        return entry, array
    return pa.field(name, array.type.value_type), array.dictionary_decode()


def _feature_column(cells: Cells, j: int, name: str) -> tuple[pa.Field, pa.Array]:
    """A feature's column: null is no value, NaN a value that was written as undefined."""
    missing = cells.event[j] == MISSING
    if j not in cells.structures:
        return pa.field(name, pa.float64()), pa.array(cells.value[j], mask=missing)
    if cells.is_category(j):
        return pa.field(name, pa.string()), pa.array(cells.structures[j].tolist(), pa.string())
    texts = [
        None if gone else dump_json(value)
        for value, gone in zip(cells.objects(j).tolist(), missing.tolist(), strict=True)
    ]
    return pa.field(name, pa.string(), metadata=JSON), pa.array(texts, type=pa.string())


def _describe(
    cells: Cells, j: int, selection: FeatureSelection, views: list[definitions.FeatureView]
) -> SnapshotFeature:
    name, version = selection.names[j], selection.versions[j]
    has_value = cells.event[j] != MISSING
    used = [version] if cells.version is None else np.unique(cells.version[j][has_value]).tolist()
    view = next(
        (v for v in views if name in v.features and v.version == max(used, default=0)), None
    )
    structured = np.zeros(len(has_value), dtype=bool)
    if j in cells.structures:
        structured = np.array([value is not None for value in cells.structures[j]], dtype=bool)
    return SnapshotFeature(
        name=name,
        version=version,
        versions=used,
        nulls=int((~has_value).sum()),
        undefined=int((has_value & np.isnan(cells.value[j]) & ~structured).sum()),
        json=j in cells.structures and not cells.is_category(j),
        definition=None if view is None else _definition(view, name),
    )


def _definition(view: definitions.FeatureView, feature: str) -> dict[str, Any]:
    stale = view.max_staleness
    return {
        "view": view.name,
        "version": view.version,
        "type": view.features[feature],
        "description": view.description,
        "entity_kind": view.entity_kind,
        "owner": view.owner,
        "max_staleness": stale.total_seconds() if isinstance(stale, timedelta) else _text(stale),
        "calendar": view.calendar,
        "code_reference": view.code_reference,
    }


def _text(count: SessionCount | None) -> str | None:
    return None if count is None else str(count)


def fingerprint_of(table: pa.Table, version: int = VERSION) -> str:
    fingerprint = Fingerprint(version)
    for part in logical_columns(table):
        fingerprint.add(part)
    return fingerprint.hexdigest()


def logical_columns(table: pa.Table) -> Iterator[Columns]:
    """The columns of a table, with structures for their JSON text."""
    yield Frame(table).columns()


def json_objects(column: pa.ChunkedArray) -> Any:
    values: Any = np.empty(len(column), dtype=object)
    values[:] = [None if text is None else load_json(text) for text in column.to_pylist()]
    return values
