"""Opening connections: only entry points do, everything below takes one as an argument."""

from __future__ import annotations

import psycopg
from psycopg.rows import TupleRow

from mlflow_timescale.db import embedded
from mlflow_timescale.db.errors import connection_failed
from mlflow_timescale.db.queries import load
from mlflow_timescale.db.uri import DatabaseURI

_queries = load("server")


def connect(
    uri: str | DatabaseURI, *, autocommit: bool = False, application_name: str = "mlflow-timescale"
) -> psycopg.Connection[TupleRow]:
    """Open a connection in UTC; close it, or use it in a `with` block.

    Raises InvalidURI, EmbeddedServerError or ConnectionFailed; none of them shows a password.
    """
    uri = DatabaseURI.parse(uri)
    keywords = {"application_name": application_name, **embedded.keywords(uri)}
    try:
        conn = psycopg.connect(**keywords, autocommit=True)  # type: ignore[arg-type]
    except psycopg.OperationalError as exc:
        raise connection_failed(exc, uri) from exc
    conn.execute(_queries.use_utc)
    conn.autocommit = autocommit
    return conn
