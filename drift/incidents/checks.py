"""What was looked at without finding anything, and what could not be answered, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..skew.sentences import counted
from .answers import Answers
from .causes import CHANGED, Cause
from .evidence import Unanswered
from .nearby import Nearby
from .onset import KINDS
from .versions import AGREES, NO_VERSION, UNKNOWN, ServedVersions

__all__ = ["CHANGES", "INPUTS", "ONSET", "REPLAYED", "VERSIONS", "checked", "unknown"]

INPUTS = "Were the live inputs those of research?"
VERSIONS = "Which version ran, and which should have?"
ONSET = "Since when is the IC low?"
CHANGES = "What changed around the first session of the fault?"
REPLAYED = "Does a replay reproduce what was served?"


def checked(
    answers: Answers,
    main: Cause | None,
    nearby: Nearby | None,
    ic: Sequence[float],
    level: float | None,
) -> Iterator[str]:
    """A sentence for each question that found nothing."""
    skew, versions, replays = answers.skew, answers.versions, answers.replays
    if skew is not None and skew.cells and skew.agrees:
        compared = counted(sum(feature.cells for feature in skew.features), "served cell")
        yield (
            f"Inputs: {compared} ({counted(len(skew.features), 'feature')}, "
            f"{counted(skew.sessions, 'session')}, {counted(skew.entities, 'name')}) agree with "
            f"{', '.join(sorted({feature.source for feature in skew.features}))}."
        )
    if versions is not None and versions.agrees and _is_compared(versions):
        yield f"Version: {' '.join(versions.sentences())}"
    if main is None and replays and all(replay.agrees for replay in replays):
        names = ", ".join(f"{replay.entity} on {replay.session}" for replay in replays)
        yield f"Replay: {names}: the model gives the recorded output."
    is_low = answers.decay is not None or any(a.metric == "ic" for a in answers.alerts)
    if level is not None and not is_low:
        known = [value for value in ic if np.isfinite(value)]
        mean = f"; mean of {counted(len(known), 'session')} {np.mean(known):.3f}" if known else ""
        yield f"IC: it has not left its accepted level of {level:.3f}{mean}."
    if main is not None and nearby is not None and not nearby.changes:
        kinds = [text for kind, text in KINDS.items() if kind not in nearby.unknown]
        yield f"Changes around {main.first}: none. Looked for: {', '.join(kinds)}."
    if not answers.alerts and ic:
        yield "Alerts: none is open."


def _is_compared(versions: ServedVersions) -> bool:
    return any(part.verdict == AGREES for part in versions.intervals)


def unknown(answers: Answers, level: float | None) -> Iterator[Unanswered]:
    """Questions to which the records have no answer."""
    skew, versions = answers.skew, answers.versions
    if answers.decay is None and level is None:
        yield Unanswered(ONSET, "no level of the IC was accepted; `drift accept` accepts one")
    if skew is not None and not skew.cells:
        yield Unanswered(
            INPUTS,
            "no served value is recorded in these sessions; live code records them with "
            "`mlflow_timescale.Serving`",
        )
    if versions is not None and all(
        part.verdict in (UNKNOWN, NO_VERSION) for part in versions.intervals
    ):
        yield Unanswered(VERSIONS, " ".join(versions.sentences()))
    refused = [
        replay
        for replay in answers.replays
        if replay.outcome == "refused" and replay.obstacle not in CHANGED
    ]
    for reason in dict.fromkeys(replay.reason for replay in refused):
        names = ", ".join(f"{r.entity} on {r.session}" for r in refused if r.reason == reason)
        yield Unanswered(REPLAYED, f"{names}: {reason}")
