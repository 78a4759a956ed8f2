"""What was looked at without finding anything, and what could not be answered, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..alerts.lifecycle import Alert
from ..skew.reconciliation import Reconciliation
from .causes import CHANGED
from .evidence import Unanswered
from .onset import Decay
from .replay import Replay
from .text import counted
from .versions import AGREES, NO_VERSION, UNKNOWN, ServedVersions

__all__ = ["INPUTS", "REPLAYED", "VERSIONS", "checked", "unknown"]

INPUTS = "Were the live inputs those of research?"
VERSIONS = "Which version ran, and which should have?"
REPLAYED = "Does a replay reproduce what was served?"


def checked(
    skew: Reconciliation | None,
    versions: ServedVersions | None,
    replays: Sequence[Replay],
    decay: Decay | None,
    alerts: Sequence[Alert],
    ic: Sequence[float],
    level: float | None,
) -> Iterator[str]:
    """A sentence for each question that found nothing."""
    if skew is not None and skew.cells and skew.agrees:
        compared = counted(sum(feature.cells for feature in skew.features), "served cell")
        yield (
            f"Inputs: {compared} ({counted(len(skew.features), 'feature')}, "
            f"{counted(skew.sessions, 'session')}, {counted(skew.entities, 'name')}) agree with "
            f"{', '.join(sorted({feature.source for feature in skew.features}))}."
        )
    if versions is not None and versions.agrees and any(_compared(versions)):
        yield f"Version: {' '.join(versions.sentences())}"
    if replays and all(replay.agrees for replay in replays):
        names = ", ".join(f"{replay.entity} on {replay.session}" for replay in replays)
        yield f"Replay: {names}: the model gives the recorded output."
    if decay is None and level is not None:
        known = [value for value in ic if np.isfinite(value)]
        mean = f"; mean of {counted(len(known), 'session')} {np.mean(known):.3f}" if known else ""
        yield f"IC: it has not left its accepted level of {level:.3f}{mean}."
    if not alerts and ic:
        yield "Alerts: none is open."


def _compared(versions: ServedVersions) -> Iterator[bool]:
    return (part.verdict == AGREES for part in versions.intervals)


def unknown(
    skew: Reconciliation | None, versions: ServedVersions | None, replays: Sequence[Replay]
) -> Iterator[Unanswered]:
    """Questions that were asked, and that the records cannot answer."""
    if skew is not None and not skew.cells:
        yield Unanswered(
            INPUTS,
            "no served value is recorded in these sessions; live code records them with "
            "`mlflow_timescale.Serving`",
        )
    if versions is not None and not any(
        part.verdict not in (UNKNOWN, NO_VERSION) for part in versions.intervals
    ):
        yield Unanswered(VERSIONS, " ".join(versions.sentences()))
    refused = [r for r in replays if r.outcome == "refused" and r.obstacle not in CHANGED]
    for reason in dict.fromkeys(replay.reason for replay in refused):
        names = ", ".join(f"{r.entity} on {r.session}" for r in refused if r.reason == reason)
        yield Unanswered(REPLAYED, f"{names}: {reason}")
