"""An incident as a self-contained HTML page, in the style of the session's report.

Needs the `report` extra (matplotlib, Jinja2).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..report import drawing, templates
from .chapters import chapters
from .evidence import Evidence

__all__ = ["picture", "render"]

MEAN = 20  # sessions
LEAST = 5  # sessions with an IC that are worth a picture
MOST_LANES = 8


def render(evidence: Evidence) -> str:
    """The page; a healthy day has no picture and a few lines."""
    parts = chapters(evidence)
    drawn = picture(evidence) if any(part.picture for part in parts) else None
    return templates.template("incident.html").render(
        incident=evidence,
        chapters=parts,
        picture=None if drawn is None else templates.embedded(drawn),
    )


def picture(evidence: Evidence) -> bytes | None:
    """The IC of each session above, below when each cause held; a PNG file, None without an IC."""
    ic = np.asarray(evidence.ic, dtype=np.float64)
    if np.isfinite(ic).sum() < LEAST:
        return None
    figure = drawing.incident_figure(
        evidence.days,
        ic,
        mean=MEAN,
        level=evidence.level,
        lanes=list(_lanes(evidence))[:MOST_LANES],
        onset=None if evidence.decay is None else (evidence.decay.first, *evidence.decay.interval),
    )
    return drawing.png(figure)


def _lanes(evidence: Evidence) -> Iterator[drawing.Lane]:
    """When each cause held, several of one subject in one lane."""
    for cause in evidence.faults:
        if cause.kind != "decay":
            last = cause.last or evidence.end
            yield drawing.Lane(cause.subject, cause.severity, cause.first, last)
