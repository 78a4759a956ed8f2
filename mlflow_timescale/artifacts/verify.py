"""Audits of stored artifacts: read them, in parallel, and compare them with the ledger."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import psycopg
from mlflow.exceptions import MlflowException
from psycopg.types.json import Jsonb

from mlflow_timescale.artifacts import checks, ledger
from mlflow_timescale.artifacts.checks import Check
from mlflow_timescale.artifacts.databases import connection
from mlflow_timescale.artifacts.hashing import FileDigest
from mlflow_timescale.artifacts.ledger import Entry, Selection
from mlflow_timescale.artifacts.locations import canonical, owner, split_root
from mlflow_timescale.artifacts.opening import open_stored
from mlflow_timescale.common import logs
from mlflow_timescale.common.text import one_line, printable
from mlflow_timescale.db import Connection, load, rows
from mlflow_timescale.db.uri import DatabaseURI

_log = logs.logger("mlflow_timescale")
_queries = load("artifacts")
_BATCH = 64
_BY_ID = re.compile(
    r"(?:runs:/(?P<run>[0-9a-f]{32})|models:/(?P<model>m-[0-9a-f]{32}))(?:/(?P<path>.+))?",
    re.DOTALL,
)


@dataclass
class Audit:
    """The result of an audit: counts by outcome, and every check that is not a match.

    `audit_id` is None for an audit of a reader, which is not recorded.
    """

    audit_id: int | None
    resumed: bool
    total: int
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[Check] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not set(self.outcomes) - {"match"}


def selection_of(uri: str) -> Selection:
    """The ledger rows that an artifact URI refers to, through any store or proxy.

    >>> selection_of("mlflow-artifacts:/1/models/m-0123456789abcdef0123456789abcdef/artifacts")
    Selection(run_id=None, model_id='m-0123456789abcdef0123456789abcdef', path=None, location=None)
    >>> selection_of("runs:/0123456789abcdef0123456789abcdef/model").path
    'model'
    """
    location = canonical(uri)
    if match := _BY_ID.fullmatch(location):
        return Selection(match["run"], match["model"], match["path"])
    run_id, model_id, path = owner(location)
    if run_id or model_id:
        return Selection(run_id=run_id, model_id=model_id, path=path or None)
    return Selection(location=location)


def check(entry: Entry, database: DatabaseURI) -> Check:
    """Read one stored file and compare it with its ledger row."""
    root, path = split_root(entry.location)
    try:
        fingerprint = open_stored(root, database).fingerprint(path)
    except Exception as exc:
        outcome = "missing" if _is_missing(exc) else "unreadable"
        return _check(entry, outcome, detail=one_line(exc))
    return _check(entry, "match" if fingerprint == entry.fingerprint else "mismatch", fingerprint)


def _check(entry: Entry, outcome: str, found: FileDigest | None = None, detail: str = "") -> Check:
    return Check(entry.location, outcome, entry.artifact_id, entry.fingerprint, found, detail)


def _is_missing(exc: Exception) -> bool:
    """Whether an error means that a file is missing: MLflow's repositories have no common one."""
    if isinstance(exc, MlflowException):
        return bool(exc.error_code == "RESOURCE_DOES_NOT_EXIST")
    response = getattr(exc, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return isinstance(exc, FileNotFoundError) or code in ("404", "NoSuchKey")


def failing(
    database: DatabaseURI, selection: Selection, *, purpose: str, location: str | None = None
) -> list[Check]:
    """Check the selected files, store the checks, and return the failures.

    With `location` an empty selection is a failure under the policy `refuse`, else one line in the
    log.
    """
    with connection(database) as conn:
        entries = ledger.select(conn, selection)
    if location and not entries:
        if checks.policy() == "refuse":
            return [Check(location, "unknown")]
        _log.warning("nothing was verified: the ledger holds no file of %s", printable(location))
    results = list(_checked(entries, database, 4))
    with connection(database) as conn:
        checks.remember(conn, results, purpose=purpose)
    return [item for item in results if item.outcome != "match"]


def audit(
    database: DatabaseURI,
    selection: Selection,
    *,
    sample: int | None = None,
    resume: bool = False,
    jobs: int = 4,
    on_start: Callable[[int], None] = lambda total: None,
    on_check: Callable[[Check], None] = lambda results: None,
) -> Audit:
    """Check every selected file, or the `sample` files that were checked least recently.

    Checks are stored in batches; with `resume` an interrupted audit of the same selection
    continues. An audit of everything also compares the ledger with the files of each registered
    version, as they were at its registration.
    """
    with connection(database) as conn:
        report, entries = _begin(conn, selection, sample, resume)
    on_start(len(entries))
    results = _checked(entries, database, jobs)
    while batch := list(islice(_observed(results, on_check), _BATCH)):
        if report.audit_id is not None:
            with connection(database) as conn:
                checks.remember(conn, batch, purpose="audit", audit_id=report.audit_id)
        report.outcomes.update(item.outcome for item in batch)
        report.failures += [item for item in batch if item.outcome != "match"]
    with connection(database) as conn:
        if report.audit_id is not None:
            conn.execute(_queries.finish_audit, {"audit_id": report.audit_id})
        changes = changed_versions(conn) if selection == Selection() else []
    report.outcomes.update(item.outcome for item in changes)
    report.failures += changes
    return report


def changed_versions(conn: Connection) -> list[Check]:
    """Files of registered versions that are not what was registered, by the ledger."""
    return [
        Check(
            location,
            "missing" if change == "missing" else "mismatch",
            detail=f"{change} since the registration of version {version}: registered "
            f"{registered or 'without it'}, now {current or 'gone'}",
        )
        for location, change, version, registered, current in rows.if_migrated(
            conn, _queries.version_changes
        )
    ]


def _begin(
    conn: Connection, selection: Selection, sample: int | None, resume: bool
) -> tuple[Audit, list[Entry]]:
    values = {"selection": Jsonb({**selection.as_dict(), "sample": sample})}
    row = conn.execute(_queries.unfinished_audit, values).fetchone() if resume else None
    resumed = row is not None
    audit_id = row[0] if row else _start(conn, values)
    entries = ledger.select(conn, selection, audit_id=audit_id, sample=sample)
    report = Audit(audit_id, resumed, len(entries))
    if resumed:
        done = conn.execute(_queries.audit_outcomes, {"audit_id": audit_id}).fetchall()
        report.outcomes.update(dict(done))
        failed = conn.execute(_queries.audit_failures, {"audit_id": audit_id})
        report.failures += [_found_before(*row) for row in failed]
    return report, entries


def _start(conn: Connection, values: dict[str, Any]) -> int | None:
    try:
        with conn.transaction():
            return rows.scalars(conn, _queries.start_audit, values)[0]  # type: ignore[no-any-return]
    except psycopg.errors.InsufficientPrivilege:
        return None


def _found_before(
    location: str,
    outcome: str,
    artifact_id: int,
    checksum: str,
    size: int,
    found_checksum: str | None,
    found_size: int | None,
) -> Check:
    fingerprint = FileDigest(found_checksum, found_size or 0) if found_checksum else None
    return Check(location, outcome, artifact_id, FileDigest(checksum, size), fingerprint)


def _checked(entries: Iterable[Entry], database: DatabaseURI, jobs: int) -> Iterator[Check]:
    with ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="verify") as pool:
        yield from pool.map(lambda entry: check(entry, database), entries)


def _observed(results: Iterator[Check], on_check: Callable[[Check], None]) -> Iterator[Check]:
    for item in results:
        on_check(item)
        yield item
