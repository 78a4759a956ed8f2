"""`FeatureStore`: the one object that users hold; every method is a call into a small module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow_timescale import db
from mlflow_timescale.common import git
from mlflow_timescale.common.frames import Frame
from mlflow_timescale.common.time import Duration
from mlflow_timescale.db.uri import DatabaseURI

from . import health
from .catalogue import definitions
from .catalogue.definitions import FeatureView
from .catalogue.provenance import active_run_id, default_producer
from .catalogue.selection import Features, Versions
from .defining import FeatureCatalogue
from .files import lake_export, snapshots
from .read.query import OF_VIEW
from .read.spine import EntityColumns
from .values.points import FrameLayout, one_row
from .write import writing
from .write.availability import Lag, availability
from .write.transaction import WriteSpec

BATCH_POINTS = 2_000_000  # what a write holds in memory at once: some 150 MB
LONG_COLUMNS = 5  # a long frame has about this many for each value


class FeatureStore(FeatureCatalogue):
    """Features with two clocks: the time a value describes, and the time it became known.

    Parameters
    ----------
    uri, conninfo, dsn
        The database, under one of these names. Creating the object does no I/O; the first call
        brings the schema up to date.
    producer, producer_version
        Recorded with every write, as is the active MLflow run. By default the running script, and
        the git commit of the working directory.
    readers
        Connections that share a large read, all on one snapshot of the database; by default one for
        each core, at most 4.

    Shared parameters
    -----------------
    entity_key
        The name of an entity, such as "AAPL"; in `get_latest` also a list of names.
    feature
        The name of one feature.
    features
        A name, a FeatureView, or a list of these. `health`, `diff` and `export`: a list of names,
        by default all.
    feature_names
        As `features`; by default all features of the entities, without the limits of views.
    spine_frame
        The rows of a training set: a column of entities and a column `as_of` of aware times; any
        other columns are kept. Any source of `mlflow_timescale.common.frames.Frame`.
    entity
        The column of the entities; for several kinds of entity, a mapping of column to features.
    as_of
        The column of the times. `get_latest` and `health`: a moment, by default now.
    feature_version
        Read: a version for all features, or a mapping by feature; by default a cell has the newest
        version that was known at its as_of. Write: the version of the values.
    max_age
        A duration (a timedelta, or text such as "5d" or "1 session"): leave out values whose
        event_time is older than as_of - max_age. Sessions need a calendar.
    calendar
        A trading calendar such as "XNYS", on whose session days alone `max_age` counts. By default
        sessions are counted by the calendar of the feature's view.
    max_staleness
        The limit of the view that is read, by the view's calendar, which holds beside `max_age`. A
        duration replaces it, None lifts it.
    written_by
        Leave out what was written after this moment, even if it claims to have been known before (a
        backfill). With a past `watermark()` the same call always returns the same frame.
    universe
        The name of a recorded universe, or a frame as `record_universe` takes it: cells whose
        entity is not part of it at their as_of are empty, a warning counts their rows, and
        `explain` names them.
    output
        "pandas", "arrow" or "polars".
    availability_lag
        The assumption of when a value became known: a timedelta after event_time, a `SessionRule`,
        or its text, such as "XNYS next open". By default a value becomes known now, by the
        database's clock.
    run_id
        The MLflow run to record; by default the active one.
    forecast
        True allows an event_time after the ingest time.
    view
        A FeatureView, or the name of a registered one. It determines the version, and must contain
        every feature.

    Raises
    ------
    FeatureError
        The base of all errors of this package.
    db.Error
        The database cannot be reached, or refuses the call; FeatureError derives from it.

    Examples
    --------
    The examples of the methods continue from here.

    >>> import pandas as pd
    >>> from datetime import datetime, timedelta, timezone
    >>> store = FeatureStore(uri, producer="notebook")
    >>> dates = pd.date_range("2024-01-02 21:00", periods=3, freq="D", tz="UTC")
    >>> momentum = pd.DataFrame({"entity_key": "AAPL", "event_time": dates})
    >>> momentum["ret_5d"] = [0.01, 0.02, 0.03]
    >>> store.write_frame(momentum, availability_lag="XNYS next open")
    3
    >>> spine = pd.DataFrame({"entity_key": "AAPL", "as_of": dates + pd.Timedelta(days=1)})
    """

    def __init__(
        self,
        uri: str | DatabaseURI | db.Database | None = None,
        producer: str | None = None,
        producer_version: str | None = None,
        *,
        readers: int | None = None,
        conninfo: str | None = None,
        dsn: str | None = None,
    ) -> None:
        super().__init__(db.one_of(uri, conninfo, dsn), readers=readers)
        self.producer = producer or default_producer()
        self._producer_version = producer_version

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.uri)!r}, producer={self.producer!r})"

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def producer_version(self) -> str | None:
        """The code version that is recorded with writes; None outside of a git repository.

        Examples
        --------
        >>> FeatureStore(uri, producer_version="4f2a9c1").producer_version
        '4f2a9c1'
        """
        return self._producer_version or git.version(Path.cwd())

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
        """Write features of one entity at one event time.

        A value that differs from what is known is stored as a revision, known from now on. NaN
        means "computed, undefined"; vectors and mappings are stored as JSON.

        Parameters
        ----------
        timestamp
            The event time (aware).
        features
            Values by feature name.
        ingest_time
            When the values became known, if that was observed (aware).

        Returns
        -------
        int
            How many values were new.

        Raises
        ------
        InvalidTime
            A time is naive, or `timestamp` is after the ingest time and `forecast` is False.
        InvalidValue
            A value is neither a number nor JSON.
        ConflictingValues
            Another value is stored at the same event and ingest time.
        DefinitionError
            The values contradict the view.

        Examples
        --------
        >>> close = datetime(2024, 1, 5, 21, tzinfo=timezone.utc)
        >>> store.write_features("AAPL", close, {"rsi_14": 61.2}, ingest_time=close)
        1
        >>> store.write_features("AAPL", close, {"rsi_14": 61.2}, ingest_time=close)
        0
        """
        if not features:
            return 0
        batch = one_row(entity_key, timestamp, features, ingest_time)
        spec = self._spec(feature_version, availability_lag, run_id, forecast=forecast)
        with self.connection() as conn:
            return writing.write_points(conn, batch, spec, view)

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
        features: Sequence[str] | Mapping[str, str] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Write a frame, whole or not at all. Writing the same rows again has no effect.

        Parameters
        ----------
        frame
            Any source of `mlflow_timescale.common.frames.Frame`: a pandas frame or series, also
            indexed by entity and event time, a polars or Arrow frame, a DuckDB relation, a mapping
            of columns, a CSV or Parquet file, a directory of these, or an iterator of frames, which
            together may be larger than memory. Entities in a CSV file are text as written. A null
            is not written; NaN is.
        layout
            "wide": every column besides the ones named below is a feature. "long": the columns are
            `feature_name` and `value`.
        entity, event_time, ingest_time
            The names of the columns, or of levels of the index; by default there is no column of
            ingest times.
        view
            Columns of a wide frame that it does not have are ignored; one log line names them.
        features
            Columns of a wide frame to write: names, or a mapping to feature names; default: all.
        restate
            True stores a different value at an existing event and ingest time as a revision known
            from now on, instead of raising ConflictingValues.
        progress
            Called with the number of values after each batch.

        Returns
        -------
        int
            How many values were new.

        Raises
        ------
        InvalidFrame
            A column is missing, or the kind of frame is unknown.
        InvalidTime, InvalidValue
            A time is naive or after its ingest time; a value is neither a number nor JSON.
        ConflictingValues
            Names up to ten rows that contradict stored values.
        DefinitionError
            The values contradict a registered view.

        Warns
        -----
        MidnightEvents
            All event times are midnights, and `availability_lag` is shorter than a day.

        Examples
        --------
        >>> store.write_frame(momentum.assign(ret_5d=[0.01, 0.02, 0.035]))  # one revision
        1
        >>> store.history("AAPL", "ret_5d")[["revision", "value"]].values.tolist()
        [[1.0, 0.01], [1.0, 0.02], [1.0, 0.03], [2.0, 0.035]]
        """
        shape = FrameLayout(layout, entity, event_time, ingest_time, features)
        spec = self._spec(feature_version, availability_lag, run_id, forecast, restate)
        values = BATCH_POINTS * (1 if layout == "wide" else LONG_COLUMNS)
        definitions.require_view(view)
        known = self.view(view) if isinstance(view, str) else view
        texts = set() if known is None else definitions.category_names(known)
        source = Frame(frame, text=shape.identifiers | texts, keys=shape.keys)
        batches = writing.frame_points(source.batches(values), shape, known, spec.availability)
        progress = progress or (lambda count: None)
        with self.database.connections(2) as (conn, aside):
            return writing.write_batches(conn, aside, batches, spec, view, progress)

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
        max_age: str | Duration | None = None,
        calendar: str | None = None,
        max_staleness: str | Duration | None = OF_VIEW,
        written_by: datetime | None = None,
        name: str | None = None,
        partition: str | None = "month",
    ) -> snapshots.Snapshot:
        """Write a training set to immutable files.

        Parameters
        ----------
        path
            A new local folder, or any fsspec URL.
        name
            By default that of the folder.
        partition
            "year", "month", "day" of as_of, or None for one file.

        Returns
        -------
        Snapshot

        Raises
        ------
        SnapshotExists
            The folder is not empty.
        SnapshotError
            `partition` is unknown.
        InvalidTime
            `written_by` is later than the watermark.

        Examples
        --------
        >>> snapshot = store.snapshot(spine, "ret_5d", "momentum-2024")
        >>> snapshot.to_pandas()["ret_5d"].tolist()
        [0.01, 0.02, 0.03]
        """
        query = self._query(
            features,
            entity=entity,
            as_of=as_of,
            feature_version=feature_version,
            max_age=max_age,
            written_by=written_by,
            calendar=calendar,
            max_staleness=max_staleness,
        )
        return snapshots.write_snapshot(
            self.database, spine_frame, query, path, name=name, partition=partition
        )

    def export(
        self, path: str | Path, features: list[str] | None = None, *, buckets: int = 8
    ) -> lake_export.Exported:
        """Create or update the feature lake at `path`: Parquet files with exact as-of joins.

        Parameters
        ----------
        path
            A local folder, or any fsspec URL.
        buckets
            Partitions by entity; an existing lake keeps its number.

        Returns
        -------
        Exported
            What was read and written, and the new watermark.

        Raises
        ------
        LakeError
            The folder holds something else, or another process exports to it.

        Examples
        --------
        >>> store.export("lake").points
        3
        """
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
        """Freshness, gaps, statistics and write lag of features.

        Parameters
        ----------
        entities
            A list of entities; by default all.
        calendar
            An exchange, such as "XNYS": weekends and holidays then do not age a value.
        **options
            zone, sessions, max_staleness and universe of `feature_store.health.check_health`.

        Returns
        -------
        Health

        Raises
        ------
        UnknownFeature
            A name is neither written nor defined.
        UnknownCalendar
            There is no such calendar.
        InvalidValue
            `sessions` is below 1.

        Examples
        --------
        >>> moment = datetime(2024, 1, 8, 21, tzinfo=timezone.utc)
        >>> health = store.health(as_of=moment, calendar="XNYS", max_staleness=timedelta(days=1))
        >>> [(entry.feature_name, entry.age.days) for entry in health.stale]
        [('ret_5d', 2)]
        """
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
