"""`FeatureStore`: the one object that users hold; every method is a call into a small module."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from mlflow_timescale import db
from mlflow_timescale.common import git
from mlflow_timescale.common.frames import Frame, make_frame
from mlflow_timescale.common.time import optional_duration
from mlflow_timescale.db import arrays
from mlflow_timescale.db.uri import DatabaseURI

from . import health
from .catalogue import definitions
from .catalogue.definitions import FeatureView
from .catalogue.provenance import active_run_id, default_producer
from .catalogue.selection import Features, Versions, feature_names_of
from .errors import as_feature_errors
from .files import lake_export, snapshots
from .read import explain, revisions, watermarks
from .read.point_in_time import FeatureValue, Options, latest, read_cells
from .read.query import PointInTimeQuery
from .read.spine import EntityColumns
from .values.points import FrameLayout, one_row, points
from .write import writing as write
from .write.availability import Lag, availability
from .write.transaction import WriteSpec

BATCH_POINTS = 2_000_000  # what a write holds in memory at once: some 150 MB
LONG_COLUMNS = 5  # a long frame has about so many for each value
_MOST_READERS = 4  # more wait for each other in the database


class FeatureStore:
    """Features with two clocks: when a value is about, and when it became known.

    `uri` is any form that names a database of ours; the schema is brought up to date when first
    needed. `producer` (default: the running script) and `producer_version` (default: the git commit
    of the working directory) are recorded with every write, and so is the active MLflow run.

    A large read is shared by up to `readers` connections that see one snapshot of the database
    (default: as many as this machine has cores, at most 4). A store may be shared by threads. Close
    it, or use it in a `with` block.
    """

    def __init__(
        self,
        uri: str | DatabaseURI | db.Database,
        producer: str | None = None,
        producer_version: str | None = None,
        *,
        readers: int | None = None,
    ) -> None:
        self.producer = producer or default_producer()
        self._producer_version = producer_version
        self.database = db.Database.of(uri, application="feature_store", setup=arrays.register)
        self.uri = self.database.uri
        self._readers = readers or min(_MOST_READERS, os.cpu_count() or 1)

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.uri)!r}, producer={self.producer!r})"

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def producer_version(self) -> str | None:
        """The code version that writes are recorded with."""
        return self._producer_version or git.version(Path.cwd())

    def close(self) -> None:
        """Close the connections; using the store again opens new ones."""
        self.database.close()

    def connection(self) -> AbstractContextManager[db.Connection]:
        """An autocommit connection to the database, the caller's alone for a `with` block."""
        return self.database.connection()

    # Writing

    def write_features(
        self,
        entity_key: str,
        timestamp: datetime,
        features: dict[str, Any],
        *,
        feature_version: int = 1,
        availability_lag: Lag = None,
        ingest_time: datetime | None = None,
        run_id: str | None = None,
        forecast: bool = False,
        view: str | FeatureView | None = None,
    ) -> int:
        """Write some features of one entity at one event time; return how many values were new.

        A value becomes known now, by the database's clock; at `ingest_time`, if somebody observed
        it; or as `availability_lag` assumes: a timedelta, or a rule such as "XNYS next open". A
        value that differs from what is known is stored as a revision known from now on; with an
        explicit ingest time a different value for the same moment raises ConflictingValues.

        NaN is stored ("computed, undefined"); vectors and mappings are kept as JSON. A `view`
        decides the version, and has to know every feature.
        Raises InvalidTime for naive times, and for a timestamp after its ingest time unless
        `forecast` says that it is meant.
        """
        if not features:
            return 0
        batch = one_row(entity_key, timestamp, features, ingest_time)
        spec = self._spec(feature_version, availability_lag, run_id, forecast=forecast)
        with self.connection() as conn:
            return write.write_points(conn, batch, spec, view)

    def write_frame(
        self,
        frame: Any,
        *,
        layout: str = "wide",
        entity: str = "entity_key",
        event_time: str = "event_time",
        ingest_time: str | None = None,
        availability_lag: Lag = None,
        feature_version: int = 1,
        run_id: str | None = None,
        restate: bool = False,
        forecast: bool = False,
        view: str | FeatureView | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Write a frame, whole or not at all; return how many values were new.

        `frame` is any source of `mlflow_timescale.common.frames.Frame`: a pandas, polars or Arrow
        frame, a DuckDB relation, a mapping of columns, a CSV or Parquet file, a directory of them,
        or an iterator of these (which may together be larger than memory). A CSV file's entities
        are texts as written: 000001 and NA stay what they are. Wide: every column beside the named
        ones is a feature. Long: columns `feature_name` and `value`. `ingest_time` names a column.
        A null is not written; NaN is ("computed, undefined").

        The same rows again write nothing. A different value at an existing (entity, feature,
        version, event_time, ingest_time) raises ConflictingValues, which names up to ten rows;
        with `restate` it is stored as a revision known from now on. `progress` is called with the
        number of points after each batch.
        """
        shape = FrameLayout(layout, entity, event_time, ingest_time)
        spec = self._spec(feature_version, availability_lag, run_id, forecast, restate)
        values = BATCH_POINTS * (1 if layout == "wide" else LONG_COLUMNS)
        source = Frame(frame, text=shape.identifiers)
        batches = (points(part, shape) for part in source.batches(values))
        progress = progress or (lambda count: None)
        with as_feature_errors(), self.database.connections(2) as (conn, aside):
            return write.write_batches(conn, aside, batches, spec, view, progress)

    def register(self, view: FeatureView) -> bool:
        """Register a feature view; False if it is there already. A change needs a new version."""
        with self.connection() as conn:
            return definitions.register(conn, view)

    def views(self) -> list[FeatureView]:
        """All registered views, by name and version."""
        with self.connection() as conn:
            return definitions.views(conn)

    def view(self, name: str, version: int | None = None) -> FeatureView:
        """A registered view, in its newest version if none is named."""
        with self.connection() as conn:
            return definitions.find(conn, name, version)

    # Reading

    def get_latest(
        self,
        entity_key: str | Sequence[str],
        feature_names: Sequence[str] | None = None,
        *,
        as_of: datetime | None = None,
        feature_version: Versions = None,
        max_age: timedelta | str | None = None,
    ) -> Any:
        """What is known of an entity now, or was at `as_of`: FeatureValues by feature name.

        For a list of entities, the same by entity. A feature that the entity has not is left out; a
        name that nobody ever wrote raises UnknownFeature. Values with an event_time before
        as_of - max_age are left out. Without `feature_version` it is the newest known at as_of.
        """
        entities = [entity_key] if isinstance(entity_key, str) else list(entity_key)
        names = [feature_names] if isinstance(feature_names, str) else feature_names
        limit = optional_duration(max_age, "max_age")
        with self.connection() as conn:
            found = latest(
                conn, entities, names, as_of=as_of, versions=feature_version, max_age=limit
            )
        return found[entity_key] if isinstance(entity_key, str) else found

    def get_point_in_time(
        self,
        entity_times: Iterable[tuple[str, datetime]],
        feature_names: Sequence[str] | None = None,
        *,
        feature_version: Versions = None,
        max_age: timedelta | str | None = None,
    ) -> list[FeatureValue]:
        """For every (entity, as_of), in order, each value that was known, with its two times.

        For anything large, `training_frame` is the faster call.
        """
        pairs = list(entity_times)
        if not pairs:
            return []
        with self.connection() as conn:
            names = feature_names
            if names is None:
                names = feature_names_of(conn, sorted({entity for entity, _ in pairs}))
            if not names:
                return []
            limit = optional_duration(max_age, "max_age")
            query = PointInTimeQuery(names, feature_version=feature_version, max_age=limit)
            return explain.values(conn, query.spine(pairs), query)

    def training_frame(
        self,
        spine_frame: Any,
        features: Features,
        *,
        entity: EntityColumns = "entity_key",
        as_of: str = "as_of",
        feature_version: Versions = None,
        max_age: timedelta | str | None = None,
        event_times: bool = False,
        output: str | None = None,
        written_by: datetime | None = None,
        plan: str | None = None,
    ) -> Any:
        """The spine with a column for each feature: its value as it was known at the row's as_of.

        A spine is a frame or file of any kind that `write_frame` takes, or (entity, as_of) pairs.
        Its rows, order, index and other columns are kept untouched. `entity` is the column of the
        entities, or for several kinds of entity a mapping of column to features. `event_times` adds
        `<feature>__event_time`. `output` is "pandas", "arrow" or "polars" (default: as the spine;
        pandas for pairs, mappings and files, Arrow for streams).

        Without `feature_version` a cell has the newest version known at its as_of; a number pins
        one, a mapping pins one for each feature. `written_by` leaves out what was written later,
        even if it claims to have been known before (a backfill): the same call gives the same
        frame for ever if it is a `watermark()`. `plan` ("lookup" or "stream") overrides the choice
        by size.
        """
        limit = optional_duration(max_age, "max_age")
        query = PointInTimeQuery(features, entity, as_of, feature_version, limit, written_by)
        spine = query.spine(spine_frame)
        options = Options(
            warn_of_mixes=feature_version is None,
            plan=plan,
            database=self.database,
            readers=self._readers,
        )
        with self.connection() as conn:
            cells, _ = read_cells(conn, spine, query, options)
        added: dict[str, Any] = {}
        for j, name in enumerate(query.selection.names):
            added[name] = cells.objects(j)
            if event_times:
                added[f"{name}__event_time"] = cells.event[j].view("M8[us]")
        return spine.join(added, output)

    def explain(
        self,
        spine_frame: Any,
        features: Features,
        *,
        entity: EntityColumns = "entity_key",
        as_of: str = "as_of",
        feature_version: Versions = None,
        max_age: timedelta | str | None = None,
        output: str = "pandas",
        written_by: datetime | None = None,
    ) -> Any:
        """Every cell of a training set as a row: its value, times, version, producer and run.

        `reason` says why a cell has no value: "never written", "not yet known", "expired", "written
        as undefined" or "no as_of". `assumed_lag` is set where nobody observed the ingest time.
        """
        limit = optional_duration(max_age, "max_age")
        query = PointInTimeQuery(features, entity, as_of, feature_version, limit, written_by)
        spine = query.spine(spine_frame)
        with self.connection() as conn:
            rows = explain.explain(conn, spine, query)
        return make_frame(rows, output)

    def history(
        self,
        entity_key: str,
        feature: str,
        *,
        feature_version: int | None = None,
        output: str = "pandas",
    ) -> Any:
        """Every value that was ever believed of a feature of an entity, with its revisions."""
        with self.connection() as conn:
            rows = revisions.history(conn, entity_key, feature, feature_version)
        return make_frame(rows, output)

    def diff(
        self,
        as_of_1: datetime,
        as_of_2: datetime,
        *,
        entities: Sequence[str] | None = None,
        features: Sequence[str] | None = None,
        output: str = "pandas",
    ) -> Any:
        """What became known after as_of_1 and by as_of_2: new values and revisions."""
        with self.connection() as conn:
            rows = revisions.diff(conn, as_of_1, as_of_2, entities, features)
        return make_frame(rows, output)

    def leak_report(
        self,
        spine_frame: Any,
        features: Features,
        *,
        entity: EntityColumns = "entity_key",
        as_of: str = "as_of",
        feature_version: Versions = None,
        output: str = "pandas",
    ) -> Any:
        """By feature: the share of cells that a join on event_time alone would take from the
        future.

        `leaked` counts cells filled with a value that was not known at as_of, `changed` those of
        them where the point-in-time answer is another; `assumed` cells have an ingest time that
        nobody observed, so for them the report is only as good as the assumption.
        """
        query = PointInTimeQuery(features, entity, as_of, feature_version)
        spine = query.spine(spine_frame)
        with self.connection() as conn:
            rows = revisions.leak_report(conn, spine, query)
        return make_frame(rows, output)

    def features(self, output: str = "pandas") -> Any:
        """What there is: every feature and version, its entities, its first and last event."""
        with self.connection() as conn:
            return make_frame(revisions.inventory(conn), output)

    def lineage(
        self, feature: str, *, feature_version: int | None = None, output: str = "pandas"
    ) -> Any:
        """Who wrote a feature: producers, code versions, runs, assumptions, counts and times."""
        with self.connection() as conn:
            return make_frame(revisions.lineage(conn, feature, feature_version), output)

    def watermark(self) -> datetime:
        """The newest moment that is settled: no write stamped at or before it can still appear.

        Ask on the primary, not on a replica.
        """
        with self.connection() as conn:
            return watermarks.watermark(conn)

    # Files and health

    def snapshot(
        self,
        spine_frame: Any,
        features: Features,
        path: str | Path,
        *,
        entity: EntityColumns = "entity_key",
        as_of: str = "as_of",
        feature_version: Versions = None,
        max_age: timedelta | str | None = None,
        written_by: datetime | None = None,
        name: str | None = None,
        partition: str | None = "month",
    ) -> snapshots.Snapshot:
        """Write a training set to files for ever; the arguments are those of `training_frame`.

        `path` is a new local folder or any fsspec URL, `partition` "year", "month", "day" or None.
        `written_by` is a past watermark; the default is the present one.
        """
        limit = optional_duration(max_age, "max_age")
        query = PointInTimeQuery(features, entity, as_of, feature_version, limit, written_by)
        return snapshots.write_snapshot(
            self.database, spine_frame, query, path, name=name, partition=partition
        )

    def export(
        self, path: str | Path, features: list[str] | None = None, *, buckets: int = 8
    ) -> lake_export.Exported:
        """Create or update the feature lake at `path`; see `feature_store.files.lake`."""
        return lake_export.export_lake(self.database, path, features=features, buckets=buckets)

    def health(
        self,
        features: Sequence[str] | None = None,
        entities: Sequence[str] | None = None,
        *,
        as_of: datetime | None = None,
        calendar: str | None = None,
        **options: Any,
    ) -> health.Health:
        """Freshness, gaps, statistics and write lag; see `feature_store.health.check_health`."""
        return health.check_health(
            self.database, features, entities, as_of=as_of, calendar=calendar, **options
        )

    def _spec(
        self,
        version: int,
        lag: Lag,
        run_id: str | None,
        forecast: bool = False,
        restate: bool = False,
    ) -> WriteSpec:
        return WriteSpec(
            version,
            availability(lag),
            forecast,
            restate,
            self.producer,
            self.producer_version,
            run_id or active_run_id(),
        )
