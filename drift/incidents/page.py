"""An incident as a self-contained HTML page, in the style of the session's report.

Needs the `report` extra (matplotlib, Jinja2).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..report import templates
from ..report.axes import png
from ..report.incident_figure import Lane, incident_figure
from .chapters import chapters
from .evidence import Evidence

__all__ = ["pictures", "render"]

MEAN = 20  # sessions
LEAST = 5  # sessions with an IC that are worth a picture
MOST_LANES = 8


def render(evidence: Evidence) -> str:
    """The page; a healthy day has no picture and a few lines."""
    parts = chapters(evidence)
    drawn = pictures(evidence) if any(part.picture for part in parts) else ()
    return templates.template("incident.html").render(
        incident=evidence,
        chapters=parts,
        pictures=[templates.embedded(data) for data in drawn],
    )


def pictures(evidence: Evidence) -> tuple[bytes, ...]:
    """The IC of each session above, below when each cause held; nothing without an IC.

    Two PNG files, for a wide and for a narrow window.
    """
    ic = np.asarray(evidence.ic, dtype=np.float64)
    if np.isfinite(ic).sum() < LEAST:
        return ()
    decay = evidence.decay
    return tuple(
        png(
            incident_figure(
                evidence.days,
                ic,
                mean=MEAN,
                level=evidence.level,
                lanes=list(_lanes(evidence))[:MOST_LANES],
                onset=None if decay is None else (decay.first, *decay.interval),
                narrow=narrow,
            )
        )
        for narrow in (False, True)
    )


def _lanes(evidence: Evidence) -> Iterator[Lane]:
    """When each cause held, several of one subject in one lane."""
    for cause in evidence.faults:
        if cause.kind != "decay":
            last = cause.last or evidence.end
            yield Lane(cause.subject, cause.severity, cause.first, last)
