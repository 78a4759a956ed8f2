"""What waits in a spool, as people and commands see it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mlflow_timescale.spool.state import Refused


@dataclass(frozen=True)
class Status:
    """What a spool holds.

    Attributes
    ----------
    waiting, bytes
        The records that wait, and their size.
    oldest
        When the first of them was appended; None if none waits.
    kinds
        How many wait, by kind.
    refused
        The records that the database refused, with the reasons.
    damaged
        Files with bytes that were no records.
    sent, dropped
        How many records the database has, and how many a full spool dropped.
    """

    waiting: int
    bytes: int
    oldest: datetime | None
    kinds: dict[str, int]
    refused: list[Refused]
    damaged: list[str]
    sent: int
    dropped: int
