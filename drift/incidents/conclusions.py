"""What the evidence around an onset looks like, and what to decide. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from datetime import date

from .onset import KINDS, Decay, Mover, NearbyChange, of_kind

__all__ = ["decisions", "reading"]

WRONG = "wrong version"
NO_CAUSES = ("reference", "schema")  # of a fall: they change no output


def reading(
    movers: Sequence[Mover],
    changes: Sequence[NearbyChange],
    broken: Collection[str],
    start: date = date.min,
) -> str:
    """What the evidence looks like: the explanations in words, the strongest first.

    Parameters
    ----------
    start
        Movers and changes that began before this date explain no fall; they are named apart.
    broken
        The metrics by which an input is broken; by others it has only moved.

    Examples
    --------
    >>> reading([], [], ["skew"])
    'decay of the signal itself, not a broken input'
    """
    earlier = [f"{m.feature} since {m.first}" for m in movers if m.first < start]
    earlier += [f"{c.text}, since {c.session}" for c in changes if c.session < start]
    movers = [mover for mover in movers if mover.first >= start]
    changes = [change for change in changes if change.session >= start]
    causes = {kind: of_kind(kind, changes) for kind in KINDS if kind not in NO_CAUSES}
    explanations = [f"{KINDS[WRONG]}: {c.text}, from {c.session}" for c in causes.pop(WRONG)[:1]]
    faults = [mover for mover in movers if mover.metric in broken]
    if faults:
        others = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        first = faults[0]
        explanations.append(
            f"a broken input: {first.feature}, {first.text}, since {first.first}{others}"
        )
    if not explanations:
        explanations = [
            f"{KINDS[c[0].kind]}: {c[0].text}, on {c[0].session}" for c in causes.values() if c
        ]
    if not explanations and movers:
        first = movers[0]
        explanations.append(
            f"the inputs moved, none is broken: {first.feature}, {first.text}, since "
            f"{first.first}; another regime than the model was trained on"
        )
    if not explanations and earlier:
        return f"nothing began near the onset; what was wrong before: {'; '.join(earlier[:3])}"
    return "; and ".join(explanations[:3]) or "decay of the signal itself, not a broken input"


def decisions(
    result: Decay, alerts: Sequence[tuple[str, str, date]], broken: Collection[str]
) -> tuple[str, ...]:
    """What to decide, the cause first.

    Parameters
    ----------
    alerts
        Action, severity and first session of the open alerts on the IC, the worst first.
    broken
        As of `reading`.
    """
    if result.recovered is not None:
        return (f"none: the IC is back since {result.recovered}",)
    faults = [mover for mover in result.movers if mover.metric in broken]
    kinds = {change.kind for change in result.changes}
    end = result.sessions[-1]
    where = f"-s {shlex.quote(result.strategy_id)} {result.interval[0]} {end}"
    chosen = []
    if WRONG in kinds:
        chosen.append(f"serve the right version: mlflow-timescale incident version {where}")
    if faults:
        names = ", ".join(dict.fromkeys(mover.feature for mover in faults))
        chosen.append(f"repair {names}: mlflow-timescale incident skew {where}")
    if not chosen:
        chosen += [_gone_back(change) for change in of_kind("promotion", result.changes)[-1:]]
    if not chosen:
        chosen.append("retrain")
    worst = [f"{action} ({severity} since {session})" for action, severity, session in alerts[:1]]
    return (*chosen, *worst)


def _gone_back(change: NearbyChange) -> str:
    alias = shlex.quote(change.subject)
    return (
        f"compare the versions, or go back: mlflow-timescale registry rollback {alias} --reason WHY"
    )
