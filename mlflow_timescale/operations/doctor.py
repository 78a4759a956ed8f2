"""Diagnosis of a database: what is wrong, and what to do about it.

Each check examines one thing and yields findings; none changes the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mlflow.store.db.utils as mlflow_db
import psycopg
from mlflow.version import VERSION

from mlflow_timescale import db
from mlflow_timescale.common.text import one_line
from mlflow_timescale.db import locks, roles
from mlflow_timescale.db.migrations import facts, plan, shipped
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations import calendar_checks, server_checks, spools
from mlflow_timescale.operations.findings import Finding, Patient
from mlflow_timescale.operations.findings import in_bytes as in_bytes  # for the commands
from mlflow_timescale.operations.indexes import missing_indexes
from mlflow_timescale.operations.packing import loose_keys
from mlflow_timescale.operations.rebuild import debris
from mlflow_timescale.schema import mlflow_tables

Check = Callable[[Patient], Iterator[Finding]]
OLDEST_SERVER = 150000
# A check waits for a lock, and computes, no longer than this.
WAIT_SECONDS = 2.0
STATEMENT_SECONDS = 20.0
# Chunks that a statement on all of metrics still opens without a noticeable delay.
MOST_CHUNKS = 1000
_MIGRATE = "mlflow-timescale migrate"
_queries = db.load("doctor")


def examine(conn: db.Connection, uri: DatabaseURI, *, workers: int = 4) -> list[Finding]:
    """Run every check by itself: one that cannot be completed is a finding, too.

    Parameters
    ----------
    conn
        A connection in autocommit mode.
    uri
        The database, as findings name it.
    workers
        The number of `mlflow server` workers that will connect.
    """
    patient = Patient(conn, uri, workers)
    return [finding for check in CHECKS for finding in _examined(check, patient)]


def _examined(check: Check, patient: Patient) -> list[Finding]:
    name = _NAMES.get(check, check.__name__.replace("_", " "))
    try:
        # Settings of a transaction, because one of a session would stay with a pooler's process.
        with patient.conn.transaction():
            locks.limit_transaction(patient.conn, WAIT_SECONDS, STATEMENT_SECONDS)
            return list(check(patient))
    except psycopg.errors.LockNotAvailable:
        return [_behind_a_lock(name, patient)]
    except psycopg.errors.QueryCanceled:
        text = f"not examined: it takes longer than {STATEMENT_SECONDS:.0f} s"
        return [Finding(name, "note", text, "Run doctor again when the server is less busy.")]
    except psycopg.Error as exc:
        if patient.conn.closed:
            raise
        reason = one_line(exc)
        advice = "Run doctor with a login that has mlops_reader or mlops_admin."
        return [Finding(name, "action", f"not examined: {reason}", advice)]


def _behind_a_lock(name: str, patient: Patient) -> Finding:
    holder = locks.first_holder(patient.conn)
    if holder is None:
        text = f"not examined: a lock was held for {WAIT_SECONDS:.0f} s, and is free now"
        return Finding(name, "note", text, "Run doctor again.")
    return Finding(
        name,
        "action",
        f"not examined: a lock is held by {holder}",
        f"End that transaction: {holder.remedy}",
        {"pid": holder.pid},
    )


def server(patient: Patient) -> Iterator[Finding]:
    row = patient.row(_queries.server)
    versions = f"PostgreSQL {row['version']}, MLflow {VERSION}"
    if row["number"] < OLDEST_SERVER:
        yield Finding("server", "action", versions, "Upgrade to PostgreSQL 15 or later.", row)
    else:
        yield Finding("server", "ok", versions, data=row)
    if row["encoding"] != "UTF8":
        yield Finding(
            "encoding",
            "action",
            f"the database's encoding is {row['encoding']}",
            "Create a new database with ENCODING 'UTF8': names and parameters may be any text.",
        )


def tier(patient: Patient) -> Iterator[Finding]:
    extension, server_facts = patient.row(_queries.extension), facts(patient.conn)
    version = extension.get("installed_version")
    if "community" in server_facts:
        yield Finding("tier", "ok", f"TimescaleDB {version}, Community", data=extension)
    elif "timescale" in server_facts:
        yield Finding(
            "tier",
            "note",
            f"TimescaleDB {version}, Apache: no compression, no policies",
            "No action needed. The Community edition compresses old metrics.",
            extension,
        )
    else:
        yield Finding("tier", "note", "plain PostgreSQL: no hypertables", _promotion(extension))
    if version and version != extension["default_version"]:
        yield Finding(
            "extension",
            "note",
            f"TimescaleDB {version} in this database, {extension['default_version']} on the server",
            "psql -X -c 'ALTER EXTENSION timescaledb UPDATE'",
        )


def _promotion(extension: dict[str, Any]) -> str:
    if not extension:
        return "No action needed. With TimescaleDB installed, old metrics take less space."
    if not extension["loaded"]:
        return (
            "TimescaleDB is installed but not loaded: add it to shared_preload_libraries, "
            f"restart, then {_MIGRATE}"
        )
    return f"TimescaleDB is available: {_MIGRATE}, as a user who may create the extension."


def mlflow_schema(patient: Patient) -> Iterator[Finding]:
    head = mlflow_db._get_latest_schema_revision()
    revision = patient.one(_queries.alembic_exists) and patient.one(_queries.alembic_version)
    data = {"version": revision or None, "head": head}
    if not revision:
        yield Finding("MLflow schema", "action", "MLflow's tables do not exist", _MIGRATE, data)
    elif revision != head:
        yield Finding(
            "MLflow schema",
            "action",
            f"at revision {revision}, MLflow {VERSION} wants {head}",
            f"Take a backup, stop the servers, then: mlflow db upgrade '{patient.uri}'. If that "
            f"does not know {revision}, a newer MLflow made it: upgrade MLflow here.",
            data,
        )
    else:
        yield Finding("MLflow schema", "ok", f"at revision {head}, the latest", data=data)


def our_schema(patient: Patient) -> Iterator[Finding]:
    try:
        todo = plan(patient.conn)
    except db.MigrationError as exc:
        yield Finding("migrations", "action", str(exc), "Install the version that fits.")
        return
    names = [item.name for item in (*todo.pending, *todo.outdated)]
    waiting = {name: sorted(lacks) for name, lacks in todo.waiting.items()}
    applied = len(shipped()) - len(todo.pending) - len(waiting)
    data = {"applied": applied, "pending": names, "waiting": waiting}
    summary = f"{applied} applied, {len(names)} pending, {len(waiting)} waiting"
    if names:
        yield Finding("migrations", "action", f"{summary}: {', '.join(names)}", _MIGRATE, data)
    elif waiting:
        lacks = sorted({lack for names in waiting.values() for lack in names})
        yield Finding(
            "migrations",
            "note",
            f"{summary} for {', '.join(lacks)}",
            " ".join(_WAITING[lack] for lack in lacks if lack in _WAITING),
            data,
        )
    else:
        yield Finding("migrations", "ok", summary, data=data)


_WAITING = {
    "timescale": "What waits for TimescaleDB is applied by the first migrate that finds it.",
    "community": "What waits for the Community edition is applied once the server offers it.",
    "mlflow": f"Create MLflow's tables: {_MIGRATE}.",
    "metrics_rebuild": "The table of metrics is too large to be rebuilt without `adopt`.",
}


def indexes(patient: Patient) -> Iterator[Finding]:
    schema = patient.one(_queries.mlflow_schema)
    if schema is None:
        return
    existing = [row["relname"] for row in patient.rows(_queries.tables, schema=schema)]
    rows = patient.rows(_queries.indexes, schema=schema, tables=existing)
    missing = missing_indexes(existing, rows)
    invalid = [row["index_name"] for row in rows if not row["is_valid"]]
    for name, statement in missing.items():
        yield Finding(
            "indexes",
            "action",
            f"MLflow's index {name} is missing (some upgrades lost it: mlflow#14465)",
            statement,
        )
    for name in invalid:
        yield Finding("indexes", "action", f"index {name} is invalid", f"REINDEX INDEX {name};")
    if not missing and not invalid:
        yield Finding("indexes", "ok", f"all that MLflow needs, on {len(existing)} tables")


def sizes(patient: Patient) -> Iterator[Finding]:
    schemas = ["mlops", patient.one(_queries.mlflow_schema)]
    existing = [name for name in schemas if name and patient.rows(_queries.tables, schema=name)]
    tables = {row["name"]: row for row in patient.rows(_queries.largest, schemas=existing)}
    if "timescale" in facts(patient.conn):
        for row in patient.rows(_queries.hypertables, schemas=existing):
            estimates = (row["rows"], tables.get(row["name"], row)["rows"])
            tables[row["name"]] = row | {"rows": max(estimates)}
    largest = sorted(tables.values(), key=lambda row: -row["bytes"])[:5]
    total = patient.row(_queries.server)["bytes"]
    top = ", ".join(f"{row['name']} {in_bytes(row['bytes'])}" for row in largest)
    data = {"bytes": total, "tables": largest, "metrics": tables.get("metrics")}
    points = f"; about {tables['metrics']['rows']:,} metric points" if "metrics" in tables else ""
    yield Finding("sizes", "ok", f"{in_bytes(total)}: {top}{points}", data=data)


def chunks(patient: Patient) -> Iterator[Finding]:
    """Whether hypertables have too many chunks: reads become slow, and exhaust the table of locks.

    A statement on all of a hypertable locks each chunk and index: pg_dump does, and deletions do.
    """
    if "timescale" not in facts(patient.conn):
        return
    schemas = ["mlops", patient.one(_queries.mlflow_schema)]
    rows = patient.rows(_queries.chunks, schemas=[name for name in schemas if name])
    capacity = patient.one(_queries.lock_capacity)
    locked = sum(row["relations"] for row in rows)
    data = {"tables": rows, "locks": locked, "lock_capacity": capacity}
    counts = ", ".join(f"{row['name']} {row['chunks']:,}" for row in rows) or "none"
    if locked > capacity / 2:
        yield Finding(
            "chunks",
            "action",
            f"{counts}; pg_dump locks {locked:,} tables and indexes, the server has room for "
            f"{capacity:,} locks",
            f"Raise max_locks_per_transaction to {_locks_per_transaction(patient, locked)}, and "
            f"restart the server.",
            data,
        )
    elif any(row["chunks"] > MOST_CHUNKS for row in rows):
        advice = (
            "Look for metrics with timestamps in another unit than milliseconds; remove old points "
            "with mlflow-timescale retention."
        )
        yield Finding("chunks", "note", counts, advice, data)
    else:
        yield Finding("chunks", "ok", counts, data=data)


def _locks_per_transaction(patient: Patient, locked: int) -> int:
    slots = patient.one(_queries.lock_slots)
    return int(-(-2 * locked // slots // 64) * 64)


def conversion(patient: Patient) -> Iterator[Finding]:
    """Whether an interrupted `adopt` or `release` left a table that every write goes to as well."""
    left = debris(patient.conn)
    if left == "marks":
        yield Finding(
            "conversion",
            "note",
            "an adopt was interrupted: long series are not indexed yet, and slower to read",
            "mlflow-timescale adopt",
            {"interrupted": "adopt"},
        )
    elif left in ("table", "triggers"):
        command = "adopt" if left == "table" else "release"
        yield Finding(
            "conversion",
            "note",
            f"{command} left an empty table of before, mlops_before.metrics"
            if left == "table"
            else f"{command} left disabled triggers on runs, and functions of ours",
            f"mlflow-timescale {command}, when few runs are logged: it needs a moment without any.",
            {"left": left},
        )
    elif left:
        yield Finding(
            "conversion",
            "action",
            f"an interrupted {left} left a half-built table, mlops.metrics_next: every point is "
            f"written twice",
            f"mlflow-timescale {left} continues, mlflow-timescale adopt --abort gives up.",
            {"interrupted": left},
        )


def packing(patient: Patient) -> Iterator[Finding]:
    """Whether key indexes of metrics are bloated: interleaved inserts leave pages half empty."""
    keys = loose_keys(patient.conn)
    saving = sum(key.saving for key in keys)
    if keys:
        yield Finding(
            "packing",
            "note",
            f"{len(keys)} key indexes of metrics waste about {in_bytes(saving)}",
            "mlflow-timescale pack",
            {"keys": len(keys), "bytes": saving},
        )


def group_roles(patient: Patient) -> Iterator[Finding]:
    """Whether the group roles, where they are set up, have their rights on every table."""
    if "mlflow" not in facts(patient.conn) or not roles.is_set_up(patient.conn):
        return
    missing = roles.rights(patient.conn, mlflow_tables()) if roles.is_owner(patient.conn) else []
    logins = {role: len(names) for role, names in roles.members(patient.conn)}
    counts = ", ".join(f"{role} {count}" for role, count in logins.items())
    if missing:
        yield Finding(
            "roles",
            "action",
            f"{len(missing)} statements are missing, the first is {missing[0][:80]}",
            "mlflow-timescale roles",
            {"missing": missing},
        )
    else:
        yield Finding("roles", "ok", f"logins: {counts}", data={"logins": logins})


def alert_messages(patient: Patient) -> Iterator[Finding]:
    """Whether messages on drift alerts wait for a target that does not take them."""
    if not patient.one(_queries.has_deliveries):
        return
    rows = patient.rows(_queries.failed_deliveries)
    for row in rows:
        yield Finding(
            "alerts",
            "action",
            f"not delivered to {row['target']}: {row['messages']}, the oldest of "
            f"{row['oldest']:%Y-%m-%d}: {row['last_error']}",
            "mlflow-timescale drift alerts --undelivered; the next daily tries again for 14 days.",
            row,
        )
    if not rows:
        yield Finding("alerts", "ok", "every message was delivered, or waits for its first attempt")


CHECKS: tuple[Check, ...] = (
    server,
    tier,
    server_checks.waits,
    mlflow_schema,
    our_schema,
    group_roles,
    indexes,
    sizes,
    chunks,
    conversion,
    packing,
    alert_messages,
    calendar_checks.calendars,
    server_checks.connections,
    server_checks.open_connections,
    server_checks.transactions,
    server_checks.replication,
    server_checks.clock,
    server_checks.time_zone,
    server_checks.disk,
    spools.spool,
)
_NAMES: dict[Check, str] = {
    alert_messages: "alerts",
    group_roles: "roles",
    mlflow_schema: "MLflow schema",
    our_schema: "migrations",
}
