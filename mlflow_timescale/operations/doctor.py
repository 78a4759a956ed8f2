"""Diagnosis of a database: what is wrong, and what to do about it.

Each check examines one thing and yields findings; none changes the database.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal

import mlflow.store.db.utils as mlflow_db
from mlflow.environment_variables import (
    MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW,
    MLFLOW_SQLALCHEMYSTORE_POOL_SIZE,
)
from mlflow.version import VERSION
from psycopg.rows import dict_row

from mlflow_timescale import db
from mlflow_timescale.db.migrations import facts, plan, shipped
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.indexes import missing_indexes
from mlflow_timescale.operations.packing import loose_keys
from mlflow_timescale.operations.rebuild import debris

Level = Literal["ok", "note", "action"]
OLDEST_SERVER = 150000
STORES_PER_WORKER = 2  # the tracking store and the model registry have a pool each
POOL_SIZE, MAX_OVERFLOW = 5, 10  # SQLAlchemy's defaults, which MLflow leaves
CLOCK_SECONDS = 1.0
LEAST_FREE_BYTES = 2**30
_MIGRATE = "mlflow-timescale migrate"
_queries = db.load("doctor")


@dataclass(frozen=True)
class Finding:
    """The result of one check; level "action" means that a person has to act."""

    check: str
    level: Level
    found: str
    advice: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Patient:
    """The database that the checks examine."""

    conn: db.Connection
    uri: DatabaseURI
    workers: int

    def row(self, query: Any, **values: Any) -> dict[str, Any]:
        return next(iter(self.rows(query, **values)), {})

    def rows(self, query: Any, **values: Any) -> list[dict[str, Any]]:
        with self.conn.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, values or None).fetchall()

    def one(self, query: Any, **values: Any) -> Any:
        return next(iter(self.row(query, **values).values()), None)


def examine(conn: db.Connection, uri: DatabaseURI, *, workers: int = 4) -> list[Finding]:
    """Run every check; `workers` is the number of `mlflow server` workers that will connect."""
    patient = Patient(conn, uri, workers)
    return [finding for check in CHECKS for finding in check(patient)]


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


def connections(patient: Patient) -> Iterator[Finding]:
    """Whether the connection pools of the workers fit into the server, idle and at most."""
    row = patient.row(_queries.connections)
    allowed = row["max_connections"] - row["reserved"]
    pools = patient.workers * STORES_PER_WORKER
    size = MLFLOW_SQLALCHEMYSTORE_POOL_SIZE.get() or POOL_SIZE
    overflow = MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW.get()
    at_rest = pools * size
    at_most = pools * (size + (MAX_OVERFLOW if overflow is None else overflow))
    data = {**row, "workers": patient.workers, "at_rest": at_rest, "at_most": at_most}
    summary = (
        f"{patient.workers} workers keep up to {at_rest} connections and open up to {at_most}; "
        f"the server allows {allowed}, {row['open']} are open"
    )
    level: Level = "action" if at_rest > allowed else "note" if at_most > allowed else "ok"
    advice = (
        f"Raise max_connections to {at_most + row['reserved'] + 20}, or lower "
        f"{MLFLOW_SQLALCHEMYSTORE_POOL_SIZE.name} and {MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW.name}."
    )
    yield Finding("connections", level, summary, advice if level != "ok" else "", data)


def clock(patient: Patient) -> Iterator[Finding]:
    """The difference of the server's clock to ours, within half a round trip."""
    before = datetime.now(timezone.utc)
    server_time = patient.one(_queries.clock)
    after = datetime.now(timezone.utc)
    ahead = (server_time - (before + (after - before) / 2)).total_seconds()
    uncertainty = (after - before).total_seconds() / 2
    data = {"ahead_seconds": ahead, "uncertainty_seconds": uncertainty}
    offset = f"the server is {ahead:+.3f} s ahead of this machine (± {uncertainty:.3f} s)"
    if abs(ahead) - uncertainty > CLOCK_SECONDS:
        advice = "Run NTP on both: as-of queries compare their times."
        yield Finding("clock", "action", offset, advice, data)
    else:
        yield Finding("clock", "ok", offset, data=data)


def time_zone(patient: Patient) -> Iterator[Finding]:
    name = patient.row(_queries.server)["timezone"]
    if name in ("UTC", "Etc/UTC", "GMT"):
        yield Finding("time zone", "ok", name)
    else:
        yield Finding(
            "time zone",
            "note",
            f"sessions start in {name}",
            "Our own connections set UTC; in psql, SET TIME ZONE 'UTC' shows the same times.",
        )


def disk(patient: Patient) -> Iterator[Finding]:
    """Free space for the embedded database; the disk of a remote server is unknown."""
    if patient.uri.embedded is None:
        return
    free = shutil.disk_usage(patient.uri.embedded).free
    space, data = f"{in_bytes(free)} free in {patient.uri.embedded}", {"free_bytes": free}
    if free < LEAST_FREE_BYTES:
        advice = "Free some space, or move the directory while nothing uses it."
        yield Finding("disk", "action", space, advice, data)
    else:
        yield Finding("disk", "ok", space, data=data)


def in_bytes(count: float) -> str:
    """A size as text.

    >>> in_bytes(512), in_bytes(2.5 * 2**20), in_bytes(3 * 2**40)
    ('512 B', '2.5 MB', '3.0 TB')
    """
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TB"


CHECKS: tuple[Callable[[Patient], Iterator[Finding]], ...] = (
    server,
    tier,
    mlflow_schema,
    our_schema,
    indexes,
    sizes,
    conversion,
    packing,
    connections,
    clock,
    time_zone,
    disk,
)
