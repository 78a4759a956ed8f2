"""The contents of a spool, for people and commands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mlflow_timescale.spool.state import Refused


@dataclass(frozen=True)
class Status:
    """The contents of a spool.

    Attributes
    ----------
    waiting, bytes
        The number of waiting records, and the bytes of records and files that wait.
    oldest
        When the oldest waiting record was appended; None if none waits.
    kinds
        The number of waiting records, by kind.
    refused
        The records that the database refused, with the reasons.
    damaged
        Files with damaged bytes.
    sent, dropped
        The number of records that the database has, and of those that a full spool dropped.
    """

    waiting: int
    bytes: int
    oldest: datetime | None
    kinds: dict[str, int]
    refused: list[Refused]
    damaged: list[str]
    sent: int
    dropped: int
