"""The errors of the database layer."""

from __future__ import annotations

from mlflow_timescale.db.masking import without_secrets


class Error(Exception):
    """Something the caller can act on; the message names what was wrong and what to do.

    Secrets of URIs in it are masked, wherever the text comes from.

    >>> print(Error("cannot open s3://key:s3cret@bucket/snapshots"))
    cannot open s3://key:***@bucket/snapshots
    """

    def __init__(self, *arguments: object) -> None:
        plain = (without_secrets(item) if isinstance(item, str) else item for item in arguments)
        super().__init__(*plain)


class InvalidURI(Error, ValueError):
    """A database URI that cannot be understood."""


class EmbeddedServerError(Error):
    """The embedded PostgreSQL could not be installed, created or started."""


class ConnectionFailed(Error, ConnectionError):
    """The server could not be reached, refused the connection, or closed it during a call.

    `permanent` means that waiting will not help: wrong password, no such database.
    """

    permanent = False


class Refused(Error):
    """The database, or its driver, did not accept a statement; `__cause__` is psycopg's error."""


class MigrationError(Error):
    """The schema in the database and the files in `sql/` cannot be brought together."""
