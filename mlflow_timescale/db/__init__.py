"""The database layer: URIs, connections, the embedded server, named queries, migrations.

It knows nothing of MLflow, and never imports it.
"""

from mlflow_timescale.db.connection import Connection
from mlflow_timescale.db.connections import connect
from mlflow_timescale.db.database import Database
from mlflow_timescale.db.errors import (
    ConnectionFailed,
    EmbeddedServerError,
    Error,
    InvalidURI,
    MigrationError,
    Refused,
)
from mlflow_timescale.db.locks import LocksHeld, time_limits, with_short_waits
from mlflow_timescale.db.migrations import ensure, exclusively, migrate
from mlflow_timescale.db.names_of_uri import one_of
from mlflow_timescale.db.queries import load
from mlflow_timescale.db.rehearsal import is_rehearsal, rehearsal
from mlflow_timescale.db.revisions import read_state
from mlflow_timescale.db.uri import DatabaseURI

__all__ = [
    "Connection",
    "ConnectionFailed",
    "Database",
    "DatabaseURI",
    "EmbeddedServerError",
    "Error",
    "InvalidURI",
    "LocksHeld",
    "MigrationError",
    "Refused",
    "connect",
    "ensure",
    "exclusively",
    "is_rehearsal",
    "load",
    "migrate",
    "one_of",
    "read_state",
    "rehearsal",
    "time_limits",
    "with_short_waits",
]
