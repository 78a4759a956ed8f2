"""Writes that wait on the local disk while the database is away, and are sent later.

It knows nothing of what it holds: a record is a kind, an id and bytes. Records are sent in their
order, and what a sender writes under the record's id in one transaction is there exactly once.
"""

from mlflow_timescale.spool.drainer import Drainer
from mlflow_timescale.spool.folder import SpoolError
from mlflow_timescale.spool.records import Record
from mlflow_timescale.spool.spool import Drained, Refusal, Spool, SpoolBusy, SpoolFull
from mlflow_timescale.spool.state import Refused
from mlflow_timescale.spool.status import Status

__all__ = [
    "Drained",
    "Drainer",
    "Record",
    "Refusal",
    "Refused",
    "Spool",
    "SpoolBusy",
    "SpoolError",
    "SpoolFull",
    "Status",
]
