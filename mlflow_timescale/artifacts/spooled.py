"""Artifacts in a spool: a record with location and SHA-256, and a copy of the file."""

from __future__ import annotations

import json
import posixpath
import uuid
from pathlib import Path
from typing import Any, BinaryIO

import psycopg
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_registered_artifact_repositories

from mlflow_timescale.artifacts import checked
from mlflow_timescale.artifacts.hashing import HashingReader, hash_file
from mlflow_timescale.artifacts.in_database import InDatabaseRepository
from mlflow_timescale.artifacts.locations import IN_DATABASE, inner_uri, scheme
from mlflow_timescale.db.errors import ConnectionFailed
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.spool import Record, Refusal, Sender
from mlflow_timescale.spool.outages import is_outage

KIND = "artifact"


def to_record(artifact_uri: str, path: str, file: Path) -> Record:
    """The record of a file, to be stored at a path below an artifact URI.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     record = to_record("timescaledb-artifacts:/1/4f/artifacts", "a/b.txt", Path(file.name))
    >>> record.kind, record.note
    ('artifact', 'a/b.txt, 0 bytes')
    """
    digest = hash_file(file)
    content = {"artifact_uri": artifact_uri, "path": path, "sha256": digest.sha256}
    note = f"{path}, {digest.size:,} bytes"
    return Record(
        KIND, str(uuid.uuid4()), json.dumps(content).encode(), note=note, is_kept=True, file=file
    )


def sender_of(uri: DatabaseURI) -> Sender:
    """The sender of artifacts; sending one twice stores the same bytes at the same location."""

    def one(record: Record) -> bool:
        artifact_uri, path, sha256 = content(record)
        if record.file is None or not record.file.exists():
            return False  # sent before: the file is removed first, then the progress is noted
        directory, name = posixpath.split(path)
        try:
            with record.file.open("rb") as stream:
                _repository(artifact_uri, uri).log_artifact_from_stream(
                    _Verified(stream, path, sha256), name, directory or None
                )
        except (MlflowException, psycopg.Error) as exc:
            if is_outage(exc):
                raise ConnectionFailed(f"lost the connection to {uri}: {exc}") from exc
            raise Refusal(str(exc)) from exc
        return True

    return Sender(one)


class _Verified(HashingReader):
    """A stream that raises at its end, so that nothing is stored, if its SHA-256 differs."""

    def __init__(self, stream: BinaryIO, path: str, sha256: str) -> None:
        super().__init__(stream)
        self._path, self._sha256 = path, sha256

    def read(self, size: int = -1) -> bytes:
        data: bytes = super().read(size)
        if (not data or size < 0) and self.fingerprint.sha256 != self._sha256:
            raise Refusal(
                f"the bytes of {self._path} changed: they do not have the SHA-256 {self._sha256}"
            )
        return data


def content(record: Record) -> tuple[str, str, str]:
    """The artifact URI, path and SHA-256 of a record. Raises Refusal for other bytes."""
    try:
        fields = json.loads(record.body)
        return fields["artifact_uri"], fields["path"], fields["sha256"]
    except (ValueError, KeyError, TypeError) as exc:
        raise Refusal(f"not an artifact of this version: {exc!r}") from exc


def _repository(artifact_uri: str, database: DatabaseURI) -> Any:
    if scheme(artifact_uri) == IN_DATABASE:
        return InDatabaseRepository(artifact_uri, database, database.url)
    inner = inner_uri(artifact_uri)
    opened = get_registered_artifact_repositories()[scheme(inner)](inner)
    return checked.wrap(opened, artifact_uri, database, database.url)
