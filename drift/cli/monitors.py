"""The monitor that a command works on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_timescale.cli.kit import require_schema
from mlflow_timescale.db import DatabaseURI

if TYPE_CHECKING:
    from ..monitor import DriftMonitor


def open_monitor(uri: DatabaseURI, strategy: str, *, mlflow: bool = True) -> DriftMonitor:
    """The monitor of a strategy; its calls raise UnknownStrategy for a name not recorded.

    Parameters
    ----------
    uri
        The database.
    strategy
        The name of a strategy.
    mlflow
        False logs no MLflow runs.
    """
    from ..monitor import DriftMonitor

    require_strategies(uri)
    return DriftMonitor(uri, strategy, tracking_uri=None if mlflow else False)


def require_strategies(uri: DatabaseURI) -> None:
    """Raise MigrationError, in one line, for a database without our schema.

    A reader's first connection would set the schema up, in any database that a typing error names.

    Parameters
    ----------
    uri
        The database.
    """
    from mlflow_timescale.db import connect

    with connect(uri, autocommit=True) as conn:
        require_schema(conn, uri)
