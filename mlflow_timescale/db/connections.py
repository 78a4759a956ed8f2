"""Opening connections: only entry points do, everything below takes one as an argument."""

from __future__ import annotations

from typing import Any

import psycopg

from mlflow_timescale.db import embedded, session
from mlflow_timescale.db.connection import Connection
from mlflow_timescale.db.opening import (
    application_name,
    connection_failed,
    network_keywords,
    open_connection,
)
from mlflow_timescale.db.uri import DatabaseURI

# Servers whose pooler refused the start-up options: the next connection does not try again.
_without_options: set[DatabaseURI] = set()


def connect(
    uri: str | DatabaseURI,
    *,
    autocommit: bool = False,
    application: str = "mlflow-timescale",
    connect_timeout: float | None = None,
) -> Connection:
    """Open a connection in UTC; close it, or use it in a `with` block.

    `application` begins the name in `pg_stat_activity`. `connect_timeout` shortens the wait for a
    silent server, in seconds for each host (not below 2).
    Raises InvalidURI, EmbeddedServerError or ConnectionFailed; none of them shows a password.

    >>> with connect(uri) as conn:
    ...     conn.execute("SELECT 1").fetchone()
    (1,)
    """
    uri = DatabaseURI.parse(uri)
    limit = {} if connect_timeout is None else {"connect_timeout": str(round(connect_timeout))}
    try:
        return connect_driver(uri, application, autocommit=autocommit, **limit)
    except psycopg.OperationalError as exc:
        raise connection_failed(exc, uri) from exc


def connect_driver(
    uri: DatabaseURI, application: str, *, autocommit: bool = False, **keywords: Any
) -> Connection:
    """Open a connection, and leave the driver's errors as they are; `keywords` go to psycopg."""
    target = embedded.checked_keywords(uri)
    named: dict[str, Any] = {
        "fallback_application_name": application_name(application),
        "client_encoding": "UTF8",
        **network_keywords(),
        **target,
        **keywords,
        "autocommit": True,
    }
    conn = _open(named, uri)
    if uri.embedded is None:  # no pooler stands before a server of our own
        session.settle(conn, uri)
    conn.autocommit = autocommit
    return conn


def _open(keywords: dict[str, Any], uri: DatabaseURI) -> Connection:
    given = str(keywords.get("options", ""))
    waits = uri.embedded is not None
    if uri not in _without_options:
        try:
            options = {"options": session.startup_options(given)}
            return open_connection(keywords | options, waits_for_startup=waits)
        except psycopg.OperationalError as exc:
            if not session.options_refused(exc):
                raise
    conn = open_connection(keywords, waits_for_startup=waits)
    _without_options.add(uri)
    return conn
