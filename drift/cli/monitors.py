"""Opening the monitors of strategies that are recorded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mlflow_timescale.db import DatabaseURI

if TYPE_CHECKING:
    from mlflow_timescale.db import Database

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
    from ..monitor import DriftMonitor

    database = require_strategies(uri, [strategy])
    return DriftMonitor(database, strategy, rules=rules, tracking_uri=None if mlflow else False)


def require_strategies(uri: DatabaseURI, strategies: Iterable[str]) -> Database:
    """Raise Error unless all strategies are recorded; return the database."""
    from mlflow_timescale import db

    queries = db.load("drift")
    database = db.Database(uri, application="drift")
    with database.connection() as conn:
        names = [row[0] for row in conn.execute(queries.strategies)]
    for strategy in strategies:
        if strategy not in names:
            recorded = ", ".join(names) or "none yet"
            raise db.Error(
                f"no strategy {strategy!r}; recorded are: {recorded}. Use `drift record` first"
            )
    return database
