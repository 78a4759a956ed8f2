"""Snapshots: a training set as immutable Parquet files that prove what they are.

    <path>/manifest.json                                what it is, and the hash of every file
    <path>/data/as_of_month=2024-01/<id>-0.parquet      rows by as_of, partitioned by time

The manifest comes last, so a writer that is killed leaves nothing that loads. On a local disk the
whole folder is written aside and renamed; elsewhere the manifest is created only where none exists.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_timescale import db
from mlflow_timescale.common.frames import Column, Columns, Frame, as_arrow
from mlflow_timescale.common.micros import MISSING
from mlflow_timescale.common.time import to_micros
from mlflow_timescale.db import Database, DatabaseURI

from ..catalogue import definitions
from ..catalogue.selection import FeatureSelection
from ..errors import InvalidTime, as_feature_errors
from ..read import watermarks
from ..read.cells import Cells
from ..read.point_in_time import Options, read_cells
from ..read.query import PointInTimeQuery
from ..read.spine import Spine
from .fingerprint import Fingerprint, canonical_json
from .manifest import (
    FILE,
    ContentMismatch,
    Manifest,
    SnapshotError,
    SnapshotFeature,
    library_versions,
)
from .storage import CorruptFile, DataFile, Folder

if TYPE_CHECKING:
    from .mlflow_dataset import SnapshotDataset

PARTITIONS = {"year": "%Y", "month": "%Y-%m", "day": "%Y-%m-%d", None: ""}
_JSON = {b"feature_store": b"json"}


class SnapshotExists(SnapshotError, FileExistsError):
    """A snapshot is never written over another."""


@dataclass(frozen=True)
class Snapshot:
    """A published snapshot.

    `to_arrow`, `to_pandas` and `to_polars` give its rows in the order of as_of; files are checked
    against the manifest whenever they are read.
    """

    url: str
    manifest: Manifest

    @property
    def name(self) -> str:
        """The name under which MLflow shows it."""
        return self.manifest.name

    @property
    def fingerprint(self) -> str:
        """The hash of the content."""
        return self.manifest.fingerprint

    @property
    def feature_names(self) -> list[str]:
        """The feature columns."""
        return [feature.name for feature in self.manifest.features]

    @cached_property
    def _folder(self) -> Folder:
        return Folder(self.url)

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """One Arrow table a file; raises CorruptFile naming the first that is not as written."""
        for file in self.manifest.files:
            yield self._folder.read_parquet(file, columns)

    def to_arrow(self, columns: list[str] | None = None) -> pa.Table:
        """All rows, or some columns of them; structures are JSON text."""
        return pa.concat_tables(self.tables(columns))

    def to_pandas(self, columns: list[str] | None = None) -> Any:
        """All rows as a pandas frame; structures are Python objects."""
        table = self.to_arrow(columns)
        frame = table.to_pandas()
        for entry in table.schema:
            if entry.metadata == _JSON:
                frame[entry.name] = _objects(table[entry.name])
        return frame

    def to_polars(self, columns: list[str] | None = None) -> Any:
        """All rows as a polars frame; structures are JSON text."""
        return Frame(self.to_arrow(columns)).join({}, "polars")

    def spine(self) -> pa.Table:
        """The spine that it was made of."""
        return self.to_arrow(self.manifest.spine_columns)

    def verify(self) -> None:
        """Raise CorruptFile or ContentMismatch unless files and content are as written."""
        strays = self._folder.files("data") - {file.path for file in self.manifest.files}
        if strays:
            raise CorruptFile(
                f"{self.url}: file {min(strays)} does not belong to the snapshot; an engine that "
                f"reads the folder would see it"
            )
        found = Fingerprint()
        for table in self.tables():
            for part in _logical(table):
                found.add(part)
        if found.hexdigest() != self.fingerprint:
            raise ContentMismatch(
                f"{self.url}: the files have fingerprint {found.hexdigest()} ({found.rows} rows), "
                f"the {FILE} says {self.fingerprint} ({self.manifest.rows} rows)"
            )

    def query(self) -> PointInTimeQuery:
        """The query that gives the same content again."""
        made = self.manifest
        return PointInTimeQuery(
            self.feature_names,
            made.entity,
            made.as_of,
            {feature.name: feature.version or "newest" for feature in made.features},
            made.max_age,
            made.written_by,
        )

    def to_mlflow(self, name: str | None = None, targets: str | None = None) -> SnapshotDataset:
        """The snapshot as a dataset for `mlflow.log_input`; `targets` names the label's column."""
        from .mlflow_dataset import SnapshotDataset

        return SnapshotDataset(self, name, targets)


