"""Is the database server there? Asked before anything that retries for minutes."""

from __future__ import annotations

import os
from typing import Any

from mlflow_timescale.db.uri import DatabaseURI

CONNECT_SECONDS = 3


def require_server(uri: DatabaseURI) -> None:
    """Connect once, and wait only briefly for an answer.

    MLflow retries a server that refuses connections, and waits for ever for one that accepts them
    without an answer. An embedded server is not checked: the command starts it.

    Parameters
    ----------
    uri
        The database. Its connect_timeout, or PGCONNECT_TIMEOUT, counts instead of ours. Raises
        ConnectionFailed.
    """
    if uri.embedded is not None:
        return
    import psycopg

    from mlflow_timescale.db.errors import connection_failed

    keywords: dict[str, Any] = {"application_name": "mlflow-timescale", **uri.keywords()}
    if "PGCONNECT_TIMEOUT" not in os.environ:
        keywords.setdefault("connect_timeout", CONNECT_SECONDS)
    try:
        psycopg.connect(**keywords, autocommit=True).close()
    except psycopg.OperationalError as exc:
        raise connection_failed(exc, uri) from exc
