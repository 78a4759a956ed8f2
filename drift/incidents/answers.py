"""The answers to the questions about an incident, together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..alerts.lifecycle import Alert
from ..skew.reconciliation import Reconciliation
from .onset import Decay
from .replay import Replay
from .versions import ServedVersions

__all__ = ["Answers"]


@dataclass(frozen=True)
class Answers:
    """What each question found; None where it has no answer, or nothing to say.

    `alerts` are those that were open at the last session.
    """

    skew: Reconciliation | None = None
    versions: ServedVersions | None = None
    decay: Decay | None = None
    replays: Sequence[Replay] = ()
    alerts: Sequence[Alert] = ()
