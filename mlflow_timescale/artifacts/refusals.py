"""Refusals: a file that must not be used, a file that must not be changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import DATA_LOSS, INVALID_STATE, IO_ERROR, RESOURCE_EXHAUSTED

from mlflow_timescale.artifacts.hashing import FileDigest
from mlflow_timescale.spool import SpoolError, SpoolFull

_FROZEN = "ML409"  # the SQLSTATE of mlops.freeze_version_files


@contextmanager
def refusals_of_the_spool() -> Iterator[None]:
    """Raise with MLflow's codes that a spool is full, or that its folder cannot be used."""
    try:
        yield
    except SpoolFull as exc:
        raise MlflowException(str(exc), RESOURCE_EXHAUSTED) from exc
    except SpoolError as exc:
        raise MlflowException(str(exc), IO_ERROR) from exc


class ArtifactRefused(MlflowException):  # type: ignore[misc]
    """A file that must not be used. HTTP 409, because MLflow's client retries a 500 for minutes."""

    def get_http_status_code(self) -> int:
        return 409


class ArtifactMismatch(ArtifactRefused):
    """The stored bytes differ from those that were logged."""

    def __init__(self, message: str) -> None:
        super().__init__(message, DATA_LOSS)

    @classmethod
    def of(cls, location: str, expected: FileDigest, found: FileDigest | str) -> ArtifactMismatch:
        return cls(
            f"artifact {location} is not what was logged: expected {expected}, found {found}. It "
            f"was changed, truncated or swapped since; log it again, or restore it from a backup"
        )


class ArtifactFrozen(ArtifactRefused):
    """A change of files that a registered version consists of."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}: register a new version, or override it on the record: "
            f"mlflow_timescale.because(reason, override=True)",
            INVALID_STATE,
        )

    @classmethod
    def of(cls, location: str, version: str, change: str) -> ArtifactFrozen:
        return cls(f"artifact {location} belongs to version {version}, so it cannot be {change}")


def translated(exc: psycopg.Error) -> Exception:
    """ArtifactFrozen for the database's refusal of a change; any other error as it is."""
    if exc.sqlstate == _FROZEN:
        return ArtifactFrozen(exc.diag.message_primary or str(exc))
    return exc
