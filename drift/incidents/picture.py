"""The IC around an onset, and below when each input moved and what changed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..report import drawing
from .movers import BROKEN
from .onset import Decay

__all__ = ["onset_picture"]

DRAWN = 120  # sessions before the onset
MEAN = 20  # sessions of the moving mean
MOST_LANES = 20


def onset_picture(decay: Decay) -> bytes:
    """A PNG file."""
    start = max(decay.onset.index - DRAWN, 0)
    figure = drawing.incident_figure(
        decay.sessions[start:],
        np.array(decay.ics[start:]),
        mean=MEAN,
        level=decay.level,
        lanes=list(_lanes(decay))[:MOST_LANES],
        onset=(decay.first, *decay.interval),
    )
    return drawing.png(figure)


def _lanes(decay: Decay) -> Iterator[drawing.Lane]:
    for mover in decay.movers:
        severity = "critical" if mover.metric in BROKEN else "warning"
        yield drawing.Lane(mover.feature, severity, mover.first, mover.last)
    for change in decay.changes:
        yield drawing.Lane(change.kind, "warning", change.session, change.session)
