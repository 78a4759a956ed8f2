"""Taking over a database that plain MLflow used, and giving it back.

Both ways build the other layout of `metrics` beside the present one, run by run, while MLflow goes
on writing (a trigger writes to both), compare every run's count and checksum, and then let the
tables change places in one short transaction. Whatever stops it, the old table is whole, and the
next call goes on from the last run that was copied.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.rows import class_row

from mlflow_timescale import db
from mlflow_timescale.db import Connection
from mlflow_timescale.db.migrations import LAYOUT, drop_definitions, facts, shipped
from mlflow_timescale.db.rows import scalar

Progress = Callable[[int, int], None]
_queries = db.load("adopt")
_migrations = db.load("migrations")
# Points a second, measured on two cores: 60,000 to a hypertable with its key and foreign key.
_SPEED = 60_000
# A point in MLflow's layout with its three indexes, in bytes (ours takes half of it, or less).
_MLFLOW_POINT = 420
# Target duration of one copy transaction, in seconds, so that Ctrl-C is quick.
_SECONDS_AT_ONCE = 2.0
_MOST_RUNS_AT_ONCE = 1000


class AdoptionError(db.Error):
    """The database cannot be adopted or released as it is."""


@dataclass(frozen=True)
class Layout:
    """The state of MLflow's `metrics`: whose layout, where, how large (points are an estimate)."""

    ours: bool
    schema: str
    bytes: int
    points: int
    runs: int

    @property
    def seconds(self) -> int:
        """About how long a rebuild takes."""
        return 1 + self.points // _SPEED

    @property
    def space(self) -> int:
        """At most how many bytes the other layout takes, beside this one until the end."""
        return self.points * _MLFLOW_POINT if self.ours else self.bytes


def layout(conn: Connection) -> Layout:
    """Look at a database; raises AdoptionError if MLflow's tables are not in it."""
    if "mlflow" not in facts(conn):
        raise AdoptionError(
            "there are no MLflow tables in this database: name the one that MLflow's "
            "--backend-store-uri names (a new database needs no adoption, only `migrate`; one of "
            "an MLflow before 3.17 needs `mlflow db upgrade` first)"
        )
    with conn.cursor(row_factory=class_row(Layout)) as cursor:
        found = cursor.execute(_queries.layout).fetchone()
    assert found is not None
    return found


def adopt(conn: Connection, *, progress: Progress = lambda done, total: None) -> None:
    """Turn plain MLflow's database into ours, in place. `conn` must be in autocommit mode.

    Raises AdoptionError if a copied run differs from its original; nothing is changed then.
    """
    layout(conn)
    # Creates the extension where the server offers it; a small table is done with that.
    db.migrate(conn)
    with db.exclusively(conn):
        before = layout(conn)
        if not before.ours:
            timescale = "timescale" in facts(conn)
            _begin(conn, _queries.use_our_layout, hypertable=timescale)
            _copy(conn, before, progress)
            done = LAYOUT if timescale else LAYOUT[:1]
            with conn.transaction():
                _swap(conn, before)
                for migration in shipped():
                    if migration.name in done:
                        known = {"name": migration.name, "sha256": migration.sha256}
                        conn.execute(_migrations.record, known)
    db.migrate(conn, rebuild_metrics=True)
    conn.execute(_queries.analyze)


def release(conn: Connection, *, progress: Progress = lambda done, total: None) -> None:
    """Give the database back to plain MLflow: its layout of `metrics`, nothing of ours on it.

    What else lies in the schema `mlops` (features, artifacts, drift) stays, out of MLflow's way.
    """
    with db.exclusively(conn):
        before = layout(conn)
        if before.ours:
            _begin(conn, _queries.use_mlflow_layout, hypertable=False)
            _copy(conn, before, progress)
        with conn.transaction():
            if before.ours:
                _swap(conn, before)
            drop_definitions(conn, "tracking")
            conn.execute(_queries.drop_tracking.format(schema=sql.Identifier(before.schema)))
            conn.execute(_migrations.forget, {"names": _of_tracking()})
            conn.execute(_migrations.mark_released)
    conn.execute(_queries.analyze)


def _of_tracking() -> list[str]:
    return [migration.name for migration in shipped() if migration.area == "tracking"]


def _begin(conn: Connection, use_layout: sql.SQL, *, hypertable: bool) -> None:
    with conn.transaction():
        conn.execute(_queries.create_tables)
        if not scalar(conn, _queries.next_has_key):
            conn.execute(use_layout)
            if hypertable:
                conn.execute(_queries.make_hypertable)
        conn.execute(_queries.write_to_both)


def _copy(conn: Connection, before: Layout, progress: Progress) -> None:
    at_once = 1
    progress(copied(conn), before.runs)
    while run_ids := _to_copy(conn, at_once):
        started = time.monotonic()
        with conn.transaction():
            _copy_runs(conn, run_ids)
        at_once = _next_size(len(run_ids), time.monotonic() - started)
        done = copied(conn)
        progress(done, max(done, before.runs))


def _next_size(runs: int, seconds: float) -> int:
    """How many runs to copy next; runs differ, so it grows no faster than twofold."""
    fitting = int(runs * _SECONDS_AT_ONCE / max(seconds, 0.001))
    return max(1, min(fitting, 2 * runs, _MOST_RUNS_AT_ONCE))


def copied(conn: Connection) -> int:
    """How many runs an interrupted rebuild has copied."""
    if not scalar(conn, _queries.is_under_way):
        return 0
    return int(scalar(conn, _queries.copied))


def _to_copy(conn: Connection, at_once: int) -> list[str]:
    found = conn.execute(_queries.runs_to_copy, {"limit": at_once})
    return [run_id for (run_id,) in found]


def _copy_runs(conn: Connection, run_ids: list[str]) -> None:
    # One snapshot: a point that MLflow adds meanwhile is in both tables, or in neither.
    conn.execute(_queries.one_snapshot)
    conn.execute(_queries.copy_runs, {"run_ids": run_ids})
    old, new = _summary(conn, "metrics", run_ids), _summary(conn, "mlops.metrics_next", run_ids)
    if different := [run_id for run_id in run_ids if old.get(run_id) != new.get(run_id)]:
        raise AdoptionError(
            f"the copy of run {different[0]} differs from its original (points, checksum): "
            f"{new.get(different[0])} instead of {old.get(different[0])}; nothing was changed"
        )
    sums = [old.get(run_id, (0, 0)) for run_id in run_ids]
    conn.execute(
        _queries.remember_runs,
        {
            "run_ids": run_ids,
            "points": [points for points, _ in sums],
            "checksums": [checksum for _, checksum in sums],
        },
    )


def _summary(conn: Connection, table: str, run_ids: list[str]) -> dict[str, tuple[int, Any]]:
    query = _queries.summarise_runs.format(table=sql.Identifier(*table.split(".")))
    rows = conn.execute(query, {"run_ids": run_ids})
    return {run_id: (points, checksum) for run_id, points, checksum in rows}


def _swap(conn: Connection, before: Layout) -> None:
    conn.execute(_queries.lock_tables)
    # Runs that were started since the last look.
    while run_ids := _to_copy(conn, _MOST_RUNS_AT_ONCE):
        conn.execute(_queries.copy_runs, {"run_ids": run_ids})
        conn.execute(
            _queries.remember_runs,
            {"run_ids": run_ids, "points": [0] * len(run_ids), "checksums": [0] * len(run_ids)},
        )
    conn.execute(_queries.swap.format(schema=sql.Identifier(before.schema)))
