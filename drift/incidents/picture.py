"""Pictures of the answers: the IC, and below when each version served, or each input moved."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..report.axes import png
from ..report.incident_figure import Lane, incident_figure
from .movers import BROKEN
from .onset import Decay
from .versions import DIFFERS, ServedVersions

__all__ = ["onset_picture", "versions_picture"]

DRAWN = 120  # sessions before the onset
MEAN = 20  # sessions of the moving mean
MOST_LANES = 20


def onset_picture(decay: Decay) -> bytes:
    """A PNG file."""
    start = max(decay.onset.index - DRAWN, 0)
    figure = incident_figure(
        decay.sessions[start:],
        np.array(decay.ics[start:]),
        mean=MEAN,
        level=decay.level,
        lanes=list(_lanes(decay))[:MOST_LANES],
        onset=(decay.first, *decay.interval),
    )
    return png(figure)


def versions_picture(versions: ServedVersions) -> bytes:
    """A PNG file; versions that differ from the alias are critical."""
    ics = [np.nan if ic is None else ic for ic in versions.ics.values()]
    lanes = [
        Lane(
            part.served or "no name",
            "critical" if part.verdict == DIFFERS else "",
            part.first,
            part.last,
        )
        for part in versions.intervals
    ]
    figure = incident_figure(list(versions.ics), np.array(ics), mean=MEAN, lanes=lanes)
    return png(figure)


def _lanes(decay: Decay) -> Iterator[Lane]:
    for mover in decay.movers:
        severity = "critical" if mover.metric in BROKEN else "warning"
        yield Lane(mover.feature, severity, mover.first, mover.last)
    for change in decay.changes:
        yield Lane(change.kind, "warning", change.session, change.session)
