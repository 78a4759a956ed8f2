"""The errors of the database layer, and the one place where driver errors are translated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from mlflow_timescale.db.uri import DatabaseURI


class Error(Exception):
    """Something the caller can act on; the message says what was wrong and what to do."""


class InvalidURI(Error, ValueError):
    """A database URI that cannot be understood."""


class EmbeddedServerError(Error):
    """The embedded PostgreSQL could not be installed, created or started."""


class ConnectionFailed(Error, ConnectionError):
    """The server could not be reached, or refused the connection.

    `permanent` says that waiting will not help: wrong password, no such database.
    """

    permanent = False


class MigrationError(Error):
    """The schema in the database and the files in `sql/` cannot be brought together."""


def connection_failed(exc: psycopg.OperationalError, uri: DatabaseURI) -> ConnectionFailed:
    """Say where the connection was going, without the password, and what usually helps."""
    reason = " ".join(str(exc).split()).rstrip(".")
    if uri.password:
        reason = reason.replace(uri.password, "***")
    permanent, advice = _advice(reason)
    failure = ConnectionFailed(
        f"cannot connect to {uri}: {reason}. {advice.format(dbname=uri.dbname)}"
    )
    failure.permanent = permanent
    return failure


def _advice(reason: str) -> tuple[bool, str]:
    for sign, permanent, advice in _ADVICE:
        if sign in reason:
            return permanent, advice
    return False, "Check host, port and user in the URI."


_ADVICE = (
    ("No such file", False, "Check that the server runs, and the socket directory in the URI."),
    ("password authentication failed", True, "Check user and password in the URI."),
    ("no password supplied", True, "Put the password into the URI, PGPASSWORD or ~/.pgpass."),
    ("no pg_hba.conf entry", True, "The server does not let this user in from here: pg_hba.conf."),
    ('role "', True, "Check the user in the URI."),
    ("does not exist", True, "Create it first: createdb {dbname}."),
    ("too many clients", False, "Raise max_connections, or lower the pool size."),
    ("too many connections", False, "Raise the connection limit, or lower the pool size."),
    ("server closed the connection", False, "It is starting or has stopped; try again."),
    ("refused", False, "Check that the server runs and listens there."),
    ("could not translate host name", False, "Check the host name in the URI."),
    ("failed to resolve host", False, "Check the host name in the URI."),
    ("timeout", False, "Check the host and port in the URI, and the firewall between."),
)
