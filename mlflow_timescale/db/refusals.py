"""Errors of the driver in the words of this package: what was refused, and what to do."""

from __future__ import annotations

import psycopg
from psycopg import errors

from mlflow_timescale.db.errors import Refused
from mlflow_timescale.db.opening import in_one_line
from mlflow_timescale.db.rights import lacking
from mlflow_timescale.db.uri import DatabaseURI

_ADVICE: tuple[tuple[type[psycopg.Error], str], ...] = (
    (errors.ReadOnlySqlTransaction, "this server is read-only: use the URI of the primary"),
    (errors.QueryCanceled, "a timeout or an administrator ended the statement: try it again"),
    (errors.LockNotAvailable, "another session holds the lock: try it again"),
    (errors.DeadlockDetected, "two sessions blocked each other: try it again"),
    (errors.SerializationFailure, "another session changed the same rows: try it again"),
    (errors.DiskFull, "free space on the server"),
    (errors.UndefinedTable, "`mlflow-timescale migrate` brings an older schema up to date"),
    (errors.UndefinedColumn, "`mlflow-timescale migrate` brings an older schema up to date"),
    (errors.UndefinedFunction, "`mlflow-timescale migrate` brings an older schema up to date"),
    (psycopg.InterfaceError, "the connection was closed: try it again"),
)


def refused(error: psycopg.Error, uri: DatabaseURI) -> Refused:
    """The error for a statement that the database, or the driver, did not accept.

    The message is one line: the server's own text and detail, its SQLSTATE, and what to do.

    >>> uri = DatabaseURI.parse("timescaledb://localhost/trading")
    >>> print(refused(errors.QueryCanceled("canceling statement"), uri))
    postgresql+timescaledb://localhost/trading refused the call: canceling statement
    (SQLSTATE 57014); a timeout or an administrator ended the statement: try it again
    """
    if isinstance(error, errors.InsufficientPrivilege):
        return Refused(f"{uri} refused the call: {lacking(error, uri.user)}")
    diagnosis = error.diag
    text = in_one_line(str(diagnosis.message_primary or error), uri)
    detail = f" ({in_one_line(diagnosis.message_detail, uri)})" if diagnosis.message_detail else ""
    state = f" (SQLSTATE {error.sqlstate})" if error.sqlstate else ""
    advice = next((f"; {advice}" for kind, advice in _ADVICE if isinstance(error, kind)), "")
    return Refused(f"{uri} refused the call: {text}{detail}{state}{advice}")
