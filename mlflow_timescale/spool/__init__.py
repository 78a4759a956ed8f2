"""Writes that wait on the local disk while the database is away, and are sent later.

A spool does not interpret its records: a record is a kind, an id and bytes. Records are sent in
order. A sender writes a record and its id in one transaction, so that it has its effect once.
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
