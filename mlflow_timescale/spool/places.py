"""The location and the policies of the spool of a database on this machine."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from mlflow_timescale.common.settings import SPOOL, spool_directory
from mlflow_timescale.db.errors import InvalidURI
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.spool.folder import DiskFull, SpoolError
from mlflow_timescale.spool.outbox import PATIENCE_SECONDS
from mlflow_timescale.spool.spool import LIMIT, Spool

_DIGITS = 12
_DATABASE = "database.txt"
_SERVER = "_MLFLOW_SERVER_ARTIFACT_ROOT"  # MLflow sets it in the processes of a server


def default_folder(uri: str | DatabaseURI) -> Path:
    """The default folder of one database; each has its own, as records do not name a database.

    The folder does not depend on user and password.

    >>> first, second = (f"postgresql+timescaledb://{who}@host/trading" for who in ("ann", "bob"))
    >>> default_folder(first) == default_folder(second)
    True
    """
    parsed = DatabaseURI.parse(uri)
    place = f"{parsed.host}:{parsed.port}/{parsed.dbname}?{parsed.embedded or ''}"
    digits = hashlib.sha256(place.encode()).hexdigest()[:_DIGITS]
    readable = "".join(c if c.isalnum() or c in "-_." else "_" for c in parsed.dbname)
    return spool_directory() / f"{readable[:40]}-{digits}"


def reserve(spool: Spool, uri: DatabaseURI) -> None:
    """Note in a spool which database its records are for; they do not name it.

    Raises SpoolError if records wait for another one: a drain would mix the two.
    """
    name = uri.embedded or f"{uri.host}:{uri.port or 5432}"
    place = f"{name}/{uri.dbname}".encode()
    if spool.read(_DATABASE) == place:
        return
    with suppress(DiskFull), spool.changing(_DATABASE) as change:
        if change.before and not spool.is_empty():
            raise SpoolError(
                f"the spool {spool.path} has records that wait for the database "
                f"{change.before.decode(errors='replace')}, not for {uri}: name another folder; "
                f"if it is the same database, send them first (mlflow-timescale spool drain)"
            )
        change.after = place


def folder_of(uri: DatabaseURI) -> Path:
    """The folder that the URI's option `spool` names, or the default.

    >>> folder_of(DatabaseURI.parse("timescaledb://host/trading?spool=/scratch/spool"))
    PosixPath('/scratch/spool')
    """
    folder = uri.option("spool")
    return Path(folder).expanduser().absolute() if folder else default_folder(uri)


def spool_of(uri: DatabaseURI) -> Spool | None:
    """The spool for writes to runs: None unless the URI or the environment enables it.

    A tracking server has none: its answer means that the database has the write.
    Raises InvalidURI for unknown policies.
    """
    is_enabled = bool(uri.option("spool")) or SPOOL.get() is not None
    if not is_enabled or _SERVER in os.environ:
        return None
    try:
        return Spool(
            folder_of(uri),
            limit=int(uri.option("spool_limit", str(LIMIT >> 20))) << 20,
            full=uri.option("spool_full", "drop-oldest"),
            fsync=uri.option("spool_fsync", "os"),
        )
    except ValueError as exc:
        raise InvalidURI(
            f"cannot use the spool options of {uri}: {exc}; spool_limit is in MiB, spool_full is "
            f"block, drop-oldest or raise, spool_fsync is os or always"
        ) from exc


def patience_of(uri: DatabaseURI) -> float:
    """The seconds that a write waits for the database before it goes into the spool."""
    text = uri.option("spool_patience", str(PATIENCE_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 3600:
        raise InvalidURI(f"spool_patience is a number of seconds, not {text!r}")
    return seconds
