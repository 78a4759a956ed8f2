"""Exporting to the lake: only what was written since the last time.

An export adds the points written since the last watermark to the frontier that is there. A row that
has left the frontier never comes back (being overtaken is transitive), so the old frontier and the
new points are enough. If all new points of a series become known after everything that the lake has
of it, which is how live data arrives, none of its rows can be overtaken, and its new rows are
appended as new files. Otherwise (backfills) the partitions that hold overtaken rows are rewritten.
New files are written beside the old ones; then the manifest is exchanged, in one step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlflow_timescale import db
from mlflow_timescale.common.micros import Micros
from mlflow_timescale.common.text import check_text
from mlflow_timescale.db import Database
from mlflow_timescale.db.arrays import Int4Array, Int8Array, TimestampArray

from ..read import watermarks
from ..read.frontier import strict_frontier
from ..read.plans import stream_series
from .lake import (
    SCHEMA,
    SORT,
    Lake,
    bucket_of,
    split_series,
)
from .lake_manifest import FILE, LakeError, LakeFile, LakeManifest
from .storage import DataFile, Folder

_queries = db.load("feature_lake")
_features = db.load("features")
BUCKETS = 8
FILES_PER_PARTITION = 16  # beyond it an export makes one file of them
Key = tuple[str, str, int]
Texts = npt.NDArray[np.object_]


class Rows(NamedTuple):
    """Points of one series in the order of (event_time, ingest_time)."""

    event: Micros
    ingest: Micros
    value: npt.NDArray[np.float64]
    json: Texts | None

    @property
    def known(self) -> Micros:
        """When each becomes known."""
        return np.maximum(self.event, self.ingest)

    def take(self, at: Any) -> Rows:
        """Some of the rows."""
        texts = None if self.json is None else self.json[at]
        return Rows(self.event[at], self.ingest[at], self.value[at], texts)


@dataclass(frozen=True)
class Exported:
    """What an export did. `overtaken` rows were in the lake and cannot win any more."""

    written_by: datetime
    points: int
    appended: int
    overtaken: int
    files_written: int
    files_removed: int


@dataclass
class _Changes:
    """What an export changes in one bucket."""

    points: int = 0
    appended: dict[Key, Rows] = field(default_factory=dict)
    overtaken: dict[Key, Rows] = field(default_factory=dict)
    heads: dict[Key, tuple[int, int]] = field(default_factory=dict)

    def add(self, key: Key, old: Rows | None, fresh: Rows) -> None:
        """Merge new points into what the lake has of a series (its head may do)."""
        self.points += len(fresh.event)
        merged, is_new = fresh, np.ones(len(fresh.event), dtype=bool)
        if old is not None:
            merged, is_new = _merge(old, fresh)
        kept = np.zeros(len(is_new), dtype=bool)
        kept[strict_frontier(merged.event, merged.ingest).rows] = True
        if (kept & is_new).any():
            self.appended[key] = merged.take(kept & is_new)
        if (~kept & ~is_new).any():
            self.overtaken[key] = merged.take(~kept & ~is_new)
        last = np.flatnonzero(kept)[-1]
        self.heads[key] = (int(merged.event[last]), int(merged.ingest[last]))


def export_lake(
    database: Database,
    path: str | Path,
    *,
    features: list[str] | None = None,
    buckets: int = BUCKETS,
) -> Exported:
    """Bring the lake at `path` up to date, or begin one.

    `features` and `buckets` are fixed when a lake begins. Raises LakeError if another export to the
    same place runs, or if the lake comes from another database.
    """
    check_text(features, "features")
    folder = Folder(path)
    with _alone(database, folder), database.connection() as conn:
        old = _open(folder, features, buckets)
        until = watermarks.watermark(conn)
        with conn.transaction():
            conn.execute(_features.one_snapshot)
            _check_origin(conn, old, until)
            return _Export(conn, folder, old, until).run()


class _Export:
    """One export, on a connection that sees one snapshot of the database."""

    def __init__(
        self, conn: db.Connection, folder: Folder, old: LakeManifest, until: datetime
    ) -> None:
        self._conn = conn
        self._folder = folder
        self._old = old
        self._until = until
        self._generation = old.generation + 1
        self._removed: list[LakeFile] = []
        self._written: list[LakeFile] = []

    def run(self) -> Exported:
        """Do it; return what was done."""
        self._remove_strays()
        moment = {"since": self._old.written_by, "until": self._until}
        row: Any = self._conn.execute(_queries.settled_writes, moment).fetchone()
        writes, later = row
        changes = [self._bucket(mine, writes, later) for mine in self._series() if writes]
        self._publish(changes)
        return Exported(
            self._until,
            sum(change.points for change in changes),
            sum(len(rows.event) for change in changes for rows in change.appended.values()),
            sum(len(rows.event) for change in changes for rows in change.overtaken.values()),
            len(self._written),
            len(self._removed),
        )

    def _bucket(self, mine: dict[int, Key], writes: list[int], later: bool) -> _Changes:
        changes = _Changes()
        if not mine:
            return changes
        fresh = dict(self._fresh(mine, writes, later))
        heads = self._heads(fresh)
        overlap = {key for key, head in heads.items() if fresh[key].known.min() <= max(head)}
        bucket = bucket_of(next(iter(mine.values()))[0], self._old.buckets)
        stored = self._stored(bucket, overlap) if overlap else {}
        for key, rows in fresh.items():
            head = stored[key] if key in overlap else _as_rows(heads.get(key))
            changes.add(key, head, rows)
        self._write_bucket(bucket, changes)
        return changes

    def _series(self) -> Iterator[dict[int, Key]]:
        """The series of each bucket, by id."""
        buckets: list[dict[int, Key]] = [{} for _ in range(self._old.buckets)]
        for series_id, *key in self._conn.execute(
            _queries.all_series, {"features": self._old.features}
        ):
            buckets[bucket_of(key[0], len(buckets))][series_id] = (key[0], key[1], key[2])
        yield from buckets

    def _fresh(
        self, mine: dict[int, Key], writes: list[int], later: bool
    ) -> Iterator[tuple[Key, Rows]]:
        """The points of these writes by series; at first, all that there are."""
        for series_id, event, ingest, value, has_json in list(self._points(mine, writes, later)):
            texts = self._texts(series_id, event, ingest) if has_json else None
            yield mine[series_id], Rows(event, ingest, value, texts)

    def _points(self, mine: dict[int, Key], writes: list[int], later: bool) -> Iterator[Any]:
        ids = np.array(list(mine), dtype=np.int32)
        if self._old.generation:
            parameters = {
                "series": Int4Array(ids),
                "writes": Int8Array(np.array(writes)),
                "first": min(writes),
                "last": max(writes),
            }
            with self._conn.cursor(binary=True) as cursor:
                yield from cursor.stream(_queries.stream_new_points, parameters)
            return
        window: dict[str, Any] = dict.fromkeys(("last", "last_ingest"), "infinity")
        window |= {"first": "-infinity", "written_by": self._until}
        for position, found in stream_series(self._conn, ids, window, writes=later):
            yield int(ids[position]), found.event, found.ingest, found.value, found.has_json

    def _texts(self, series_id: int, event: Micros, ingest: Micros) -> Texts:
        parameters = {
            "series": Int4Array(np.full(len(event), series_id)),
            "event": TimestampArray(event),
            "ingest": TimestampArray(ingest),
        }
        texts = np.full(len(event), None, dtype=object)
        for position, text in self._conn.execute(_queries.json_texts, parameters):
            texts[position - 1] = text
        return texts

    def _heads(self, wanted: dict[Key, Rows]) -> dict[Key, tuple[int, int]]:
        """The last row that the lake has of each series: its event_time and ingest_time."""
        return {key: self._all_heads[key] for key in wanted if key in self._all_heads}

    @property
    def _all_heads(self) -> dict[Key, tuple[int, int]]:
        if not hasattr(self, "_heads_read"):
            self._heads_read: dict[Key, tuple[int, int]] = {}
            if self._old.heads is not None:
                columns = self._folder.read_parquet(self._old.heads).to_pydict().values()
                for entity, feature, version, event, ingest in zip(*columns, strict=True):
                    self._heads_read[entity, feature, version] = (event, ingest)
        return self._heads_read

    def _stored(self, bucket: int, keys: set[Key]) -> dict[Key, Rows]:
        """All that the lake has of these series."""
        table = self._read([entry for entry in self._old.files if entry.bucket == bucket])
        return {
            key: Rows(one.event, one.ingest, one.value, one.json)
            for key, one in split_series(table)
            if key in keys
        }

    def _read(self, entries: list[LakeFile]) -> pa.Table:
        tables = [self._folder.read_parquet(entry.file) for entry in entries]
        return pa.concat_tables([SCHEMA.empty_table(), *tables])

    def _write_bucket(self, bucket: int, changes: _Changes) -> None:
        """Append to each year, or rewrite it where rows are overtaken or files are many."""
        fresh, gone = _table(changes.appended), _table(changes.overtaken)
        for year in sorted(set(_years(fresh)) | set(_years(gone))):
            there = [e for e in self._old.files if (e.bucket, e.year) == (bucket, year)]
            table, lost = _of_year(fresh, year), _of_year(gone, year)
            if len(lost) or len(there) >= FILES_PER_PARTITION:
                kept = self._read(there).join(lost.select(_KEY), keys=_KEY, join_type="left anti")
                table = pa.concat_tables([kept.select(SCHEMA.names).cast(SCHEMA), table])
                self._removed += there
            if len(table):
                path = f"data/bucket={bucket:02d}/year={year}/{self._generation:06d}.parquet"
                ordered = table.sort_by([(name, "ascending") for name in SORT])
                file = self._folder.write_parquet(path, ordered)
                self._written.append(LakeFile(bucket, year, file))

    def _publish(self, changes: list[_Changes]) -> None:
        """Exchange the manifest, then remove the files that do not count any more."""
        removed = {entry.file.path for entry in self._removed}
        files = [entry for entry in self._old.files if entry.file.path not in removed]
        heads = dict(self._all_heads)
        for change in changes:
            heads.update(change.heads)
        manifest = replace(
            self._old,
            written_by=self._until.isoformat(),
            origin=self._old.origin or _origin(self._conn, self._until),
            generation=self._generation,
            files=sorted([*files, *self._written], key=lambda entry: entry.file.path),
            heads=self._write_heads(heads),
            versions=_versions(heads),
        )
        self._folder.replace(FILE, manifest.to_json().encode())
        outdated = [] if self._old.heads is None else [self._old.heads.path]
        self._folder.remove([*removed, *outdated])

    def _write_heads(self, heads: dict[Key, tuple[int, int]]) -> DataFile:
        rows = [(*key, *head) for key, head in sorted(heads.items())]
        columns = {name: [row[i] for row in rows] for i, name in enumerate(_KEY)}
        table = pa.table(columns)
        return self._folder.write_parquet(f"heads/{self._generation:06d}.parquet", table)

    def _remove_strays(self) -> None:
        """Remove what an export that was killed has left."""
        counted = {entry.file.path for entry in self._old.files}
        heads = set() if self._old.heads is None else {self._old.heads.path}
        self._folder.remove(self._folder.files("data") - counted)
        self._folder.remove(self._folder.files("heads") - heads)


_KEY = ["entity_key", "feature_name", "feature_version", "event_time", "ingest_time"]


@contextmanager
def _alone(database: Database, folder: Folder) -> Iterator[None]:
    with database.lock(_queries.lock_lake, {"place": folder.path}) as locked:
        if not locked:
            raise LakeError(f"another export to {folder.url} is running; wait for it")
        yield


def _open(folder: Folder, features: list[str] | None, buckets: int) -> LakeManifest:
    if folder.exists(FILE):
        found = Lake(folder.url).manifest
        if features is not None and sorted(features) != sorted(found.features or []):
            raise LakeError(f"{folder.url} holds {found.features or 'all features'}; begin another")
        return found
    if not folder.is_empty() and folder.files("") - folder.files("data") - folder.files("heads"):
        raise LakeError(f"{folder.url} is not empty and no lake; choose another place")
    if not 1 <= buckets <= 1000:
        raise LakeError(f"buckets is {buckets}; a number from 1 to 1000 is needed")
    return LakeManifest(buckets, features)


def _check_origin(conn: db.Connection, old: LakeManifest, until: datetime) -> None:
    found = _origin(conn, until)
    if old.origin is not None and old.origin != found:
        raise LakeError(
            f"the lake was exported from another database: its first write was at {old.origin}, "
            f"here it is at {found}"
        )


def _origin(conn: db.Connection, until: datetime) -> str | None:
    row: Any = conn.execute(_queries.origin, {"until": until}).fetchone()
    return None if row[0] is None else str(row[0].isoformat())


def _merge(old: Rows, fresh: Rows) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """Both in the order of the key, and which rows are new."""
    texts = None
    if old.json is not None or fresh.json is not None:
        texts = np.concatenate([_texts_of(old), _texts_of(fresh)])
    both = Rows(
        np.concatenate([old.event, fresh.event]),
        np.concatenate([old.ingest, fresh.ingest]),
        np.concatenate([old.value, fresh.value]),
        texts,
    )
    order = np.lexsort((both.ingest, both.event))
    return both.take(order), (np.arange(len(order)) >= len(old.event))[order]


def _texts_of(rows: Rows) -> Texts:
    return np.full(len(rows.event), None, dtype=object) if rows.json is None else rows.json


def _as_rows(head: tuple[int, int] | None) -> Rows | None:
    """A head as rows; its value does not matter, because it is in the lake already."""
    if head is None:
        return None
    event, ingest = (np.array([moment], dtype=np.int64) for moment in head)
    return Rows(event, ingest, np.zeros(1), None)


def _table(series: dict[Key, Rows]) -> pa.Table:
    if not series:
        return SCHEMA.empty_table()
    counts = [len(rows.event) for rows in series.values()]
    entity, feature, version = (
        _repeat([key[i] for key in series], counts, SCHEMA.field(i).type) for i in range(3)
    )
    rows = list(series.values())
    event, ingest, known = (
        pa.array(np.concatenate(column), SCHEMA.field("known_at").type)
        for column in (
            [r.event for r in rows],
            [r.ingest for r in rows],
            [r.known for r in rows],
        )
    )
    texts = pa.array(np.concatenate([_texts_of(r) for r in rows]), pa.string())
    value = pa.array(np.concatenate([r.value for r in rows]), mask=np.asarray(texts.is_valid()))
    return pa.table([entity, feature, version, event, ingest, known, value, texts], schema=SCHEMA)


def _repeat(values: list[Any], counts: list[int], kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind).take(pa.array(np.repeat(np.arange(len(values)), counts)))


def _years(table: pa.Table) -> list[int]:
    return [int(year) for year in np.unique(_year_column(table))]


def _of_year(table: pa.Table, year: int) -> pa.Table:
    return table.filter(pa.array(_year_column(table) == year))


def _year_column(table: pa.Table) -> npt.NDArray[np.int64]:
    days = np.asarray(table["known_at"].cast(pa.int64()), dtype=np.int64).view("M8[us]")
    return days.astype("M8[Y]").astype(np.int64) + 1970


def _versions(heads: dict[Key, tuple[int, int]]) -> dict[str, list[int]]:
    found: dict[str, set[int]] = {}
    for _, feature, version in heads:
        found.setdefault(feature, set()).add(version)
    return {feature: sorted(versions) for feature, versions in sorted(found.items())}
