"""The steps of a rebuild of `metrics`: begin, copy, exchange the tables, or give up.

Each strong lock is taken by a transaction of its own with short waits, in the order of the writers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import psycopg
from psycopg import sql

from mlflow_timescale import db
from mlflow_timescale.db import Connection, read_state, rows, with_short_waits
from mlflow_timescale.db.locks import PATIENCE_SECONDS, WAIT_SECONDS, limit_waits, time_limits
from mlflow_timescale.db.migrations import LAYOUT, facts
from mlflow_timescale.operations import carrying

Progress = Callable[[int, int], None]
_queries = db.load("adopt")
# Runs that are copied in one transaction: about this many seconds, because a writer may wait for a
# chunk that it creates, and so that an interruption loses little.
_SECONDS_AT_ONCE = 0.5
_MOST_RUNS_AT_ONCE = 1000
_RUNS_MARKED_AT_ONCE = 20


class CopyDiffers(Exception):
    """A copied run is not what its original is."""


def direction(conn: Connection) -> bool | None:
    """Which rebuild has begun and not ended: True to our layout, False to MLflow's, None: none."""
    is_to_ours: bool | None = rows.scalar(conn, _queries.under_way)
    return is_to_ours


def debris(conn: Connection) -> Literal["adopt", "release", "marks", "table", "triggers"] | None:
    """What an interrupted command left.

    Half of an adoption or of a release, marks to be made, an empty table that was replaced, or
    disabled triggers.
    """
    is_to_ours = direction(conn)
    if is_to_ours is not None:
        return "adopt" if is_to_ours else "release"
    if rows.scalar(conn, _queries.list_exists):
        return "marks"
    if rows.scalar(conn, _queries.previous_exists):
        return "table"
    state = read_state(conn)
    is_released = state is not None and state.released
    return "triggers" if is_released and rows.scalar(conn, _queries.rests_of_tracking) else None


def makes_hypertables(conn: Connection) -> bool:
    """Whether the server is a TimescaleDB, or will be one when `migrate` creates the extension."""
    offered = rows.one(conn, db.load("server").extension_offered)
    return "timescale" in facts(conn) or offered is not None


def layout_migrations(conn: Connection) -> tuple[str, ...]:
    """The migrations that make our layout on this server."""
    return LAYOUT if "timescale" in facts(conn) else LAYOUT[:1]


def is_outdated(conn: Connection) -> bool:
    """Whether an older version began a rebuild, which this one cannot continue."""
    return direction(conn) is not None and not rows.scalar(conn, _queries.knows_ranges)


def begin(conn: Connection, schema: str, *, to_ours: bool) -> None:
    """Make the next table, and write to both from now on; what is made already stays."""
    drop_previous(conn)
    if direction(conn) is None:
        carried = carrying.additions(conn, schema)
        with_short_waits(conn, lambda: _create_next(conn, carried, to_ours))
    if not rows.scalar(conn, _queries.writes_to_both):
        with_short_waits(conn, lambda: _write_to_both(conn))


def copy(conn: Connection, runs: int, progress: Progress) -> None:
    """Copy and compare all runs. Raises CopyDiffers; what was copied before stays."""
    at_once = 1
    progress(int(rows.scalar(conn, _queries.copied)), runs)
    while run_ids := _to_copy(conn, at_once):
        began = time.monotonic()
        # One snapshot: a point that MLflow adds meanwhile is in both tables, or in neither. A row
        # that another session changed since is copied again.
        with suppress(psycopg.errors.SerializationFailure), conn.transaction():
            conn.execute(_queries.one_snapshot)
            _copy_runs(conn, run_ids)
        at_once = _next_size(len(run_ids), time.monotonic() - began)
        count = int(rows.scalar(conn, _queries.copied))
        progress(count, max(count, runs))


def exchange(conn: Connection, schema: str, after: Callable[[Connection], None]) -> None:
    """Let the next table take the place of `metrics`, in the current transaction.

    `after` runs in it when the old table is gone.
    """
    identifier = sql.SQL(schema)  # quoted by the server
    conn.execute(_queries.stop_runs)
    limit_waits(conn)
    conn.execute(_queries.lock_tables)
    while run_ids := _to_copy(conn, _MOST_RUNS_AT_ONCE):  # started since the last look
        _copy_runs(conn, run_ids)
    conn.execute(_queries.drop_triggers)
    conn.execute(_queries.drop_orphans)
    carried = carrying.additions(conn, schema)
    conn.execute(_queries.exchange.format(schema=identifier))
    carrying.apply(conn, carried, "after")
    _leave_previous(conn)
    after(conn)
    conn.execute(_queries.drop_since)


