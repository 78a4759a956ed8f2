"""Comparison of files with the ledger: outcomes, errors, and the policy for unknown files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, INVALID_STATE

from mlflow_timescale.artifacts import ledger
from mlflow_timescale.artifacts.hashing import FileDigest
from mlflow_timescale.artifacts.refusals import ArtifactMismatch, ArtifactRefused
from mlflow_timescale.common import attribution, logs
from mlflow_timescale.common.settings import UNKNOWN_ARTIFACTS
from mlflow_timescale.common.text import printable
from mlflow_timescale.db import Connection, load
from mlflow_timescale.db.rights import lacking

_POLICIES = ("warn", "refuse", "adopt")
_logger = logs.logger(__name__)
_queries = load("artifacts")


class UnknownArtifact(ArtifactRefused):
    """A file that is not in the ledger, under the policy `refuse`."""

    def __init__(self, location: str) -> None:
        super().__init__(
            f"artifact {location} is not in the ledger, so its bytes cannot be checked, and "
            f"{UNKNOWN_ARTIFACTS.name}=refuse. Check it, then run: "
            f"mlflow-timescale artifacts adopt",
            INVALID_STATE,
        )


@dataclass(frozen=True)
class Check:
    """One comparison; `outcome` is match, mismatch, missing, unreadable or unknown."""

    location: str
    outcome: str
    artifact_id: int | None = None
    expected: FileDigest | None = None
    found: FileDigest | None = None
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "location": self.location,
            "outcome": self.outcome,
            "expected": self.expected.sha256 if self.expected else None,
            "found": self.found.sha256 if self.found else None,
            "detail": self.detail,
        }


def policy() -> str:
    """The treatment of files that are not in the ledger: warn (default), refuse or adopt."""
    value = UNKNOWN_ARTIFACTS.get()
    if value not in _POLICIES:
        raise MlflowException(
            f"{UNKNOWN_ARTIFACTS.name}={value} is not a policy; use one of {', '.join(_POLICIES)}",
            INVALID_PARAMETER_VALUE,
        )
    return value


def compare(
    conn: Connection, location: str, found: FileDigest, expected: ledger.Entry | None
) -> None:
    """Compare a file with the ledger. Raises ArtifactMismatch or UnknownArtifact.

    `expected` may be outdated, if the file was logged again since: on a difference the ledger is
    read again first.
    """
    if expected is None or expected.fingerprint != found:
        expected = ledger.current(conn, location).get(location)
    if expected is None:
        _unknown(conn, location, found)
    elif expected.fingerprint != found:
        raise ArtifactMismatch.of(location, expected.fingerprint, found)


def _unknown(conn: Connection, location: str, found: FileDigest) -> None:
    rule = policy()
    if rule == "refuse":
        raise UnknownArtifact(location)
    if rule == "adopt":
        ledger.record(conn, [(location, found)], origin="adopted")
    else:
        _logger.warning(
            "Artifact %s is not in the ledger: its bytes could not be checked. Run "
            "`mlflow-timescale artifacts adopt`, or set %s.",
            printable(location),
            UNKNOWN_ARTIFACTS.name,
        )


def remember(
    conn: Connection, checks: Iterable[Check], *, purpose: str, audit_id: int | None = None
) -> None:
    """Store checks in `mlops.artifact_checks`; those of a reader, who may not, are not stored."""
    checks = list(checks)
    values = {
        "artifact_ids": [check.artifact_id for check in checks],
        "locations": [check.location for check in checks],
        "outcomes": [check.outcome for check in checks],
        "checksums": [check.found.sha256 if check.found else None for check in checks],
        "sizes": [check.found.size if check.found else None for check in checks],
        "purpose": purpose,
        "audit_id": audit_id,
        "mlflow_user": attribution.current().user,
    }
    try:
        with conn.transaction():
            conn.execute(_queries.record_checks, values)
    except psycopg.errors.InsufficientPrivilege as exc:
        _logger.info("The result of this check was not recorded: %s", lacking(exc))
