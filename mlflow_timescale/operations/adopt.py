"""Converting a database of plain MLflow to our layout, and back.

Both directions build the other layout of `metrics` beside the present one, run by run, while MLflow
goes on writing (triggers write to both), compare the count and checksum of every run, and then
exchange the tables in one short transaction. Whatever stops it, the present table is whole: the
next call continues after the last run that was copied, and `abort` gives up.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from psycopg import sql

from mlflow_timescale import db
from mlflow_timescale.db import Connection, roles, rows, with_short_waits
from mlflow_timescale.db.migrations import LAYOUT, define_area, drop_definitions, facts, shipped
from mlflow_timescale.operations import carrying, rebuild
from mlflow_timescale.operations.roles import take_back

Progress = Callable[[int, int], None]
_queries = db.load("adopt")
_migrations = db.load("migrations")
# Points a second, measured on two cores: 60,000 to a hypertable with its key.
_SPEED = 60_000
# A point in MLflow's layout with its three indexes, in bytes (ours takes half of it, or less).
_MLFLOW_POINT = 420
# For the last step, which keeps readers of `runs` out and is not urgent.
_PATIENCE_SECONDS = 30.0
# The migrations of tracking that make its tables, as the definitions expect them.
_TABLES = (
    "tracking/004_metric_marks",
    "tracking/007_last_writes",
    "tracking/008_metric_extremes",
    "tracking/010_shown_extremes",
)
# A history stays when a database is released, and goes on when it is adopted again.
_HISTORY = "tracking/009_run_tag_history"


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


@dataclass(frozen=True)
class Additions:
    """What was added to `metrics`: what a rebuild carries over, and what it cannot."""

    carried: list[carrying.Addition]
    obstacles: list[str]


def layout(conn: Connection) -> Layout:
    """Look at a database; raises AdoptionError if MLflow's tables are not in it."""
    if "mlflow" not in facts(conn):
        raise AdoptionError(
            "there are no MLflow tables in this database: name the one that MLflow's "
            "--backend-store-uri names (a new database needs no adoption, only `migrate`; one of "
            "an MLflow before 3.17 needs `mlflow db upgrade` first)"
        )
    [state] = rows.records(conn, Layout, _queries.layout)
    if not state.points and state.bytes:  # never analysed
        return replace(state, points=int(rows.scalar(conn, _queries.estimated_points)))
    return state


def is_complete(conn: Connection, state: Layout) -> bool:
    """Whether `metrics` is all that this server can make of it.

    A database that was adopted on plain PostgreSQL and has TimescaleDB now has no hypertable yet.
    """
    if not state.ours or not rebuild.makes_hypertables(conn):
        return state.ours
    return LAYOUT[-1] in rows.scalars(conn, _migrations.applied)


def additions(conn: Connection, *, to_ours: bool) -> Additions:
    """What an `adopt` (`to_ours`) or a `release` would carry over, and what stands in its way."""
    before = layout(conn)
    hypertable = to_ours and rebuild.makes_hypertables(conn)
    carried = carrying.additions(conn, before.schema)
    return Additions(
        [each for each in carried if not (hypertable and each.kind == "publication")],
        carrying.obstacles(conn, before.schema, hypertable=hypertable),
    )


def adopt(conn: Connection, *, progress: Progress = lambda done, total: None) -> None:
    """Convert plain MLflow's database to our layout, in place.

    One that was adopted before its server had TimescaleDB gets its hypertable in the same way.

    Parameters
    ----------
    conn
        A connection in autocommit mode. Raises AdoptionError if something on `metrics` cannot be
        carried over, or if a copied run differs from its original; nothing is changed then. Raises
        db.LocksHeld where another session keeps the tables locked; the next call continues.
    progress
        Called with the number of runs that are copied, and of all runs.
    """
    with db.time_limits(conn):
        if not is_complete(conn, layout(conn)):
            _refuse_obstacles(conn, to_ours=True)
    # Creates the extension where the server offers it; a small table is done with that.
    db.migrate(conn)
    with db.exclusively(conn):
        before = layout(conn)
        if is_complete(conn, before):
            _give_up_the_other_way(conn, to_ours=False)
        else:
            _rebuild(conn, before, progress, to_ours=True)
        rebuild.mark(conn)
    db.migrate(conn, rebuild_metrics=True)
    conn.execute(_queries.begin_kept_tags)  # the triggers are there again
    if not roles.is_set_up(conn):  # which grant exactly what each may do
        with_short_waits(conn, lambda: carrying.open_to_users(conn))
    with db.exclusively(conn), suppress(db.LocksHeld):  # `doctor` reports what is left
        rebuild.drop_previous(conn, _PATIENCE_SECONDS)
    _finish(conn)


