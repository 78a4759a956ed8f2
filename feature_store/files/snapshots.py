"""Snapshots: a training set as immutable Parquet files that prove what they are.

    <path>/manifest.json                                what it is, and the hash of every file
    <path>/data/as_of_month=2024-01/<id>-0.parquet      rows by as_of, partitioned by time

The manifest comes last, so a writer that is killed leaves nothing that loads. On a local disk the
whole folder is written aside and renamed; elsewhere the manifest is created only where none exists.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_timescale.common.errors import InvalidFrame, first_of
from mlflow_timescale.common.frames import JSON, Frame, joining
from mlflow_timescale.db import Database
from mlflow_timescale.db.masking import without_secrets

from ..read.ages import AgeLimit, Limits
from ..read.query import PointInTimeQuery
from .fingerprint import Fingerprint
from .manifest import (
    FILE,
    ContentMismatch,
    Manifest,
    SnapshotError,
)
from .storage import UNREADABLE, CorruptFile, DataFile, Folder, MissingFile
from .training_set import TrainingSet, json_objects, logical_columns, read_training_set

if TYPE_CHECKING:
    from .mlflow_dataset import SnapshotDataset

PARTITIONS = {"year": "%Y", "month": "%Y-%m", "day": "%Y-%m-%d", None: ""}


class SnapshotExists(SnapshotError, FileExistsError):
    """A snapshot is never written over another."""


@dataclass(frozen=True)
class Snapshot:
    """A published training set: immutable Parquet files and a manifest that proves their content.

    Rows are in the order of as_of. Files are checked against the manifest whenever they are read.
    `load_snapshot` opens one, `FeatureStore.snapshot` creates one.

    Attributes
    ----------
    url
        The folder, a local path or an fsspec URL.
    manifest
        The content of manifest.json: features, versions, watermark, schema, and a hash of each
        file.

    Shared parameters
    -----------------
    columns
        Only these columns; by default all.

    Raises
    ------
    CorruptFile
        Any method that reads rows: names the first file that differs from the manifest.

    Examples
    --------
    The examples of the methods continue from here.

    >>> import pandas as pd
    >>> from feature_store import FeatureStore, load_snapshot
    >>> dates = pd.date_range("2024-01-02 21:00", periods=3, freq="D", tz="UTC")
    >>> momentum = pd.DataFrame({"entity_key": "AAPL", "event_time": dates})
    >>> momentum["ret_5d"] = [0.01, 0.02, 0.03]
    >>> spine = pd.DataFrame({"entity_key": "AAPL", "as_of": dates + pd.Timedelta(days=1)})
    >>> with FeatureStore(uri) as store:
    ...     written = store.write_frame(momentum, availability_lag="XNYS next open")
    ...     snapshot = store.snapshot(spine, ["ret_5d"], "momentum-2024")
    """

    url: str
    manifest: Manifest

    def __repr__(self) -> str:
        manifest, names = self.manifest, self.feature_names
        url = without_secrets(self.url)
        return (
            f"<Snapshot {manifest.name!r} at {url}: {manifest.rows} rows, {len(names)} "
            f"features ({first_of(names, 5)}), fingerprint {self.fingerprint[:12]}>"
        )

    def to_frame(self, output: str = "pandas") -> Any:
        """All rows as a frame; structures are Python objects in pandas, else JSON text.

        Parameters
        ----------
        output
            "pandas", "arrow" or "polars".

        Examples
        --------
        >>> snapshot.to_frame().shape
        (3, 3)
        >>> snapshot
        <Snapshot 'momentum-2024' at ...: 3 rows, 1 features (ret_5d), fingerprint ...>
        """
        readers = {"arrow": self.to_arrow, "polars": self.to_polars}
        joining.check_output(output)
        return readers.get(output, self.to_pandas)()

    @property
    def name(self) -> str:
        """The name under which MLflow shows it; by default that of the folder.

        Examples
        --------
        >>> snapshot.name
        'momentum-2024'
        """
        return self.manifest.name

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the content: equal content has an equal fingerprint, however it is filed.

        Examples
        --------
        >>> len(snapshot.fingerprint)
        64
        >>> load_snapshot("momentum-2024").fingerprint == snapshot.fingerprint
        True
        """
        return self.manifest.fingerprint

    @property
    def feature_names(self) -> list[str]:
        """The feature columns, in order.

        Examples
        --------
        >>> snapshot.feature_names
        ['ret_5d']
        """
        return [feature.name for feature in self.manifest.features]

    @cached_property
    def _folder(self) -> Folder:
        return Folder(self.url)

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """One Arrow table for each file, in the order of as_of.

        Examples
        --------
        >>> [len(table) for table in snapshot.tables()]
        [3]
        """
        for file in self.manifest.files:
            yield self._folder.read_parquet(file, columns)

    def to_arrow(self, columns: list[str] | None = None) -> pa.Table:
        """All rows as an Arrow table; structures are JSON text.

        Examples
        --------
        >>> snapshot.to_arrow(["ret_5d"]).column("ret_5d").to_pylist()
        [0.01, 0.02, 0.03]
        """
        return pa.concat_tables(self.tables(columns))

    def to_pandas(self, columns: list[str] | None = None) -> Any:
        """All rows as a pandas frame; structures are Python objects.

        Examples
        --------
        >>> snapshot.to_pandas().columns.tolist()
        ['entity_key', 'as_of', 'ret_5d']
        """
        table = self.to_arrow(columns)
        frame = table.to_pandas()
        for entry in table.schema:
            if entry.metadata == JSON:
                frame[entry.name] = json_objects(table[entry.name])
        return frame

    def to_polars(self, columns: list[str] | None = None) -> Any:
        """All rows as a polars frame; structures are JSON text.

        Examples
        --------
        >>> snapshot.to_polars(["ret_5d"]).shape
        (3, 1)
        """
        return Frame(self.to_arrow(columns)).join({}, "polars")

    def spine(self) -> pa.Table:
        """The columns that are not features (entities, as_of and others) as an Arrow table.

        Examples
        --------
        >>> snapshot.spine().column_names
        ['entity_key', 'as_of']
        """
        return self.to_arrow(self.manifest.spine_columns)

    def verify(self) -> None:
        """Check every file, and the fingerprint of the content.

        Raises
        ------
        CorruptFile
            A file is missing, changed, or not part of the snapshot.
        ContentMismatch
            The content has another fingerprint than the manifest.

        Examples
        --------
        >>> snapshot.verify()
        """
        strays = self._folder.files("data") - {file.path for file in self.manifest.files}
        if strays:
            raise CorruptFile(
                f"{self.url}: file {min(strays)} does not belong to the snapshot; an engine that "
                f"reads the folder would see it"
            )
        fingerprint = Fingerprint(self.manifest.fingerprint_version)
        for table in self.tables():
            for part in logical_columns(table):
                fingerprint.add(part)
        if fingerprint.hexdigest() != self.fingerprint:
            raise ContentMismatch(
                f"{self.url}: the files have fingerprint {fingerprint.hexdigest()} "
                f"({fingerprint.rows} rows), the {FILE} has {self.fingerprint} "
                f"({self.manifest.rows} rows)"
            )

    def query(self) -> PointInTimeQuery:
        """The query that gives the same content again.

        Returns
        -------
        PointInTimeQuery
            With the versions and the watermark of the snapshot.

        Examples
        --------
        >>> snapshot.query().feature_version
        {'ret_5d': 'newest'}
        """
        manifest = self.manifest
        return PointInTimeQuery(
            self.feature_names,
            manifest.entity,
            manifest.as_of,
            {feature.name: feature.version or "newest" for feature in manifest.features},
            manifest.max_age,
            manifest.written_by,
            recorded=_recorded_limits(manifest),
        )

    def to_mlflow(self, name: str | None = None, targets: str | None = None) -> SnapshotDataset:
        """The snapshot as a dataset for `mlflow.log_input`.

        Parameters
        ----------
        name
            By default the name of the snapshot.
        targets
            The column of the labels.

        Raises
        ------
        InvalidFrame
            The snapshot has no column `targets`; the error lists its columns.

        Examples
        --------
        >>> snapshot.to_mlflow().name
        'momentum-2024'
        """
        from .mlflow_dataset import SnapshotDataset

        names = [str(column["name"]) for column in self.manifest.schema]
        if targets is not None and targets not in names:
            raise InvalidFrame(
                f"snapshot {self.name!r} has no column {targets!r} for the targets; it has "
                f"{', '.join(names)}"
            )
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

    Raises SnapshotExists if the folder is not empty. After an error nothing is left behind.
    """
    folder = Folder(path)
    if not folder.is_empty():
        raise SnapshotExists(f"{folder.url} is not empty; a snapshot is written once, elsewhere")
    content = read_training_set(database, spine, query)
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

    Parameters
    ----------
    path
        The folder, a local path or an fsspec URL.
    verify
        False opens it without reading the data files.

    Returns
    -------
    Snapshot

    Raises
    ------
    SnapshotError
        There is no snapshot at `path`.
    ContentMismatch
        The content has another fingerprint than the manifest.
    CorruptFile
        A file differs from the manifest.

    Examples
    --------
    >>> load_snapshot("momentum-2024")
    Traceback (most recent call last):
        ...
    feature_store.files.manifest.SnapshotError: ...
    """
    folder = Folder(path)
    try:
        text = folder.read(FILE)
    except MissingFile as exc:
        raise SnapshotError(f"{folder.url} is no snapshot: it has no {FILE}") from exc
    snapshot = Snapshot(folder.url, Manifest.from_json(text, folder.url))
    if verify:
        snapshot.verify()
    return snapshot


def rebuild(database: Database, snapshot: Snapshot) -> str:
    """The fingerprint of the same rows and features, read again at the same watermark."""
    content = read_training_set(database, snapshot.spine(), snapshot.query())
    return replace(content, fingerprint_version=snapshot.manifest.fingerprint_version).fingerprint


def _recorded_limits(manifest: Manifest) -> Limits:
    """The limits of a snapshot on the age of values; older manifests have max_age alone."""
    rules = manifest.age_limits
    if rules is None:
        limits = () if manifest.max_age is None else (AgeLimit(manifest.max_age),)
        return {feature.name: limits for feature in manifest.features}
    try:
        return {name: tuple(map(AgeLimit.from_dict, plain)) for name, plain in rules.items()}
    except UNREADABLE as exc:
        raise SnapshotError(f"the age limits of snapshot {manifest.name!r} are damaged") from exc


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
    taken = SnapshotExists(f"{folder.url} was written by another process in the meantime")
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
