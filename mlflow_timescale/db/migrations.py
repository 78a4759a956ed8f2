"""Bring a database to the schema that this version ships.

Migrations are applied at most once, each in a transaction with its row in `mlops.migrations`; a
landed one is never edited, and the runner refuses one whose hash changed. Definitions are applied
again whenever their text changed; `mlops.definitions` records what each file made, so that an area
can be taken down (`drop_definitions`). What a file requires and the database lacks makes it wait
for the first `migrate` that finds it: a database that gains the TimescaleDB extension, or MLflow's
tables, is upgraded in place.

A new database is set up by its first client. One that holds our schema is changed by `migrate`
only, or by a client that has consent (`ensure`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from mlflow_timescale.db import last_layout, roles, schema_files
from mlflow_timescale.db.connection import Connection
from mlflow_timescale.db.errors import MigrationError
from mlflow_timescale.db.locks import (
    PATIENCE_SECONDS,
    RETRIED,
    LocksHeld,
    time_limits,
    with_short_waits,
)
from mlflow_timescale.db.queries import load
from mlflow_timescale.db.revisions import MIGRATE, REVISION, read_state
from mlflow_timescale.db.rows import one, scalar
from mlflow_timescale.db.schema_files import Definition, Migration, definitions
from mlflow_timescale.db.uri import DatabaseURI

# They change the layout of MLflow's `metrics`; what else requires `metrics_rebuild` builds on it.
LAYOUT = ("tracking/002_metrics_layout", "timescale/tracking/003_metrics_hypertable")
AUTO = "auto"
_SETTING = "MLFLOW_TIMESCALE_MIGRATE"
shipped = schema_files.migrations
_server = load("server")
_queries = load("migrations")
_locks = load("locks")


@dataclass(frozen=True)
class Plan:
    """What `migrate` would do.

    Attributes
    ----------
    pending
        Migrations to apply, in order.
    outdated
        Definitions to apply (again).
    waiting
        What a migration lacks, by its name.
    """

    pending: tuple[Migration, ...]
    outdated: tuple[Definition, ...]
    waiting: dict[str, frozenset[str]]

    def __bool__(self) -> bool:
        return bool(self.pending or self.outdated)


def plan(conn: Connection, *, rebuild_metrics: bool = False) -> Plan:
    """Compare the database with the files.

    The layout of MLflow's `metrics` is changed only while the table is small, or where
    `rebuild_metrics` is set; what builds on the layout is applied wherever the layout is in place.
    Raises MigrationError if a migration that was applied has changed since, or is unknown here.
    """
    applied = last_layout.translated(_applied(conn), shipped())
    _refuse_changes(applied)
    offered = _facts(conn, rebuild_metrics, applied.keys())
    schema = _mlflow_schema(conn)
    todo = [migration for migration in shipped() if migration.name not in applied]
    defined = _defined(conn)
    lacking = {item.name: item.requires - offered - {"functions"} for item in todo}
    return Plan(
        pending=tuple(migration for migration in todo if not lacking[migration.name]),
        outdated=tuple(
            each
            for each in _best_definitions(offered)
            if defined.get(each.name) != each.sha256(schema)
        ),
        waiting={name: lacks for name, lacks in lacking.items() if lacks},
    )


def migrate(
    conn: Connection,
    *,
    rebuild_metrics: bool = False,
    dry_run: bool = False,
    areas: Collection[str] | None = None,
    on_apply: Callable[[Migration | Definition], None] = lambda item: None,
) -> list[Migration | Definition]:
    """Bring the schema up to date; return what was applied (with `dry_run`: what would be).

    `conn` must be in autocommit mode, and a direct connection: a pooler in transaction mode cannot
    hold the lock. Safe to call from any number of processes at once. `areas` limits it to these.
    Raises MigrationError if a newer client migrated the database, or if a step fails.
    """
    _refuse_older_client(conn)
    with time_limits(conn):
        todo = _limited(plan(conn, rebuild_metrics=rebuild_metrics), areas)
    if dry_run:
        return [*todo.pending, *todo.outdated]
    if not (todo or _extension_is_offered(conn) or _is_unrecorded(conn)):
        return []
    done: list[Migration | Definition] = []
    with exclusively(conn):
        _create_extension(conn)
        conn.execute(_queries.create_ledger)
        conn.execute(_queries.open_to_owner)
        _refuse_older_client(conn)
        last_layout.take_over(conn, _applied(conn), shipped())
        # One step may meet the needs of the next, so look again after each.
        while todo := _limited(plan(conn, rebuild_metrics=rebuild_metrics), areas):
            done += _advance(conn, todo, on_apply)
        oldest = max((item.oldest_client for item in shipped()), default=1)
        conn.execute(_queries.write_state, {"revision": REVISION, "oldest_client": oldest})
        with_short_waits(conn, lambda: roles.reapply(conn))
    return done


def ensure(conn: Connection, uri: DatabaseURI) -> None:
    """Make sure that this client can work with the database; set it up if it is new.

    An embedded database, and one whose URI or environment gives consent (`?migrate=auto`,
    MLFLOW_TIMESCALE_MIGRATE=auto), is migrated. In any other a schema that is already there is not
    changed, except for areas that have not been set up (MLflow's tables came later).
    Raises MigrationError, one line that names who must do what.
    """
    state = read_state(conn)
    consents = uri.embedded is not None or uri.migrates or os.environ.get(_SETTING) == AUTO
    # Consent is no right: readers and writers work with the schema that an admin made.
    may_migrate = consents and roles.is_owner(conn)
    if (state is None and not _applied(conn)) or (may_migrate and not (state and state.released)):
        migrate(conn)
        return
    if state is None:
        with exclusively(conn):  # another process may be setting it up at this moment
            state = read_state(conn)
    if state is None:
        if last_layout.is_of_then(_applied(conn)) or not roles.is_owner(conn):
            raise MigrationError(
                f"{uri} has the schema of an older mlflow-timescale: its administrator runs "
                f"`{MIGRATE}` once"
            )
        migrate(conn)  # goes on where a process was killed: the state is what a set-up writes last
        return
    state.check(str(uri))
    if state.released or state.revision != REVISION:
        return
    begun = {name.rpartition("/")[0].rpartition("/")[2] for name in _applied(conn)}
    new = {item.area for item in plan(conn).pending} - begun
    if new and roles.is_owner(conn):
        migrate(conn, areas=new)


@contextmanager
def exclusively(conn: Connection) -> Iterator[None]:
    """Hold the lock that every process takes before it changes the schema of this database.

    Inside, statements have no time limit, and waits for locks a short one (`locks.time_limits`).
    Raises LocksHeld if another process keeps the lock for ten minutes, or another session a table.
    Raises MigrationError through a pooler. The lock belongs to a session, because some steps run
    outside of a transaction; a pooler would leave it with a server process that others use.
    """
    if conn.pooled:
        raise MigrationError(
            "the schema cannot be changed through a connection pooler: run `mlflow-timescale "
            "migrate` once with the URI of the server itself"
        )
    with time_limits(conn, wait=PATIENCE_SECONDS):
        _take_turn(conn)
    try:
        with time_limits(conn):
            yield
    finally:
        if not conn.closed:
            conn.execute(_queries.unlock)


def _take_turn(conn: Connection) -> None:
    try:
        conn.execute(_queries.lock)
    except psycopg.errors.LockNotAvailable as exc:
        pid, application = one(conn, _locks.holder_of_turn) or ("?", "?")
        raise LocksHeld(
            f"another process changes the schema of this database, for more than "
            f"{PATIENCE_SECONDS:.0f} s: process {pid} ({application}); try again when it has ended"
        ) from exc


def define_area(conn: Connection, area: str) -> None:
    """Apply the definitions of an area in the current transaction, as if `metrics` were rebuilt."""
    offered, schema, defined = (
        facts(conn) | {"metrics_rebuild"},
        _mlflow_schema(conn),
        _defined(conn),
    )
    outdated = [
        each
        for each in _best_definitions(offered)
        if each.area == area and defined.get(each.name) != each.sha256(schema)
    ]
    _define(conn, outdated, schema)


def drop_definitions(conn: Connection, area: str, *, keep: Collection[str] = ()) -> None:
    """Drop every function, view and trigger that the definitions of an area made.

    With `keep`, some objects stay and the area stays recorded, for a call without it.
    """
    for (text,) in conn.execute(_queries.objects_of_area, {"area": area}).fetchall():
        kind, _, rest = text.partition(" ")
        if text not in keep:
            conn.execute(sql.SQL("DROP {} IF EXISTS {}").format(sql.SQL(kind), sql.SQL(rest)))
    if not keep:
        conn.execute(_queries.forget_definitions, {"area": area})


def facts(conn: Connection) -> frozenset[str]:
    """What the database offers: some of `mlflow`, `timescale`, `community`."""
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_server.facts).fetchone() or {}
    return frozenset(name for name, holds in row.items() if holds)


def _advance(
    conn: Connection, todo: Plan, on_apply: Callable[[Migration | Definition], None]
) -> list[Migration | Definition]:
    """Apply the next migration; or all definitions, once nothing but what needs them is left."""
    schema = _mlflow_schema(conn)
    for migration in todo.pending:
        if "functions" not in migration.requires or not todo.outdated:
            on_apply(migration)
            _apply(conn, migration, schema)
            return [migration]
    for definition in todo.outdated:
        on_apply(definition)
    with_short_waits(conn, lambda: _define(conn, todo.outdated, schema))
    return list(todo.outdated)


def _limited(whole: Plan, areas: Collection[str] | None) -> Plan:
    if areas is None:
        return whole
    return Plan(
        tuple(item for item in whole.pending if item.area in areas),
        tuple(item for item in whole.outdated if item.area in areas),
        whole.waiting,
    )


def _best_definitions(offered: Collection[str]) -> list[Definition]:
    """The definitions that apply: of two with one name, the one of the higher tier."""
    best = {each.name: each for each in definitions() if each.requires <= {*offered}}
    return [each for each in definitions() if best.get(each.name) is each]


def _facts(conn: Connection, rebuild_metrics: bool, applied: Collection[str]) -> frozenset[str]:
    offered = facts(conn)
    if "mlflow" not in offered:
        return offered
    tiers = {"base", *offered}
    layout = [item for item in shipped() if item.name in LAYOUT and item.tier in tiers]
    is_rebuilt = bool(layout) and all(item.name in applied for item in layout)
    if rebuild_metrics or is_rebuilt or scalar(conn, _queries.metrics_are_few):
        offered |= {"metrics_rebuild"}
    return offered


def _applied(conn: Connection) -> dict[str, str]:
    if not scalar(conn, _queries.ledger_exists):
        return {}
    return dict(conn.execute(_queries.applied).fetchall())


def _defined(conn: Connection) -> dict[str, str]:
    if _is_unrecorded(conn):
        return {}
    return dict(conn.execute(_queries.defined).fetchall())


def _is_unrecorded(conn: Connection) -> bool:
    return not scalar(conn, _queries.state_exists)


def _mlflow_schema(conn: Connection) -> str | None:
    schema = scalar(conn, _queries.mlflow_schema)
    return None if schema is None else str(schema)


def _refuse_older_client(conn: Connection) -> None:
    state = read_state(conn)
    if state and state.revision > REVISION:
        raise MigrationError(
            f"a newer mlflow-timescale migrated the database (schema revision {state.revision}, "
            f"here {REVISION}): upgrade this installation"
        )


def _refuse_changes(applied: dict[str, str]) -> None:
    known = {migration.name: migration.sha256 for migration in shipped()}
    for name, sha256 in applied.items():
        if name not in known:
            raise MigrationError(
                f"the database has migration {name}, which this version does not know: it was "
                f"migrated by a newer mlflow-timescale; upgrade this installation"
            )
        if sha256 not in (known[name], last_layout.TRANSLATED):
            raise MigrationError(
                f"migration {name} was applied with another content than sql/{name}.sql has now: "
                f"landed migrations are never edited; reinstall, or add a new migration"
            )


def _extension_is_offered(conn: Connection) -> bool:
    return conn.execute(_server.extension_offered).fetchone() is not None


def _create_extension(conn: Connection) -> None:
    """Create the extension where the server offers it and our rights allow it."""
    if not _extension_is_offered(conn):
        return
    with suppress(
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.DuplicateObject,
        psycopg.errors.UniqueViolation,
    ):
        conn.execute(_server.create_extension)


def _apply(conn: Connection, migration: Migration, schema: str | None) -> None:
    record = {"name": migration.name, "sha256": migration.sha256}
    text = migration.text(schema).encode()

    def execute() -> None:
        conn.execute(text)
        conn.execute(_queries.record, record)

    try:
        if migration.in_transaction:
            with_short_waits(conn, execute)
        else:
            execute()
    except psycopg.Error as exc:
        outcome = "was rolled back" if migration.in_transaction else "may be partly applied"
        raise MigrationError(f"migration {migration.name} failed and {outcome}: {exc}") from exc


def _define(conn: Connection, outdated: Collection[Definition], schema: str | None) -> None:
    """Apply definitions in the current transaction: other clients see all of them or none."""
    conn.execute(_queries.late_bodies)
    earlier = {text for (text,) in conn.execute(_queries.touched).fetchall()}
    for each in outdated:
        try:
            conn.execute(each.text(schema).encode())
        except RETRIED:
            raise
        except psycopg.Error as exc:
            raise MigrationError(
                f"definition {each.name} failed, and all were rolled back: {exc}"
            ) from exc
        touched = {text for (text,) in conn.execute(_queries.touched).fetchall()}
        _record_definition(conn, each, schema, sorted(touched - earlier))
        earlier = touched


def _record_definition(
    conn: Connection, definition: Definition, schema: str | None, objects: list[str]
) -> None:
    values: dict[str, Any] = {
        "name": definition.name,
        "area": definition.area,
        "sha256": definition.sha256(schema),
        "objects": objects,
    }
    conn.execute(_queries.record_definition, values)
