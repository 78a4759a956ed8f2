"""Writes that wait on the local disk while the database is away, and are sent later.

It knows nothing of what it holds: a record is a kind, an id and bytes. Records are sent in their
order, and what a sender writes under the record's id in one transaction is there exactly once.
"""

from mlflow_timescale.spool.drainer import Drainer
from mlflow_timescale.spool.folder import SpoolError
from mlflow_timescale.spool.outbox import Away, Outbox
from mlflow_timescale.spool.records import Record
from mlflow_timescale.spool.sending import Drained, Refusal, Sender
from mlflow_timescale.spool.spool import Spool, SpoolBusy, SpoolFull
from mlflow_timescale.spool.state import Refused
from mlflow_timescale.spool.status import Status

__all__ = [
    "Away",
    "Drained",
    "Drainer",
    "Outbox",
    "Record",
    "Refusal",
    "Refused",
    "Sender",
    "Spool",
    "SpoolBusy",
    "SpoolError",
    "SpoolFull",
    "Status",
]
