"""Forward-only migrations: the files of `sql/base`, `sql/timescale` and `sql/community`.

Every file is applied at most once, in the order of its number, in a transaction with its row in
`mlops.migrations`. A file is never edited once landed: the runner refuses a changed hash. What a
file needs beyond PostgreSQL it says in its first line, after the tier that its folder stands for:

    --! requires: mlflow metrics_rebuild

A migration whose needs are not met waits, and is applied by the first `migrate` that finds them
met: a database that gains the extension, or MLflow's tables, later is brought up in place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import psycopg
from psycopg.rows import TupleRow, dict_row

from mlflow_timescale.db.connection import Connection
from mlflow_timescale.db.errors import MigrationError
from mlflow_timescale.db.queries import SQL_PACKAGE, load

TIERS = ("base", "timescale", "community")
# They lay MLflow's `metrics` out anew; what else requires `metrics_rebuild` needs them done.
LAYOUT = ("base/0001_metrics_layout", "timescale/0002_metrics_hypertable")
_REQUIRES = re.compile(r"\A--! requires:(.*)$", re.MULTILINE)
_NO_TRANSACTION = re.compile(r"^--! no-transaction$", re.MULTILINE)
_server = load("server")
_queries = load("migrations")


@dataclass(frozen=True)
class Migration:
    """One file: its name ("base/0001_schema"), its text, and what it needs."""

    name: str
    sql: str
    requires: frozenset[str]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def number(self) -> str:
        return self.name.partition("/")[2]

    @property
    def in_transaction(self) -> bool:
        return _NO_TRANSACTION.search(self.sql) is None


@dataclass(frozen=True)
class Plan:
    """What `migrate` would do: apply `pending`; `waiting` lacks something, by migration."""

    pending: tuple[Migration, ...]
    waiting: dict[str, frozenset[str]]


@cache
def shipped() -> tuple[Migration, ...]:
    """All migrations that this version ships, in order."""
    found = [
        _read(tier, entry.name, entry.read_text(encoding="utf-8"))
        for tier in TIERS
        if (files(SQL_PACKAGE) / tier).is_dir()  # a wheel has no folder without a file
        for entry in (files(SQL_PACKAGE) / tier).iterdir()
        if entry.name.endswith(".sql")
    ]
    return tuple(sorted(found, key=lambda migration: migration.number))


def _read(tier: str, filename: str, text: str) -> Migration:
    header = _REQUIRES.search(text)
    needs = {"timescale", tier} - {"base"} if tier != "base" else set()
    return Migration(
        name=f"{tier}/{filename.removesuffix('.sql')}",
        sql=text,
        requires=frozenset(needs | set(header.group(1).split() if header else ())),
    )


def plan(conn: Connection, *, rebuild_metrics: bool = False) -> Plan:
    """Compare the database with the files.

    MLflow's `metrics` is laid out anew only while it is small, or where `rebuild_metrics` says so;
    what builds on that layout is applied wherever it is there.
    Raises MigrationError if a migration that was applied has changed since, or is unknown here.
    """
    applied = _applied(conn)
    _refuse_changes(applied)
    todo = [migration for migration in shipped() if migration.name not in applied]
    if not todo:
        return Plan((), {})
    facts = _facts(conn, rebuild_metrics, applied.keys())
    lacking = {migration.name: migration.requires - facts for migration in todo}
    return Plan(
        pending=tuple(migration for migration in todo if not lacking[migration.name]),
        waiting={name: lacks for name, lacks in lacking.items() if lacks},
    )


def migrate(
    conn: Connection,
    *,
    rebuild_metrics: bool = False,
    dry_run: bool = False,
    on_apply: Callable[[Migration], None] = lambda migration: None,
) -> list[Migration]:
    """Bring the schema up to date; return what was applied (with `dry_run`: what would be).

    `conn` must be in autocommit mode. Safe to call from any number of processes at once.
    """
    pending = plan(conn, rebuild_metrics=rebuild_metrics).pending
    if dry_run or not (pending or _extension_is_offered(conn)):
        return list(pending)
    done = []
    with exclusively(conn):
        _create_extension(conn)
        conn.execute(_queries.create_ledger)
        # One migration may meet the needs of the next, so look again after each.
        while pending := plan(conn, rebuild_metrics=rebuild_metrics).pending:
            on_apply(pending[0])
            _apply(conn, pending[0])
            done.append(pending[0])
    return done


@contextmanager
def exclusively(conn: Connection) -> Iterator[None]:
    """Hold the lock that every process takes before it changes the schema of this database."""
    conn.execute(_queries.lock)
    try:
        yield
    finally:
        if not conn.closed:
            conn.execute(_queries.unlock)


def facts(conn: Connection) -> frozenset[str]:
    """What the database offers: some of `mlflow`, `timescale`, `community`."""
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_server.facts).fetchone() or {}
    return frozenset(name for name, holds in row.items() if holds)


def _facts(conn: Connection, rebuild_metrics: bool, applied: Collection[str]) -> frozenset[str]:
    found = facts(conn)
    if "mlflow" not in found:
        return found
    tiers = {"base", *found}
    is_rebuilt = all(name in applied for name in LAYOUT if name.partition("/")[0] in tiers)
    if rebuild_metrics or is_rebuilt or _one(conn.execute(_queries.metrics_are_few)):
        found |= {"metrics_rebuild"}
    return found


def _applied(conn: Connection) -> dict[str, str]:
    if not _one(conn.execute(_queries.ledger_exists)):
        return {}
    return dict(conn.execute(_queries.applied).fetchall())


def _refuse_changes(applied: dict[str, str]) -> None:
    known = {migration.name: migration.sha256 for migration in shipped()}
    for name, sha256 in applied.items():
        if name not in known:
            raise MigrationError(
                f"the database has migration {name}, which this version does not know: it was "
                f"migrated by a newer mlflow-timescale; upgrade this installation"
            )
        if known[name] != sha256:
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


def _apply(conn: Connection, migration: Migration) -> None:
    record = {"name": migration.name, "sha256": migration.sha256}
    try:
        if migration.in_transaction:
            with conn.transaction():
                conn.execute(migration.sql.encode())
                conn.execute(_queries.record, record)
        else:
            conn.execute(migration.sql.encode())
            conn.execute(_queries.record, record)
    except psycopg.Error as exc:
        left = "was rolled back" if migration.in_transaction else "may be partly applied"
        raise MigrationError(f"migration {migration.name} failed and {left}: {exc}") from exc


def _one(cursor: psycopg.Cursor[TupleRow]) -> object:
    row = cursor.fetchone()
    return row[0] if row else None
