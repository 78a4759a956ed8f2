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


def only_strategy(uri: DatabaseURI, name: str | None) -> str:
    """The strategy that is named, or the only one; raises Error if there are others or none.

    Parameters
    ----------
    uri
        The database.
    name
        The name as it was given; None if it was not.
    """
    from mlflow_timescale.db import Error, connect

    from .. import strategies

    require_strategies(uri)
    if name is not None:
        return name
    with connect(uri, autocommit=True) as conn:
        recorded = strategies.names(conn)
    if len(recorded) != 1:
        listed = ", ".join(recorded) or "none"
        raise Error(f"which strategy? Give one with -s; recorded are: {listed}")
    return recorded[0]


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
