"""The checks of `doctor` that look at the server: connections, locks, replication, clock, disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime, timezone

from mlflow.environment_variables import (
    MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW,
    MLFLOW_SQLALCHEMYSTORE_POOL_SIZE,
)

from mlflow_timescale import db
from mlflow_timescale.operations.findings import Finding, Level, Patient, in_bytes

STORES_PER_WORKER = 2  # the tracking store and the model registry have a pool each
POOL_SIZE, MAX_OVERFLOW = 5, 10  # SQLAlchemy's defaults, which MLflow leaves
NEARLY_ALL = 0.8  # of the connections that are allowed
CLOCK_SECONDS = 1.0
LONG_WAIT_SECONDS = 10.0
LONG_TRANSACTION_SECONDS = 600.0
ENDLESS_TRANSACTION_SECONDS = 6 * 3600.0
LAG_SECONDS = 60.0
LAG_BYTES = 2**30
LEAST_FREE_BYTES = 2**30
_queries = db.load("doctor")


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


def open_connections(patient: Patient) -> Iterator[Finding]:
    """Whether the server, the database or the role has nearly no connection left to give."""
    for row in patient.rows(_queries.connection_limits):
        share = row["open"] / row["allowed"] if row["allowed"] else 1.0
        summary = f"{row['open']} of {row['allowed']} that {row['scope']} allows"
        if share < NEARLY_ALL:
            yield Finding("open connections", "ok", summary, data=row)
            continue
        users = ", ".join(f"{user['open']} {user['name']}" for user in patient.rows(_queries.users))
        yield Finding(
            "open connections",
            "action" if row["open"] >= row["allowed"] else "note",
            f"{summary}; most of them: {users}",
            f"Close what is not needed, or raise {row['setting']}.",
            row,
        )


def waits(patient: Patient) -> Iterator[Finding]:
    """Sessions that wait for a lock, and who has it."""
    rows = patient.rows(_queries.waits)
    if not rows:
        return
    longest = rows[0]["seconds"]
    pids = {pid for row in rows for pid in row["holders"]} - {row["pid"] for row in rows}
    holders = patient.rows(_queries.sessions, pids=sorted(pids))
    names = ", ".join(holder["name"] for holder in holders) or "sessions that have ended"
    yield Finding(
        "locks",
        "action" if longest > LONG_WAIT_SECONDS else "note",
        f"{len(rows)} sessions wait for locks, the longest for {longest:.0f} s, behind {names}",
        " ".join(holder["remedy"] for holder in holders),
        {"waiting": rows},
    )


def transactions(patient: Patient) -> Iterator[Finding]:
    """Long transactions: VACUUM keeps what they may see, and schema changes wait for them."""
    rows = patient.rows(_queries.long_transactions, seconds=LONG_TRANSACTION_SECONDS)
    if not rows:
        yield Finding(
            "transactions", "ok", f"none is older than {_minutes(LONG_TRANSACTION_SECONDS)}"
        )
        return
    oldest = rows[0]
    yield Finding(
        "transactions",
        "action" if oldest["seconds"] > ENDLESS_TRANSACTION_SECONDS else "note",
        f"{len(rows)} are older than {_minutes(LONG_TRANSACTION_SECONDS)}, the oldest is "
        f"{_minutes(oldest['seconds'])} old: {oldest['name']}",
        f"Dead rows stay and tables grow meanwhile. To end it: {oldest['remedy']}",
        {"transactions": rows},
    )


def replication(patient: Patient) -> Iterator[Finding]:
    """How far standbys are behind, here or there, and what unused slots keep."""
    for row in patient.rows(_queries.replication):
        behind, seconds = row["bytes"] or 0, row["seconds"] or 0.0
        late = behind > LAG_BYTES or seconds > LAG_SECONDS or row["lost"]
        yield Finding(
            "replication",
            "action" if late else "ok",
            f"{row['name']}: {in_bytes(behind)} and {seconds:.0f} s behind",
            row["advice"] if late else "",
            row,
        )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


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
