"""Where the spool of a database is on this machine, unless the caller names a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mlflow_timescale.common.settings import spool_directory
from mlflow_timescale.db.uri import DatabaseURI

_DIGITS = 12


def default_folder(uri: str | DatabaseURI) -> Path:
    """The folder for one database: records do not name the database that they are for.

    Users and passwords do not matter.

    >>> first, second = (f"postgresql+timescaledb://{who}@host/trading" for who in ("ann", "bob"))
    >>> default_folder(first) == default_folder(second)
    True
    """
    parsed = DatabaseURI.parse(uri)
    place = f"{parsed.host}:{parsed.port}/{parsed.dbname}?{parsed.embedded or ''}"
    digits = hashlib.sha256(place.encode()).hexdigest()[:_DIGITS]
    readable = "".join(c if c.isalnum() or c in "-_." else "_" for c in parsed.dbname)
    return spool_directory() / f"{readable[:40]}-{digits}"