def write_snapshot(
    database: Database,
    spine: Any,
    query: PointInTimeQuery,
    path: str | Path,
    *,
    name: str | None = None,
    partition: str | None = "month",
) -> Snapshot:
    """Read a training set and publish it at `path`, a local folder or any fsspec URL.

    Raises SnapshotExists where anything is; after an error nothing is left behind.
    """
    folder = Folder(path)
    if not folder.is_empty():
        raise SnapshotExists(f"{folder.url} is not empty; a snapshot is written once, elsewhere")
    content = read_content(database, spine, query)
    draft = folder.sibling() if folder.is_local else folder
    files: list[DataFile] = []
    try:
        for file in _write_data(draft, content, partition):
            files.append(file)
        manifest = content.manifest(name or folder.name, partition, files, database.uri)
        _publish(draft, folder, manifest)
    except BaseException:
        _clean(draft, folder, files)
        raise
    return Snapshot(folder.url, manifest)


def load_snapshot(path: str | Path, *, verify: bool = True) -> Snapshot:
    """Open a snapshot; by default every file and the fingerprint are checked.

    Raises SnapshotError if there is none, CorruptFile if a file is not as it was written.
    """
    folder = Folder(path)
    try:
        text = folder.read(FILE)
    except CorruptFile as exc:
        raise SnapshotError(f"{folder.url} is no snapshot: it has no {FILE}") from exc
    snapshot = Snapshot(folder.url, Manifest.from_json(text, folder.url))
    if verify:
        snapshot.verify()
    return snapshot


def rebuild(database: Database, snapshot: Snapshot) -> str:
    """The fingerprint of the same rows and features, read again at the same watermark."""
    return read_content(database, snapshot.spine(), snapshot.query()).fingerprint


@dataclass(frozen=True)
class TrainingSet:
    """A training set as it goes into files, in the order of as_of."""

    table: pa.Table
    query: PointInTimeQuery
    written_by: datetime
    features: list[SnapshotFeature]
    spine_columns: list[str]

    @cached_property
    def fingerprint(self) -> str:
        """The hash of all columns."""
        return _fingerprint(self.table)

    def manifest(
        self, name: str, partition: str | None, files: list[DataFile], uri: DatabaseURI
    ) -> Manifest:
        """What the snapshot says of itself."""
        entity = self.query.entity
        plain = entity if isinstance(entity, str) else {k: list(v) for k, v in entity.items()}
        return Manifest(
            name=name,
            fingerprint=self.fingerprint,
            spine_hash=_fingerprint(self.table.select(self.spine_columns)),
            written_by=self.written_by,
            created_at=datetime.now(timezone.utc),
            rows=len(self.table),
            entity=plain,
            as_of=self.query.as_of,
            spine_columns=self.spine_columns,
            features=self.features,
            max_age=self.query.max_age,
            partition=partition,
            schema=[{"name": entry.name, "type": str(entry.type)} for entry in self.table.schema],
            files=files,
            database=str(uri),
            libraries=library_versions(),
        )


def read_content(database: Database, frame: Any, query: PointInTimeQuery) -> TrainingSet:
    """Read the training set of a query, up to its watermark or, without one, up to now."""
    selection = query.selection
    spine = query.spine(frame)
    with database.connection() as conn:
        written_by = _settled(conn, query.written_by)
        query = replace(query, written_by=written_by)
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
    found = {name: _plain(name, column) for name, column in spine.frame.columns().items()}
    missing = spine.as_of == MISSING
    found[as_of] = pa.array(spine.as_of, mask=missing, type=pa.timestamp("us", "UTC"))
    return pa.table(found)


