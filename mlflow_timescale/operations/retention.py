"""Remove the points of runs that have not been written to for a long time.

What counts is when a run was last written: a backtest that is logged today has points of years ago.
Runs that a registered version or the drift monitor needs keep all of their points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any

from psycopg import sql

from mlflow_timescale import db
from mlflow_timescale.common.time import require_zone
from mlflow_timescale.db import Connection, rows, with_short_waits
from mlflow_timescale.db.migrations import facts
from mlflow_timescale.operations.adopt import layout

_queries = db.load("retention")
_RUNS_AT_ONCE = 50
_POINT_BYTES = 200  # about, of a point and its key, where the table has no statistics yet


class RetentionError(db.Error):
    """Points cannot be removed from this database as it is."""


@dataclass(frozen=True)
class Candidate:
    """A run that is old enough; `needed_by` names what still needs its points."""

    run_id: str
    written_ms: int
    needed_by: str | None


@dataclass(frozen=True)
class Forecast:
    """What `remove` would remove.

    Attributes
    ----------
    run_ids
        The runs that lose points, in the order of their ids.
    needed
        The number of runs that are old enough and kept, by who needs them.
    points, bytes
        The number of points, and about how much they take.
    written
        When the first and the last of these runs were last written.
    times
        The times of the first and the last of the points.
    """

    run_ids: list[str]
    needed: dict[str, int]
    points: int
    bytes: int
    written: tuple[datetime, datetime] | None
    times: tuple[datetime, datetime] | None


def forecast(conn: Connection, before: datetime, *, by_point_time: bool = False) -> Forecast:
    """Look what would be removed; nothing is changed.

    Parameters
    ----------
    conn
        A connection to the database. Raises RetentionError if it is not adopted, and db.LocksHeld.
    before
        An aware datetime: runs that were last written before it. Raises InvalidTime.
    by_point_time
        The points before that time, of runs that were written at any time.
    """
    cut = _cut(before, by_point_time)
    with db.time_limits(conn):
        _require_ranges(conn)
        return _forecast(conn, cut)


def _forecast(conn: Connection, cut: dict[str, Any]) -> Forecast:
    candidates = rows.records(conn, Candidate, _queries.candidates, cut)
    needed: dict[str, int] = {}
    for candidate in candidates:
        if candidate.needed_by:
            needed[candidate.needed_by] = needed.get(candidate.needed_by, 0) + 1
    going = [candidate for candidate in candidates if not candidate.needed_by]
    run_ids = [candidate.run_id for candidate in going]
    _, points, first, last = rows.one(conn, _queries.measure, {**cut, "run_ids": run_ids})
    written = [candidate.written_ms for candidate in going]
    return Forecast(
        run_ids=run_ids if points else [],
        needed=needed,
        points=points,
        bytes=points * _bytes_of_a_point(conn),
        written=(_time(min(written)), _time(max(written))) if written else None,
        times=(_time(first), _time(last)) if points else None,
    )


def remove(conn: Connection, before: datetime, *, by_point_time: bool = False) -> int:
    """Remove what `forecast` shows, for good; return how many points that were.

    Runs, params, tags and the latest value of each metric stay. On TimescaleDB, chunks without a
    point are dropped, which frees their disk space at once. `conn` must be in autocommit mode.
    Raises db.LocksHeld; what was removed until then is gone, and the next call continues.
    """
    cut = _cut(before, by_point_time)
    removed = 0
    with db.exclusively(conn):
        run_ids = forecast(conn, before, by_point_time=by_point_time).run_ids
        for some in _batches(run_ids):
            removed += with_short_waits(conn, partial(_remove, conn, some, cut))
        if "timescale" in facts(conn):
            _drop_empty_chunks(conn, cut)
    return removed


def _remove(conn: Connection, run_ids: list[str], cut: dict[str, Any]) -> int:
    still = rows.scalars(conn, _queries.lock_runs, {**cut, "run_ids": run_ids})
    parameters = {**cut, "run_ids": still}
    count = conn.execute(_queries.delete_points, parameters).rowcount
    conn.execute(_queries.mark_runs, parameters)
    return count


def _drop_empty_chunks(conn: Connection, cut: dict[str, Any]) -> None:
    for name, start, end in conn.execute(_queries.old_chunks, cut).fetchall():
        chunk = sql.SQL(name)  # quoted by the server

        def drop(chunk: sql.SQL = chunk, start: int = start, end: int = end) -> None:
            conn.execute(_queries.lock_chunk.format(chunk=chunk))
            if rows.scalar(conn, _queries.is_empty.format(chunk=chunk)):
                conn.execute(_queries.drop_chunk, {"start": start, "end": end})

        if rows.scalar(conn, _queries.is_empty.format(chunk=chunk)):
            with_short_waits(conn, drop)


def _require_ranges(conn: Connection) -> None:
    layout(conn)
    if not rows.scalar(conn, _queries.is_ready):
        raise RetentionError(
            "this database does not keep when runs were written: run `mlflow-timescale adopt` first"
        )


def _cut(before: datetime, by_point_time: bool) -> dict[str, Any]:
    milliseconds = int(require_zone(before, "before").timestamp() * 1000)
    return {"before_ms": milliseconds, "by_point_time": by_point_time}


def _bytes_of_a_point(conn: Connection) -> int:
    table = layout(conn)
    return table.bytes // table.points if table.points else _POINT_BYTES


def _time(milliseconds: int) -> datetime:
    """The time, or the last that a datetime can be: MLflow takes any integer."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
    except (OverflowError, ValueError, OSError):
        if milliseconds > 0:
            return datetime.max.replace(tzinfo=timezone.utc)
        return datetime.min.replace(tzinfo=timezone.utc)


def _batches(run_ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(run_ids), _RUNS_AT_ONCE):
        yield run_ids[start : start + _RUNS_AT_ONCE]