def release(conn: Connection, *, progress: Progress = lambda done, total: None) -> None:
    """Give the database back to plain MLflow: its layout of `metrics`, nothing of ours on it.

    What else lies in the schema `mlops` (features, artifacts, drift) stays, out of MLflow's way.
    The group roles lose their rights here. Parameters and errors are those of `adopt`.
    """
    with db.exclusively(conn):
        before = layout(conn)
        if before.ours:
            _refuse_obstacles(conn, to_ours=False)
            _rebuild(conn, before, progress, to_ours=False)
        else:
            _give_up_the_other_way(conn, to_ours=True)
        rebuild.finish_release(conn, before.schema)
        if db.read_state(conn) is not None:
            with suppress(db.LocksHeld):  # `doctor` reports what is left
                work = partial(drop_definitions, conn, "tracking")
                rebuild.when_runs_are_free(conn, work, _PATIENCE_SECONDS)
    _finish(conn)
    take_back(conn)


def abort(conn: Connection) -> bool:
    """Give up an interrupted `adopt` or `release`; return whether there was one.

    `metrics` stays as it is, with every point. Raises db.LocksHeld; the next call continues.
    """
    with db.exclusively(conn):
        begun = is_begun(conn)
        if begun:
            rebuild.give_up(conn)
    return begun


def is_begun(conn: Connection) -> bool:
    """Whether an `adopt` or `release` has begun and not ended."""
    return rebuild.direction(conn) is not None


def copied(conn: Connection) -> int:
    """How many runs an interrupted rebuild has copied."""
    if rebuild.direction(conn) is None:
        return 0
    return int(rows.scalar(conn, _queries.copied))


def _finish(conn: Connection) -> None:
    with db.time_limits(conn):
        carrying.refresh(conn)
        conn.execute(_queries.analyze)


def _rebuild(conn: Connection, before: Layout, progress: Progress, *, to_ours: bool) -> None:
    if rebuild.direction(conn) not in (None, to_ours) or rebuild.is_outdated(conn):
        rebuild.give_up(conn)
    rebuild.begin(conn, before.schema, to_ours=to_ours)
    work = _become_mlflows if not to_ours else _become_hypertable if before.ours else _become_ours
    try:
        rebuild.copy(conn, before.runs, progress)
        with_short_waits(conn, lambda: rebuild.exchange(conn, before.schema, work))
    except rebuild.CopyDiffers as exc:
        raise AdoptionError(str(exc)) from exc


def _become_ours(conn: Connection) -> None:
    """What tracking's migrations would do to `metrics`, in the transaction of the exchange.

    A point that was written between the exchange and the trigger would have no range.
    """
    done = {*rebuild.layout_migrations(conn), "tracking/005_mark_existing_points"}
    applied = set(rows.scalars(conn, _migrations.applied))
    for migration in shipped():
        if migration.name in _TABLES and migration.name not in applied:
            conn.execute(migration.sql.encode())
            done.add(migration.name)
    conn.execute(_queries.fill_ranges)
    conn.execute(_queries.forget_short_runs)
    _define_and_record(conn, done)


def _become_hypertable(conn: Connection) -> None:
    """Ranges and marks stay right: the triggers of the table before went on with them."""
    conn.execute(_queries.drop_list)
    _define_and_record(conn, {LAYOUT[-1]})


def _define_and_record(conn: Connection, done: set[str]) -> None:
    # A hypertable's triggers are made as its owner, who must find their functions.
    carrying.open_to_users(conn)
    # Triggers went with the table before; a release may have left others, disabled.
    conn.execute(_migrations.forget_definitions, {"area": "tracking"})
    define_area(conn, "tracking")
    for migration in shipped():
        if migration.name in done:
            record = {"name": migration.name, "sha256": migration.sha256}
            conn.execute(_migrations.record, record)


def _become_mlflows(conn: Connection) -> None:
    """Leave nothing of ours but disabled triggers on `runs`, which `release` drops afterwards."""
    conn.execute(_queries.add_foreign_key)
    conn.execute(_queries.drop_list)
    drop_definitions(conn, "tracking", keep=rows.scalars(conn, _queries.objects_on_runs))
    for trigger in rows.scalars(conn, _queries.triggers_on_runs):
        conn.execute(_queries.disable_trigger.format(trigger=sql.Identifier(trigger)))
    if rows.scalar(conn, _queries.generates_metrics):
        conn.execute(_queries.remove_generated)
    conn.execute(_queries.drop_tables_of_tracking)
    conn.execute(_queries.end_kept_tags)
    names = [
        migration.name
        for migration in shipped()
        if migration.area == "tracking" and migration.name != _HISTORY
    ]
    conn.execute(_migrations.forget, {"names": names})
    conn.execute(_migrations.mark_released)


def _refuse_obstacles(conn: Connection, *, to_ours: bool) -> None:
    if found := additions(conn, to_ours=to_ours).obstacles:
        raise AdoptionError(
            f"this cannot be carried over to the new table `metrics`: {'; '.join(found)}; nothing "
            f"was changed"
        )


def _give_up_the_other_way(conn: Connection, *, to_ours: bool) -> None:
    """An interrupted `release` of a database that is adopted (or the reverse) is not wanted."""
    if rebuild.direction(conn) is to_ours:
        rebuild.give_up(conn)
