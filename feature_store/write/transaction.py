"""The transaction of a write: every key enters once, and nothing is ever changed in place.

The series of a write are locked first and the clock is read afterwards, so that for every series
the order of the stamps is the order of the commits, and a comparison with what is stored cannot be
overtaken. Points that cannot meet a stored one are copied straight into the table: those with
ingest times where no key is stored, the others where nothing is stored between the first and the
last new event of any series. Else they are staged and merged as a set.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import psycopg

from mlflow_timescale import db
from mlflow_timescale.common.micros import Micros
from mlflow_timescale.common.text import check_text
from mlflow_timescale.common.time import from_micros, to_micros
from mlflow_timescale.db.arrays import Int4Array, TimestampArray
from mlflow_timescale.db.rows import mappings, scalar

from ..catalogue.series import Ids
from ..errors import ConflictingValues
from ..values.names import check_version
from ..values.points import check_order
from .availability import Availability
from .batch import Batch

_queries = db.load("features")
CLOCK_SKEW = 60_000_000  # how far a producer's clock may be ahead of the server's, in microseconds
_PROBES = 1_000
_ANALYZE = 10_000  # staged points from which on the planner should know how many there are
_ADVICE = "Nothing was written; restate=True stores these values as revisions known from now on"
_TWICE = "Nothing was written: the frame itself gives two values for one key"


@dataclass(frozen=True)
class WriteSpec:
    """How to write, and on whose account. Raises FeatureError."""

    version: int = 1
    availability: Availability | None = None
    forecast: bool = False
    restate: bool = False
    producer: str | None = None
    producer_version: str | None = None
    run_id: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", check_version(self.version))
        for name in ("producer", "producer_version", "run_id"):
            check_text(getattr(self, name), name)

    @property
    def assumed_lag(self) -> str | None:
        """The rule that gave the ingest times, in words."""
        return None if self.availability is None else str(self.availability)


@dataclass
class _Entry:
    """A row of `mlops.feature_writes` while its points come in."""

    write_id: int
    stamp: datetime
    points: int = 0
    first: datetime | None = None
    last: datetime | None = None

    def add(self, points: int, first: datetime, last: datetime) -> int:
        if points:
            self.points += points
            self.first = min(first, self.first or first)
            self.last = max(last, self.last or last)
        return points


class WriteTransaction:
    """A `with` block that commits if something was stored, and else leaves no trace."""

    def __init__(self, conn: db.Connection, spec: WriteSpec) -> None:
        self._conn = conn
        self._spec = spec
        self._entries: dict[str, _Entry] = {}
        self._has_stage = False

    def __enter__(self) -> WriteTransaction:
        self._block = self._conn.transaction()
        self._transaction = self._block.__enter__()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            try:
                error = self._finish()
                kind = type(error) if error else None
            except BaseException as failure:
                self._block.__exit__(type(failure), failure, failure.__traceback__)
                raise
        self._block.__exit__(kind, error, trace)

    @property
    def stored(self) -> int:
        """How many points this write has brought so far."""
        return sum(entry.points for entry in self._entries.values())

    def add(self, batch: Batch) -> None:
        """Store a batch: straight, or merged where something is stored already."""
        ids, first, last = batch.event_ranges()
        self._conn.execute(_queries.lock_series, {"series": Int4Array(ids)}, binary=True)
        entry = self._entry("write")
        if batch.ingest is None:
            check_order(batch.event, to_micros(entry.stamp), self._spec.forecast, CLOCK_SKEW)
            meets = self._overlaps(ids, first, last)
        else:
            meets = self._repeats(batch)
        if not meets and self._copy(entry, batch):
            return
        self.stage(batch)
        if len(batch) > _ANALYZE:
            self._conn.execute(_queries.analyze_stage)
        if batch.ingest is None:
            self._merge_unstamped(entry, len(batch))
        else:
            self._merge_observed(entry, batch)
        self._conn.execute(_queries.empty_stage)

    def stage(self, batch: Batch) -> None:
        """Copy a batch into the stage, which is created by the first."""
        if not self._has_stage:
            self._conn.execute(_queries.create_stage)
            self._has_stage = True
        with self._conn.cursor() as cursor:
            if batch.ingest is not None:
                batch.copy(cursor, _queries.copy_stage, _queries.copy_json_stage)
            else:
                unstamped = (_queries.copy_stage_unstamped, _queries.copy_json_stage_unstamped)
                batch.copy(cursor, *unstamped)

    def merge_staged(self) -> None:
        """Lock the series of all that is staged without ingest times, and store it as of now."""
        if not self._has_stage:
            return
        self._conn.execute(_queries.analyze_stage)
        count, last = self._conn.execute(_queries.staged).fetchone() or (0, None)
        if not count:
            return
        self._conn.execute(_queries.lock_staged_series)
        entry = self._entry("write")
        check_order(
            np.array([to_micros(last)]), to_micros(entry.stamp), self._spec.forecast, CLOCK_SKEW
        )
        self._merge_unstamped(entry, count)

    def _entry(self, name: str) -> _Entry:
        """The record of this write, or of what it restates; stamped when first needed."""
        if name not in self._entries:
            if not self._entries:
                self._conn.execute(_queries.announce_write)
            provenance = {
                "producer": self._spec.producer,
                "producer_version": self._spec.producer_version,
                "run_id": self._spec.run_id,
                "assumed_lag": self._spec.assumed_lag if name == "write" else None,
            }
            row: Any = self._conn.execute(_queries.begin_write, provenance).fetchone()
            self._entries[name] = _Entry(*row)
        return self._entries[name]

    def _overlaps(self, ids: Ids, first: Micros, last: Micros) -> bool:
        """Whether any series holds a point between its first and its last new event."""
        ranges = {
            "series": Int4Array(ids),
            "first": TimestampArray(first),
            "last": TimestampArray(last),
        }
        return bool(scalar(self._conn, _queries.overlaps, ranges))

    def _repeats(self, batch: Batch) -> bool:
        """Whether a key of the batch is stored, going by a sample: a rerun is found out at once.

        The few that it misses end the COPY, and what that had stored is left to be vacuumed.
        """
        rows = np.unique(np.linspace(0, len(batch) - 1, _PROBES).astype(np.intp))
        assert batch.ingest is not None  # nosec B101  # for mypy
        keys = {
            "series": Int4Array(batch.series[rows]),
            "event": TimestampArray(batch.event[rows]),
            "ingest": TimestampArray(batch.ingest[rows]),
        }
        return bool(scalar(self._conn, _queries.any_stored, keys))

    def _copy(self, entry: _Entry, batch: Batch) -> bool:
        """Copy straight into the table; False, and nothing stored, if a key is there already."""
        if batch.ingest is None:
            stamp = np.full(len(batch), to_micros(entry.stamp), dtype=np.int64)
            batch = replace(batch, ingest=stamp)
        write_id = np.full(len(batch), entry.write_id, dtype=np.int64)
        try:
            with self._conn.transaction(), self._conn.cursor() as cursor:
                batch.copy(cursor, _queries.copy_points, _queries.copy_json_points, write_id)
        except psycopg.errors.UniqueViolation:
            return False
        assert batch.ingest is not None  # nosec B101  # for mypy
        entry.add(len(batch), from_micros(batch.ingest.min()), from_micros(batch.ingest.max()))
        return True

    def _merge_observed(self, entry: _Entry, batch: Batch) -> None:
        assert batch.ingest is not None  # nosec B101  # for mypy
        inserted = self._conn.execute(_queries.merge_observed, {"write_id": entry.write_id})
        ends = from_micros(batch.ingest.min()), from_micros(batch.ingest.max())
        if entry.add(inserted.rowcount, *ends) == len(batch):
            return
        self._refuse_contradictions(entry, own=self._spec.restate)
        if self._spec.restate:
            self._restate(entry)

    def _merge_unstamped(self, entry: _Entry, staged: int) -> None:
        if self._merge_now(entry) != staged:
            self._refuse_contradictions(entry, own=True)

    def _restate(self, entry: _Entry) -> None:
        """Store what contradicts as revisions known from now on: observed, so by a record."""
        self._conn.execute(_queries.keep_contradictions, {"write_id": entry.write_id})
        self._merge_now(self._entry("restatement"))

    def _merge_now(self, entry: _Entry) -> int:
        values = {"write_id": entry.write_id, "stamp": entry.stamp}
        inserted = self._conn.execute(_queries.merge_now, values)
        return entry.add(inserted.rowcount, entry.stamp, entry.stamp)

    def _refuse_contradictions(self, entry: _Entry, own: bool) -> None:
        values = {"stamp": entry.stamp, "own": own, "write_id": entry.write_id}
        rows = mappings(self._conn, _queries.contradictions, values)
        if rows:
            raise ConflictingValues(rows, rows[0]["total"], _TWICE if own else _ADVICE)

    def _finish(self) -> psycopg.Rollback | None:
        """Complete the records; if nothing was stored, the exception that undoes everything."""
        if not self.stored:
            return psycopg.Rollback(self._transaction)
        for entry in self._entries.values():
            query = _queries.finish_write if entry.points else _queries.forget_write
            self._conn.execute(query, vars(entry))
        return None
