"""Is the database server there? Checked before anything that retries for minutes."""

from __future__ import annotations

from mlflow_timescale.db.uri import DatabaseURI

SECONDS = 3.0


def require_server(uri: DatabaseURI) -> None:
    """Connect once, and wait only briefly for an answer.

    MLflow retries a server that refuses connections for minutes. An embedded server is not checked:
    the command starts it.

    Parameters
    ----------
    uri
        The database. Raises ConnectionFailed.
    """
    if uri.embedded is None:
        from mlflow_timescale.db import Database

        Database(uri).check(SECONDS)
