"""The feature lake: the strict frontier of every series as Parquet, for any engine.

    <path>/lake.json                                    the files that count, and up to when
    <path>/data/bucket=03/year=2024/000007.parquet      frontier rows by entity and known_at

A file holds rows in the order of (feature_name, feature_version, entity_key, known_at). Within a
series known_at increases strictly and event_time never decreases, so the last row with
known_at <= as_of is what was known: the as-of join that every engine has is exact here, without
ties. Series of one entity are all in one bucket, so buckets can be joined apart from each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlflow_timescale.common.frames import Frame, load_json
from mlflow_timescale.common.micros import Micros
from mlflow_timescale.common.time import Duration

from ..catalogue.selection import ANY_VERSION, Features, FeatureSelection, Versions
from ..errors import unknown_feature
from ..read.cells import Cells, Winners
from ..read.frontier import Frontier, search
from ..read.query import OF_VIEW, PointInTimeQuery
from ..read.spine import EntityColumns, Spine, slices
from .lake_manifest import FILE, LakeError, LakeFile, LakeManifest
from .storage import CorruptFile, DataFile, Folder, MissingFile

_TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [
        ("entity_key", pa.string()),
        ("feature_name", pa.string()),
        ("feature_version", pa.int32()),
        ("event_time", _TIME),
        ("ingest_time", _TIME),
        ("known_at", _TIME),
        ("value", pa.float64()),
        ("value_json", pa.string()),
    ]
)


SORT = ("feature_name", "feature_version", "entity_key", "known_at")
TIMES = ("event_time", "ingest_time", "known_at")


class Ask(NamedTuple):
    """One entity of a spine: its rows in the order of as_of, and the features wanted of it."""

    entity: str
    features: list[int]
    rows: npt.NDArray[np.intp]
    as_of: Micros


class Part(NamedTuple):
    """All that one worker needs: one bucket's files, and what is asked of its entities."""

    url: str
    files: list[DataFile]
    asked: list[Ask]
    selection: FeatureSelection
    known: dict[str, list[int]]


Found = tuple[Winners, "list[str | None] | None"]