def _leave_previous(conn: Connection) -> None:
    if readers := rows.scalars(conn, _queries.readers_of_previous):
        raise CopyDiffers(f"{readers[0]} cannot be pointed at the new table; nothing was changed")
    if rows.scalar(conn, _queries.previous_has_foreign_keys):
        conn.execute(_queries.empty_previous)
    else:
        conn.execute(_queries.drop_previous)


def drop_previous(conn: Connection, patience: float = PATIENCE_SECONDS) -> None:
    """Drop the empty table that `adopt` left; raises LocksHeld."""
    if rows.scalar(conn, _queries.previous_exists):
        when_runs_are_free(conn, lambda: conn.execute(_queries.drop_previous), patience)


def when_runs_are_free(conn: Connection, work: Callable[[], Any], patience: float) -> None:
    """Run `work`, which keeps readers of `runs` out.

    A call of MLflow's store that reads runs on a second connection cannot end while it waits for
    us, so a longer wait would help nothing. Raises LocksHeld after `patience` seconds.
    """
    with_short_waits(conn, work, patience=patience, longest=WAIT_SECONDS)


def mark(conn: Connection) -> None:
    """Mark the points that were there before the trigger, some runs at a time."""
    if not rows.scalar(conn, _queries.list_exists):
        return
    while run_ids := _marked_next(conn):
        values = {"run_ids": run_ids}
        with conn.transaction():
            for query in (_queries.lock_runs, _queries.mark_runs, _queries.forget_marked):
                conn.execute(query, values)
    conn.execute(_queries.drop_list)


def finish_release(conn: Connection, schema: str) -> None:
    """What needs no lock beside that of the exchange: old indexes, and the check of the key."""
    identifier = sql.SQL(schema)  # quoted by the server
    with time_limits(conn, wait=PATIENCE_SECONDS):  # no session waits behind this wait
        for query in (_queries.drop_runs_by_start, _queries.drop_version_tags):
            conn.execute(query.format(schema=identifier))
    with_short_waits(conn, lambda: conn.execute(_queries.drop_list))
    if rows.scalar(conn, _queries.foreign_key_is_unchecked):
        with_short_waits(conn, lambda: conn.execute(_queries.validate_foreign_key))


def give_up(conn: Connection) -> None:
    """Remove the next table and the triggers that write to it."""

    def work() -> None:
        conn.execute(_queries.lock_metrics)
        conn.execute(_queries.drop_triggers)
        conn.execute(_queries.drop_next)

    with_short_waits(conn, work)


def _create_next(conn: Connection, carried: list[carrying.Addition], to_ours: bool) -> None:
    conn.execute(_queries.drop_next)  # of an attempt without its key
    conn.execute(_queries.create_tables)
    conn.execute(_queries.use_our_layout if to_ours else _queries.use_mlflow_layout)
    if to_ours and "timescale" in facts(conn):
        conn.execute(_queries.make_hypertable)
    carrying.apply(conn, carried, "next")


def _write_to_both(conn: Connection) -> None:
    conn.execute(_queries.lock_metrics)
    conn.execute(_queries.write_to_both)


def _next_size(runs: int, seconds: float) -> int:
    """How many runs to copy next; runs differ, so it grows no faster than twofold."""
    fitting = int(runs * _SECONDS_AT_ONCE / max(seconds, 0.001))
    return max(1, min(fitting, 2 * runs, _MOST_RUNS_AT_ONCE))


def _to_copy(conn: Connection, at_once: int) -> list[str]:
    return rows.scalars(conn, _queries.runs_to_copy, {"limit": at_once})


def _marked_next(conn: Connection) -> list[str]:
    return rows.scalars(conn, _queries.runs_to_mark, {"limit": _RUNS_MARKED_AT_ONCE})


def _copy_runs(conn: Connection, run_ids: list[str]) -> None:
    conn.execute(_queries.copy_runs, {"run_ids": run_ids})
    old, new = _summary(conn, "metrics", run_ids), _summary(conn, "mlops.metrics_next", run_ids)
    if different := [run_id for run_id in run_ids if old.get(run_id) != new.get(run_id)]:
        raise CopyDiffers(
            f"the copy of run {different[0]} differs from its original (points, checksum): "
            f"{new.get(different[0])} instead of {old.get(different[0])}; nothing was changed"
        )
    conn.execute(_queries.remember_runs, {"run_ids": run_ids})


def _summary(conn: Connection, table: str, run_ids: list[str]) -> dict[str, tuple[int, Any]]:
    query = _queries.summarise_runs.format(table=sql.Identifier(*table.split(".")))
    return {
        run_id: (points, checksum)
        for run_id, points, checksum in conn.execute(query, {"run_ids": run_ids})
    }
