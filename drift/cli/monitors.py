"""Opening the monitor of a strategy that is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_timescale.db import DatabaseURI

if TYPE_CHECKING:
    from ..monitor import DriftMonitor


def open_monitor(
    uri: DatabaseURI, strategy: str, *, mlflow: bool = True, rules: str | None = None
) -> DriftMonitor:
    """The monitor of a recorded strategy; a mistyped name must not become a new strategy.

    Parameters
    ----------
    uri
        The database.
    strategy
        A recorded name. Raises Error for any other.
    mlflow
        False logs no MLflow runs.
    rules
        A preset that replaces the strategy's rules.
    """
    from mlflow_timescale import db

    from ..monitor import DriftMonitor

    queries = db.load("drift")
    with db.connect(uri, autocommit=True) as conn:
        db.ensure(conn, uri)
        names = [row[0] for row in conn.execute(queries.strategies)]
    if strategy not in names:
        recorded = ", ".join(names) or "none yet"
        raise db.Error(
            f"no strategy {strategy!r}; recorded are: {recorded}. Use `drift record` first"
        )
    return DriftMonitor(uri, strategy, rules=rules, tracking_uri=None if mlflow else False)