class Lake:
    """An exported feature lake, as of its last export.

    Parameters
    ----------
    url
        A local folder or any fsspec URL ("s3://...") that `FeatureStore.export` wrote to.

    Shared parameters
    -----------------
    bucket
        Only the files of this bucket, from 0; by default all. All series of an entity are in one
        bucket.
    columns
        Only these columns; by default all of `feature_store.files.lake.SCHEMA`.

    Raises
    ------
    LakeError
        There is no lake at `url`, or a newer package wrote it.

    Examples
    --------
    The examples of the methods continue from here.

    >>> import pandas as pd
    >>> from feature_store import FeatureStore, Lake
    >>> dates = pd.date_range("2024-01-02 21:00", periods=3, freq="D", tz="UTC")
    >>> momentum = pd.DataFrame({"entity_key": "AAPL", "event_time": dates})
    >>> momentum["ret_5d"] = [0.01, 0.02, 0.03]
    >>> with FeatureStore(uri) as store:
    ...     written = store.write_frame(momentum, availability_lag="XNYS next open")
    ...     exported = store.export("lake")
    >>> lake = Lake("lake")
    """

    def __init__(self, url: str | Path) -> None:
        self._folder = Folder(url)
        self.url = self._folder.url
        try:
            text = self._folder.read(FILE)
        except MissingFile as exc:
            raise LakeError(f"{self.url} is no lake: it has no {FILE}") from exc
        self.manifest = LakeManifest.from_json(text, self.url)

    def __repr__(self) -> str:
        return (
            f"<Lake at {self._folder}: {self.rows} rows of {len(self.manifest.versions)} features, "
            f"written by {self.manifest.written_by}>"
        )

    @property
    def written_by(self) -> datetime:
        """The watermark: the lake holds everything written up to this moment, and nothing later.

        Examples
        --------
        >>> lake.written_by == exported.written_by
        True
        """
        return datetime.fromisoformat(self.manifest.written_by)

    @property
    def rows(self) -> int:
        """The number of frontier rows.

        Examples
        --------
        >>> lake.rows
        3
        """
        return sum(entry.file.rows for entry in self.manifest.files)

    def files(self, bucket: int | None = None) -> list[str]:
        """The current data files, as paths or URLs that any engine can read.

        Returns
        -------
        list of str
            In no particular order. Other files in the folder are not part of the lake.

        Examples
        --------
        >>> len(lake.files())
        1
        """
        prefix = self._folder.path if self._folder.is_local else self.url.rstrip("/")
        return [f"{prefix}/{entry.file.path}" for entry in self._entries(bucket)]

    def table(self, bucket: int | None = None, columns: list[str] | None = None) -> pa.Table:
        """The rows of the lake, or of one bucket, as an Arrow table.

        Raises
        ------
        CorruptFile
            A file differs from its hash in the manifest.

        Examples
        --------
        >>> lake.table(columns=["entity_key", "feature_name", "value"]).to_pylist()[0]
        {'entity_key': 'AAPL', 'feature_name': 'ret_5d', 'value': 0.01}
        """
        tables = [self._folder.read_parquet(entry.file, columns) for entry in self._entries(bucket)]
        empty = SCHEMA.empty_table()
        return pa.concat_tables(tables or [empty if columns is None else empty.select(columns)])

    def to_frame(self, output: str = "pandas") -> Any:
        """The rows of the lake as a frame.

        Parameters
        ----------
        output
            "pandas", "arrow" or "polars".

        Raises
        ------
        CorruptFile
            A file differs from its hash in the manifest.

        Examples
        --------
        >>> lake.to_frame()["value"].tolist()
        [0.01, 0.02, 0.03]
        """
        return Frame(self.table()).join({}, output)

    def verify(self) -> None:
        """Check that every file is as it was written, and that there are no others.

        Raises
        ------
        CorruptFile
            Names the first file that is missing, changed, or not part of the lake.

        Examples
        --------
        >>> lake.verify()
        """
        strays = self._folder.files("data") - {entry.file.path for entry in self.manifest.files}
        if strays:
            raise CorruptFile(
                f"{self.url}: file {min(strays)} does not count; the next export removes it, and "
                f"until then read by {FILE} (Lake.files()), not by a pattern"
            )
        for entry in self.manifest.files:
            self._folder.check(entry.file)

    def training_frame(
        self,
        spine_frame: Any,
        features: Features,
        *,
        entity: EntityColumns = "entity_key",
        as_of: str = "as_of",
        feature_version: Versions = None,
        max_age: str | Duration | None = None,
        calendar: str | None = None,
        max_staleness: str | Duration | None = OF_VIEW,
        output: str | None = None,
        map: Callable[..., Iterable[Any]] = map,  # noqa: A002 - it is what an executor calls it
    ) -> Any:
        """What `FeatureStore.training_frame` returns, up to the watermark, without a database.

        Parameters
        ----------
        spine_frame, features, entity, as_of, feature_version, max_age, max_staleness, output
            As in `FeatureStore`.
        calendar
            As in `FeatureStore`, without the corrections that a database records; or a
            `TradingCalendar`.
        map
            The `map` of any executor (processes, Ray, Dask, Spark). It receives a function and one
            task for each bucket; both can be pickled.

        Returns
        -------
        frame
            The spine with one column for each feature.

        Raises
        ------
        UnknownFeature
            The lake has no such feature or version.
        InvalidFrame
            The spine lacks a column.
        CorruptFile
            A file differs from its hash in the manifest.

        Examples
        --------
        >>> spine = pd.DataFrame({"entity_key": "AAPL", "as_of": dates + pd.Timedelta(days=1)})
        >>> lake.training_frame(spine, "ret_5d")["ret_5d"].tolist()
        [0.01, 0.02, 0.03]
        """
        query = PointInTimeQuery(
            features,
            entity,
            as_of,
            feature_version,
            max_age,
            calendar=calendar,
            max_staleness=max_staleness,
        )
        chosen = self.check(query.selection)
        spine = query.spine(spine_frame)
        cells = Cells.empty(len(chosen.names), len(spine), details=False, versions=True)
        structures = []
        for found in map(search_part, self.parts(spine, chosen)):
            for winners, texts in found:
                cells.put(winners)
                if texts is not None:
                    structures.append((winners, _objects(texts)))
        for winners, values in structures:  # after all numbers: a higher version may have won
            cells.put_structures(winners, values)
        cells.expire(spine.as_of, [query.limits[name] for name in chosen.names])
        added = {name: cells.objects(j) for j, name in enumerate(chosen.names)}
        return spine.join(added, output)

    def parts(self, spine: Spine, selection: FeatureSelection) -> Iterator[Part]:
        """The tasks of a distributed read: one for each bucket that holds entities of the spine.

        Parameters
        ----------
        spine, selection
            As `read_spine` and `select` return them.

        Examples
        --------
        >>> from feature_store.catalogue.selection import select
        >>> from feature_store.read.spine import read_spine
        >>> spine = pd.DataFrame({"entity_key": ["AAPL"], "as_of": dates[-1:]})
        >>> rows = read_spine(spine, ["ret_5d"], "entity_key", "as_of")
        >>> [part] = lake.parts(rows, select("ret_5d", None))
        >>> len(part.files)
        1
        """
        asked: dict[int, list[Ask]] = {}
        for group in spine.groups:
            for code, rows, as_of in slices(group, spine.as_of):
                entity = group.entities[code]
                bucket = bucket_of(entity, self.manifest.buckets)
                asked.setdefault(bucket, []).append(Ask(entity, group.features, rows, as_of))
        for bucket, mine in sorted(asked.items()):
            files = [entry.file for entry in self._entries(bucket)]
            yield Part(self.url, files, mine, selection, self.manifest.versions)

    def check(self, selection: FeatureSelection) -> FeatureSelection:
        """Check that the lake holds the selected features and versions; return the selection.

        Parameters
        ----------
        selection
            As `feature_store.catalogue.selection.select` returns it.

        Raises
        ------
        UnknownFeature
            A name or version is not in the lake.

        Examples
        --------
        >>> from feature_store.catalogue.selection import select
        >>> lake.check(select("ret_5d", 1)).names
        ['ret_5d']
        """
        known = self.manifest.versions
        wrong = [
            name if name not in known else f"{name} v{version}"
            for name, version in zip(*selection, strict=True)
            if version not in (ANY_VERSION, *known.get(name, [])) or name not in known
        ]
        if wrong:
            raise unknown_feature(wrong, known)
        return selection

    def _entries(self, bucket: int | None) -> list[LakeFile]:
        return [entry for entry in self.manifest.files if bucket in (None, entry.bucket)]


