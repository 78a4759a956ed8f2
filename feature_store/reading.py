"""The reading half of `FeatureStore`: points in time, training sets, and audits."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import Any

from mlflow_timescale import db
from mlflow_timescale.common.frames import make_frame
from mlflow_timescale.common.rows import Rows
from mlflow_timescale.common.text import check_text
from mlflow_timescale.common.time import Duration
from mlflow_timescale.db.uri import DatabaseURI

from .catalogue import definitions
from .catalogue.selection import Features, Versions, feature_names_of, version_of
from .read import changes, explain, revisions, watermarks
from .read.point_in_time import FeatureValue, Options, drop_expired, latest, read_cells
from .read.query import OF_VIEW, PointInTimeQuery
from .read.spine import EntityColumns
from .values import stored
from .values.names import check_columns, entity_keys

EVENT_TIME = "__event_time"  # ends the name of a column of event times
_MOST_READERS = 4  # beyond that they wait for each other in the database


class FeatureReader:
    """The part of `FeatureStore` that reads; it holds the connections."""

    def __init__(self, uri: str | DatabaseURI | db.Database, *, readers: int | None = None) -> None:
        self.database = db.Database.of(
            uri, application="feature_store", setup=stored.register, translate=True
        )
        self.uri = self.database.uri
        self._readers = readers or min(_MOST_READERS, os.cpu_count() or 1)

    def close(self) -> None:
        """Close the connections; the next call opens new ones.

        Examples
        --------
        >>> store.close()
        """
        self.database.close()

    def connection(self) -> AbstractContextManager[db.Connection]:
        """An autocommit connection to the database, exclusive for the `with` block.

        Returns
        -------
        context manager of psycopg.Connection

        Examples
        --------
        >>> with store.connection() as conn:
        ...     conn.execute("SELECT count(*) FROM mlops.feature_points").fetchone()
        (3,)
        """
        return self.database.connection()

    def get_latest(
        self,
        entity_key: str | Sequence[str],
        feature_names: Features | None = None,
        *,
        as_of: datetime | None = None,
        feature_version: Versions = None,
        max_age: str | Duration | None = None,
        calendar: str | None = None,
        max_staleness: str | Duration | None = OF_VIEW,
    ) -> Any:
        """What is known of an entity now, or was known at `as_of`.

        Returns
        -------
        dict of FeatureValue
            By feature name; for a list of entities, a dict of these by entity. A feature without a
            value is left out.

        Raises
        ------
        UnknownFeature
            A name was never written.

        Examples
        --------
        >>> noon = datetime(2024, 1, 3, 17, tzinfo=timezone.utc)
        >>> store.get_latest("AAPL", as_of=noon)["ret_5d"].value
        0.01
        >>> store.get_latest(["AAPL", "MSFT"], ["ret_5d"])["MSFT"]
        {}
        """
        entities = entity_keys(entity_key)
        query = self._query(
            () if feature_names is None else feature_names,
            feature_version=feature_version,
            max_age=max_age,
            calendar=calendar,
            max_staleness=max_staleness,
        )
        names, versions = None, feature_version
        if feature_names is not None:
            names, versions = query.selection.names, query.versions
        with self.connection() as conn:
            by_entity = latest(conn, entities, names, as_of=as_of, versions=versions)
            if query.has_limits:
                drop_expired(conn, by_entity, query.limits_of)
        return by_entity[entity_key] if isinstance(entity_key, str) else by_entity

    def get_point_in_time(
        self,
        entity_times: Iterable[tuple[str, datetime]],
        feature_names: Features | None = None,
        *,
        feature_version: Versions = None,
        max_age: str | Duration | None = None,
        calendar: str | None = None,
        max_staleness: str | Duration | None = OF_VIEW,
    ) -> list[FeatureValue]:
        """The values that were known at given moments; `training_frame` is faster for many.

        Parameters
        ----------
        entity_times
            Pairs of an entity and an as_of (aware).

        Returns
        -------
        list of FeatureValue
            In the order of the pairs, then of the features; missing values are left out. Its
            method `to_frame()` returns a frame.

        Raises
        ------
        UnknownFeature
            A name was never written.

        Examples
        --------
        >>> pairs = [("AAPL", datetime(2024, 1, day, 17, tzinfo=timezone.utc)) for day in (3, 4)]
        >>> [value.value for value in store.get_point_in_time(pairs)]
        [0.01, 0.02]
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
            query = self._query(
                names,
                feature_version=feature_version,
                max_age=max_age,
                calendar=calendar,
                max_staleness=max_staleness,
            )
            return Rows(explain.values(conn, query.spine(pairs), query))

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
        event_times: bool = False,
        output: str | None = None,
        written_by: datetime | None = None,
        universe: Any = None,
        plan: str | None = None,
    ) -> Any:
        """The spine with a column for each feature: its value as it was known at the row's as_of.

        Parameters
        ----------
        event_times
            True adds a column `<feature>__event_time` for each feature.
        plan
            "lookup" or "stream" overrides the choice that is made by size.

        Returns
        -------
        frame
            Of the kind of the spine (or `output`), with its rows, order, index and columns. A cell
            without a value is null (NaN in pandas).

        Raises
        ------
        UnknownFeature
            A name or version was never written.
        InvalidFrame
            The spine lacks a column, or has one of a feature's name.
        InvalidTime
            An as_of is missing or naive.

        Examples
        --------
        >>> store.training_frame(spine, "ret_5d")["ret_5d"].tolist()
        [0.01, 0.02, 0.03]
        >>> store.training_frame(spine, "ret_5d", max_age=timedelta(hours=12))["ret_5d"].tolist()
        [nan, nan, nan]
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
            universe=universe,
        )
        spine = query.spine(spine_frame)
        names = query.selection.names
        times = [f"{name}{EVENT_TIME}" for name in names if event_times]
        check_columns([*names, *times], spine.frame.names)
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
                added[f"{name}{EVENT_TIME}"] = cells.event[j].view("M8[us]")
        return spine.join(added, output)

    def explain(
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
        output: str = "pandas",
        written_by: datetime | None = None,
        universe: Any = None,
    ) -> Any:
        """The origin of every cell of a training set, and the reason where a value is missing.

        Returns
        -------
        frame
            One row for each row of the spine and feature: row, entity_key, as_of, feature_name,
            feature_version, value, event_time, ingest_time, producer, producer_version, run_id,
            assumed_lag (null if the ingest time was observed) and reason: "never written", "not yet
            known", "expired", "outside of the universe" or "written as undefined".

        Raises
        ------
        UnknownFeature
            A name or version was never written.

        Examples
        --------
        >>> cells = store.explain(spine[:1], "ret_5d")
        >>> cells[["value", "producer", "assumed_lag"]].values.tolist()
        [[0.01, 'notebook', 'next XNYS open']]
        >>> early = spine.assign(as_of=dates - pd.Timedelta(hours=1))[:1]
        >>> store.explain(early, "ret_5d")["reason"].tolist()
        ['not yet known']
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
            universe=universe,
        )
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
        """All values of one feature of one entity, with their revisions.

        Returns
        -------
        frame
            Oldest event first. `revision` counts from 1 within an event time; `previous_value` is
            the value that a revision replaced.

        Raises
        ------
        UnknownFeature
            The feature was never written.

        Examples
        --------
        >>> store.history("AAPL", "ret_5d")[["revision", "value"]].values.tolist()
        [[1.0, 0.01], [1.0, 0.02], [1.0, 0.03]]
        """
        check_text({"entity_key": entity_key, "feature": feature}, "history")
        feature_version = version_of(feature, feature_version) or None
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
        change: str | None = None,
        summary: bool = False,
        output: str = "pandas",
    ) -> Any:
        """What became known after one moment and up to another: new values and revisions.

        Parameters
        ----------
        as_of_1, as_of_2
            The moments (aware), the earlier one first.
        entities
            A list of entities; by default all.
        change
            "new" or "revised"; by default both.
        summary
            True gives one row for each feature, version and kind of change: the numbers of values
            and entities, and of revised numbers the mean and the largest absolute difference.

        Returns
        -------
        frame
            One row for each value; `change` is "new" or "revised", `previous_value` what was known
            before.

        Raises
        ------
        InvalidTime
            A moment is naive, or the second is earlier than the first.
        InvalidValue
            `change` is unknown.

        Examples
        --------
        >>> changes = store.diff(dates[0], dates[1])
        >>> changes[["feature_name", "change", "value"]].values.tolist()
        [['ret_5d', 'new', 0.01]]
        >>> store.diff(dates[0], dates[1], summary=True)[["change", "values"]].values.tolist()
        [['new', 1]]
        """
        changes.check_change(change)
        check_text({"entities": entities, "features": features}, "diff")
        with self.connection() as conn:
            rows = revisions.diff(conn, as_of_1, as_of_2, entities, features)
        chosen = changes.only(rows, change)
        return make_frame(changes.summary(chosen) if summary else chosen, output)

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
        """By feature, how often a join on event_time alone would look into the future.

        Returns
        -------
        frame
            One row for each feature. `leaked` counts cells filled with a value that was not known
            at as_of, `changed` those of them where the point-in-time answer differs, `assumed`
            cells whose ingest time is an assumption; the shares are of `cells`.

        Raises
        ------
        UnknownFeature
            A name or version was never written.

        Examples
        --------
        >>> evening = spine.assign(as_of=dates + pd.Timedelta(hours=1))
        >>> store.leak_report(evening, "ret_5d")[["cells", "leaked", "leak_share"]].values.tolist()
        [[3.0, 3.0, 1.0]]
        """
        query = PointInTimeQuery(features, entity, as_of, feature_version)
        spine = query.spine(spine_frame)
        with self.connection() as conn:
            rows = revisions.leak_report(conn, spine, query)
        return make_frame(rows, output)

    def features(self, output: str = "pandas") -> Any:
        """All features and versions that have values, with their entities, first and last event.

        Returns
        -------
        frame
            One row for each feature and version.

        Examples
        --------
        >>> store.features()[["feature_name", "feature_version", "entities"]].values.tolist()
        [['ret_5d', 1, 1]]
        """
        with self.connection() as conn:
            return make_frame(revisions.inventory(conn), output)

    def lineage(
        self, feature: str, *, feature_version: int | None = None, output: str = "pandas"
    ) -> Any:
        """The writers of a feature: producers, code versions, runs, assumptions, counts and times.

        Returns
        -------
        frame
            One row for each combination.

        Raises
        ------
        UnknownFeature
            The feature was never written.

        Examples
        --------
        >>> store.lineage("ret_5d")[["producer", "assumed_lag", "points"]].values.tolist()
        [['notebook', 'next XNYS open', 3]]
        """
        check_text(feature, "feature")
        feature_version = version_of(feature, feature_version) or None
        with self.connection() as conn:
            return make_frame(revisions.lineage(conn, feature, feature_version), output)

    def watermark(self) -> datetime:
        """The newest settled moment: no write stamped at or before it can still appear.

        Call it on the primary, not on a replica.

        Returns
        -------
        datetime
            In UTC. As `written_by` it makes a read repeatable.

        Examples
        --------
        >>> settled = store.watermark()
        >>> store.training_frame(spine, "ret_5d", written_by=settled)["ret_5d"].tolist()
        [0.01, 0.02, 0.03]
        """
        with self.connection() as conn:
            return watermarks.watermark(conn)

    def _query(self, features: Features, **options: Any) -> PointInTimeQuery:
        """A query; where it counts sessions, with the calendars of the registered views."""
        query = PointInTimeQuery(features, **options)
        if not query.counts_sessions:
            return query
        with self.connection() as conn:
            return replace(query, calendars=definitions.calendars(conn))
