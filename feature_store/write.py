"""Writing: points enter in one transaction, each key once, and nothing is ever changed in place.

The series of a write are locked first and the clock is read afterwards, so that for every series the
order of the stamps is the order of the commits, and a comparison with what is stored cannot be
overtaken. Where nothing is stored yet between the first and the last new event of any series, points
are copied straight into the table; else, and for streams, they are staged and merged as sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg.rows import dict_row

from feature_store.arrays import Int4Array, TimestampArray
from feature_store.batch import Batch, make_batch
from feature_store.calendars import Availability
from feature_store.errors import ConflictingValues, InvalidFrame, WriteContention
from feature_store.points import Points, check_order
from feature_store.series import SeriesWriter
from feature_store.times import from_micros, to_micros
from mlflow_timescale import db

_queries = db.load("features")
CLOCK_SKEW = 60_000_000  # how far a producer's clock may be ahead of the server's, in microseconds
_ADVICE = "Nothing was written; restate=True stores these values as revisions known from now on"


@dataclass(frozen=True)
class WriteSpec:
    """How to write, and on whose account."""

    version: int = 1
    availability: Availability | None = None
    forecast: bool = False
    restate: bool = False
    producer: str | None = None
    producer_version: str | None = None
    run_id: str | None = None

    def provenance(self) -> dict[str, Any]:
        """The columns of `mlops.feature_writes` that the writer gives."""
        lag = None if self.availability is None else str(self.availability)
        return {
            "producer": self.producer,
            "producer_version": self.producer_version,
            "run_id": self.run_id,
            "assumed_lag": lag,
        }


def write_points(conn: db.Connection, points: Points, spec: WriteSpec) -> int:
    """Write one batch; return how many points were new.

    Raises ConflictingValues, InvalidTime or WriteContention; then nothing was written.
    """
    points = apply_availability(points, spec)
    if not len(points):
        return 0
    batch = make_batch(points, SeriesWriter(conn, spec.version).ids(points))
    with _readable_contention(), _Transaction(conn, spec) as transaction:
        return transaction.write(batch)


def write_stream(
    conn: db.Connection,
    series: SeriesWriter,
    stream: Iterator[Points],
    spec: WriteSpec,
    progress: Callable[[int], None] = lambda points: None,
) -> int:
    """Write batches as one: all are staged, then merged at once. Memory is that of one batch.

    `series` creates new series on a connection of its own; see `SeriesWriter.ids`.
    """
    with _readable_contention(), _Transaction(conn, spec) as transaction:
        for points in stream:
            lagged = apply_availability(points, spec)
            if len(lagged):
                transaction.stage(make_batch(lagged, series.ids(lagged)))
            progress(len(points))
        return transaction.merge_stream()


def apply_availability(points: Points, spec: WriteSpec) -> Points:
    """Compute the ingest times where a rule gives them, and check those that are given."""
    if spec.availability is not None:
        if points.ingest is not None:
            raise InvalidFrame("give ingest_time or availability_lag, not both")
        points = replace(points, ingest=spec.availability.known_at(points.event))
    if points.ingest is not None:
        check_order(points.event, points.ingest, spec.forecast)
    return points


class _Transaction:
    """One write: a `with` block that commits if something was stored, and else leaves no trace."""

    def __init__(self, conn: db.Connection, spec: WriteSpec) -> None:
        self._conn = conn
        self._spec = spec
        self._staged: int | None = None
        self._stored = 0
        self._explicit = False

    def __enter__(self) -> _Transaction:
        self._block = self._conn.transaction()
        self._block.__enter__()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None and not self._stored:
            kind, error = psycopg.Rollback, psycopg.Rollback(self._block)
        self._block.__exit__(kind, error, trace)

    def write(self, batch: Batch) -> int:
        """Store a batch that is in memory: straight, or merged where something is stored already."""
        ids, first, last = batch.event_ranges()
        self._conn.execute(_queries.lock_series, {"series": Int4Array(ids)}, binary=True)
        self._begin()
        if batch.ingest is None:
            check_order(batch.event, to_micros(self._stamp), self._spec.forecast, CLOCK_SKEW)
        ranges = {
            "series": Int4Array(ids),
            "first": TimestampArray(first),
            "last": TimestampArray(last),
        }
        if _value(self._conn.execute(_queries.overlaps, ranges)):
            self.stage(batch)
            return self._merge()
        return self._copy(batch)

    def stage(self, batch: Batch) -> None:
        """Copy a batch into the stage, which is created by the first."""
        if self._staged is None:
            self._conn.execute(_queries.create_stage)
            self._staged = 0
        self._explicit = batch.ingest is not None
        with self._conn.cursor() as cursor:
            if self._explicit:
                batch.copy(cursor, _queries.copy_stage, _queries.copy_json_stage)
            else:
                unstamped = (_queries.copy_stage_unstamped, _queries.copy_json_stage_unstamped)
                batch.copy(cursor, *unstamped)
        self._staged += len(batch)

    def merge_stream(self) -> int:
        """Lock the series of all that is staged, and merge it."""
        if self._staged is None:
            return 0
        self._conn.execute(_queries.analyze_stage)
        self._conn.execute(_queries.lock_staged_series)
        self._begin()
        if not self._explicit:
            self._check_staged_events()
        return self._merge()

    def _begin(self) -> None:
        self._conn.execute(_queries.announce_write)
        self._write_id, self._stamp = self._record(self._spec.provenance())

    def _record(self, provenance: dict[str, Any]) -> tuple[int, Any]:
        row: Any = self._conn.execute(_queries.begin_write, provenance).fetchone()
        return row

    def _check_staged_events(self) -> None:
        import numpy as np

        last = to_micros(_value(self._conn.execute(_queries.staged_last_event)))
        check_order(np.array([last]), to_micros(self._stamp), self._spec.forecast, CLOCK_SKEW)

    def _copy(self, batch: Batch) -> int:
        import numpy as np

        write_id = np.int64(self._write_id)
        if batch.ingest is None:
            stamp = np.full(len(batch), to_micros(self._stamp), dtype=np.int64)
            batch = replace(batch, ingest=stamp)
        with self._conn.cursor() as cursor:
            batch.copy(cursor, _queries.copy_points, _queries.copy_json_points, write_id)
        assert batch.ingest is not None
        ends = from_micros(batch.ingest.min()), from_micros(batch.ingest.max())
        return self._finish(self._write_id, len(batch), ends)

    def _merge(self) -> int:
        if not self._explicit:
            stored = self._merge_now(self._write_id)
            if stored != self._staged:
                self._refuse_contradictions(own=True)
            return self._finish(self._write_id, stored, (self._stamp, self._stamp))
        ends: Any = self._conn.execute(_queries.ingest_range, {"stamp": None}).fetchone()
        inserted = self._conn.execute(_queries.merge_observed, {"write_id": self._write_id})
        stored = self._finish(self._write_id, inserted.rowcount, ends)
        if stored == self._staged:
            return stored
        self._refuse_contradictions(own=self._spec.restate)
        return stored + (self._restate() if self._spec.restate else 0)

    def _restate(self) -> int:
        """Store what contradicts as revisions known from now on: observed, so a write of its own."""
        self._conn.execute(_queries.keep_contradictions, {"write_id": self._write_id})
        write_id, self._stamp = self._record(self._spec.provenance() | {"assumed_lag": None})
        return self._finish(write_id, self._merge_now(write_id), (self._stamp, self._stamp))

    def _merge_now(self, write_id: int) -> int:
        values = {"write_id": write_id, "stamp": self._stamp}
        return self._conn.execute(_queries.merge_now, values).rowcount

    def _refuse_contradictions(self, own: bool) -> None:
        values = {"stamp": self._stamp, "own": own, "write_id": self._write_id}
        with self._conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(_queries.contradictions, values).fetchall()
        if rows:
            total = rows[0]["total"]
            raise ConflictingValues(rows, total, _ADVICE if not own else _TWICE)

    def _finish(self, write_id: int, stored: int, ends: tuple[Any, Any]) -> int:
        values = {"write_id": write_id, "points": stored, "first": ends[0], "last": ends[1]}
        self._conn.execute(_queries.finish_write if stored else _queries.forget_write, values)
        self._stored += stored
        return stored


_TWICE = "Nothing was written: the frame itself gives two values for one key"


class _readable_contention:  # noqa: N801 - reads as a function in a `with` block
    """Translate what the database says when writers meet."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, psycopg.errors.DeadlockDetected):
            raise WriteContention(
                "another write blocked this one and the database ended it; nothing was written, "
                "so write it again"
            ) from error


def _value(cursor: psycopg.Cursor[Any]) -> Any:
    row = cursor.fetchone()
    return row[0] if row else None