def bucket_of(entity: str, buckets: int) -> int:
    """The bucket of an entity: CRC-32 of its UTF-8 bytes, which every language has.

    >>> bucket_of("AAPL", 8)
    4
    """
    return crc32(entity.encode()) % buckets


def search_part(part: Part) -> list[Found]:
    """The winners in one bucket, and their JSON texts; needs its files, and nothing else."""
    folder = Folder(part.url)
    wanted = [("feature_name", "in", part.selection.names)]
    tables = [folder.read_parquet(file, filters=wanted) for file in part.files]
    series = dict(split_series(pa.concat_tables([SCHEMA.empty_table(), *tables])))
    found: list[Found] = []
    for ask in part.asked:
        for j in ask.features:
            for version, one in _versions(series, ask.entity, j, part.selection, part.known):
                found += _winners(one, j, version, ask)
    return found


class FrontierSeries(NamedTuple):
    """The frontier rows of one series."""

    event: Micros
    ingest: Micros
    known: Micros
    value: npt.NDArray[np.float64]
    json: npt.NDArray[np.object_] | None


def split_series(table: pa.Table) -> Iterator[tuple[tuple[str, str, int], FrontierSeries]]:
    """The series of a table, each in the order of known_at."""
    if not len(table):
        return
    table = table.sort_by([(name, "ascending") for name in SORT]).combine_chunks()
    keys = [table[name].combine_chunks().dictionary_encode() for name in SORT[:3]]
    codes = [np.asarray(key.indices) for key in keys]
    changes = np.logical_or.reduce([np.diff(code, prepend=-1) != 0 for code in codes])
    starts = np.flatnonzero(changes)
    event, ingest, known = (_int64(table[name]) for name in TIMES)
    value = np.asarray(table["value"])
    texts = table["value_json"]
    json_texts = None if texts.null_count == len(texts) else np.array(texts.to_pylist(), object)
    for start, stop in zip(starts, np.append(starts, len(table))[1:], strict=True):
        feature, version, entity = (
            key.dictionary[int(code[start])].as_py() for key, code in zip(keys, codes, strict=True)
        )
        at = slice(start, stop)
        mine = None if json_texts is None else json_texts[at]
        one = FrontierSeries(event[at], ingest[at], known[at], value[at], mine)
        yield (entity, feature, version), one


def _int64(column: pa.ChunkedArray) -> Micros:
    return np.asarray(column.cast(pa.int64()), dtype=np.int64)


def _versions(
    series: dict[tuple[str, str, int], FrontierSeries],
    entity: str,
    j: int,
    selection: FeatureSelection,
    known: dict[str, list[int]],
) -> Iterator[tuple[int, FrontierSeries]]:
    """The series of one cell, lower versions first."""
    name, wanted = selection.names[j], selection.versions[j]
    versions = known.get(name, []) if wanted == ANY_VERSION else [wanted]
    for version in versions:
        if (entity, name, version) in series:
            yield version, series[entity, name, version]


def _winners(one: FrontierSeries, j: int, version: int, ask: Ask) -> list[Found]:
    found = search(Frontier(np.arange(len(one.known)), one.known), ask.as_of)
    hit = found >= 0
    at = found[hit]
    if not len(at):
        return []
    texts = None if one.json is None else one.json[at].tolist()
    winners = Winners(
        j, ask.rows[hit], 0, version, one.event[at], one.ingest[at], one.value[at], None, False
    )
    return [(winners, texts)]


def _objects(texts: list[str | None]) -> npt.NDArray[np.object_]:
    values = np.empty(len(texts), dtype=object)
    values[:] = [None if text is None else load_json(text) for text in texts]
    return values