def _plain(name: str, column: Column) -> pa.Array:
    with as_feature_errors():
        array = as_arrow(column, f"column {name!r} of the spine")
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _feature_column(cells: Cells, j: int, name: str) -> tuple[pa.Field, pa.Array]:
    """A feature's column: null is no value, NaN a value that was written as undefined."""
    missing = cells.event[j] == MISSING
    if j not in cells.structures:
        return pa.field(name, pa.float64()), pa.array(cells.value[j], mask=missing)
    texts = [
        None if gone else canonical_json(value)
        for value, gone in zip(cells.objects(j).tolist(), missing.tolist(), strict=True)
    ]
    return pa.field(name, pa.string(), metadata=_JSON), pa.array(texts, type=pa.string())


def _describe(
    cells: Cells, j: int, selection: FeatureSelection, views: list[definitions.FeatureView]
) -> SnapshotFeature:
    name, version = selection.names[j], selection.versions[j]
    there = cells.event[j] != MISSING
    used = [version] if cells.version is None else np.unique(cells.version[j][there]).tolist()
    view = next(
        (v for v in views if name in v.features and v.version == max(used, default=0)), None
    )
    structured = np.zeros(len(there), dtype=bool)
    if j in cells.structures:
        structured = np.array([value is not None for value in cells.structures[j]], dtype=bool)
    return SnapshotFeature(
        name=name,
        version=version,
        versions=used,
        nulls=int((~there).sum()),
        undefined=int((there & np.isnan(cells.value[j]) & ~structured).sum()),
        json=j in cells.structures,
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
        "max_staleness": None if stale is None else stale.total_seconds(),
        "code_reference": view.code_reference,
    }


def _fingerprint(table: pa.Table) -> str:
    found = Fingerprint()
    for part in _logical(table):
        found.add(part)
    return found.hexdigest()


def _logical(table: pa.Table) -> Iterator[Columns]:
    """The columns of a table, with structures for their JSON text."""
    read = Frame(table).columns()
    for entry in table.schema:
        if entry.metadata == _JSON:
            read[entry.name] = _objects(table[entry.name])
    yield read


def _objects(column: pa.ChunkedArray) -> Any:
    values: Any = np.empty(len(column), dtype=object)
    values[:] = [None if text is None else json.loads(text) for text in column.to_pylist()]
    return values


def _write_data(folder: Folder, content: TrainingSet, partition: str | None) -> Iterator[DataFile]:
    if partition not in PARTITIONS:
        raise SnapshotError(f"partition {partition!r} is none of year, month, day, None")
    writer = uuid.uuid4().hex[:12]
    as_of = content.query.as_of
    for key, rows in _by_time(content.table, as_of, PARTITIONS[partition]):
        where = f"data/{as_of}_{partition}={key}" if partition else "data"
        yield folder.write_parquet(f"{where}/{writer}-0.parquet", rows)


def _by_time(table: pa.Table, as_of: str, form: str) -> Iterator[tuple[str, pa.Table]]:
    """Slices of rows that lie in one period; the table is in the order of as_of."""
    if not form or not len(table):
        yield "none", table
        return
    keys = pc.fill_null(pc.strftime(table[as_of], form), "__HIVE_DEFAULT_PARTITION__")
    codes = np.asarray(keys.combine_chunks().dictionary_encode().indices)
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(table)], strict=True):
        yield keys[int(start)].as_py(), table.slice(start, stop - start)


def _publish(draft: Folder, folder: Folder, manifest: Manifest) -> None:
    taken = SnapshotExists(f"{folder.url} was written by somebody else in the meantime")
    try:
        draft.create(FILE, manifest.to_json().encode())
    except FileExistsError as exc:
        raise taken from exc
    if draft is not folder:
        try:
            Path(draft.path).rename(folder.path)
        except OSError as exc:  # a directory is only ever renamed over an empty one
            raise taken from exc


def _clean(draft: Folder, folder: Folder, files: list[DataFile]) -> None:
    """Remove what this writer wrote, and nothing of another that was faster."""
    if draft is folder:
        folder.remove(file.path for file in files)
    else:
        draft.remove_all()
