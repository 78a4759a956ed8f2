"""Where artifacts go if nobody says: the one place that decides."""

from __future__ import annotations

from mlflow_timescale.db.uri import DatabaseURI


def default_artifact_root(uri: DatabaseURI) -> str | None:
    """The directory `artifacts` beside an embedded database; None leaves it to MLflow.

    >>> default_artifact_root(DatabaseURI.parse("timescaledb+embedded:/var/lib/quant"))
    '/var/lib/quant/artifacts'
    """
    return str(uri.embedded / "artifacts") if uri.embedded is not None else None
