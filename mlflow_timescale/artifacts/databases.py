"""Which database an artifact belongs to, and the connections to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import psycopg
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, PERMISSION_DENIED

from mlflow_timescale import schema
from mlflow_timescale.common import attribution
from mlflow_timescale.common.attribution import SERVER_BACKEND
from mlflow_timescale.common.schemes import is_ours
from mlflow_timescale.common.settings import URI
from mlflow_timescale.db import Connection, Database, DatabaseURI, load
from mlflow_timescale.db.rights import lacking


def database_of(tracking_uri: str | None, registry_uri: str | None) -> DatabaseURI | None:
    """The database that keeps the ledger: an artifact URI never names it, so it can be no other.

    The tracking or registry URI at hand, the server's own, MLFLOW_TIMESCALE_URI, the current
    tracking URI, and at last the database on which this process opened a store (`mlflow gc` names
    no other). None if a tracking server is between us and the database.
    """
    import mlflow

    setting = URI.get()
    for uri in (tracking_uri, registry_uri, os.environ.get(SERVER_BACKEND), setting):
        if uri and (is_ours(uri) or uri == setting):
            return DatabaseURI.parse(uri)
    if tracking_uri and tracking_uri.startswith(("http:", "https:")):
        return None
    current = mlflow.get_tracking_uri()
    if is_ours(current):
        return DatabaseURI.parse(current)
    return DatabaseURI.parse(schema.last_prepared) if schema.last_prepared else None


def need_database(
    artifact_uri: str, tracking_uri: str | None, registry_uri: str | None
) -> DatabaseURI:
    """The same, where there is no going on without."""
    if found := database_of(tracking_uri, registry_uri):
        return found
    raise MlflowException(
        f"cannot tell which database holds the ledger of {artifact_uri}: the tracking URI is not "
        f"postgresql+timescaledb://...; set {URI.name} to the database's URI",
        INVALID_PARAMETER_VALUE,
    )


_queries = load("artifacts")


@contextmanager
def connection(uri: DatabaseURI) -> Iterator[Connection]:
    """A pooled connection in a transaction that commits when the block ends well.

    Raises MlflowException, one line that names the role, where the database refuses a right.
    """
    try:
        with _database(uri).transaction() as conn:
            _attribute(conn)
            yield conn
    except psycopg.errors.InsufficientPrivilege as exc:
        raise MlflowException(lacking(exc, uri.user), PERMISSION_DENIED) from exc


def _attribute(conn: Connection) -> None:
    """Tell the database whom the server authenticated; it records its own login by itself."""
    current = attribution.current()
    if current.authenticated:
        values = {"authenticated": current.authenticated, "claimed": current.claimed or ""}
        conn.execute(_queries.attribute, values)


@cache
def _database(uri: DatabaseURI) -> Database:
    """One pool per process and database.

    Apart from the stores' pool, so that a few long downloads cannot starve the tracking calls.
    """
    return Database(uri, prepare=lambda uri: schema.prepare(uri.url))
