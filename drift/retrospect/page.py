"""All models on one self-contained HTML page: which decayed, since when, and the curve of each.

Needs Jinja2, which MLflow installs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from math import isfinite

from ..report import templates
from .answers import Retrospect, alerts_text, since
from .curves import HEIGHT, WIDTH, Axis, Curve, Strip, curve, strip
from .judging import Judged
from .recorders import Outcome, title

__all__ = ["render"]

SHOWN = 60  # curves that are visible; the others unfold
CLASSES = {
    "decayed": "emergency",
    "suspected": "critical",
    "alert": "critical",
    "recovered": "warning",
    "no skill": "quiet",
    "healthy": "ok",
    "too short": "quiet",
}


@dataclass(frozen=True)
class Card:
    """One model on the page."""

    name: str
    outcome: Outcome
    judged: Judged
    curve: Curve
    strip: Strip
    since: str
    alerts: str

    @property
    def style(self) -> str:
        """The CSS class of the state."""
        return CLASSES[self.judged.state]


def render(retrospect: Retrospect, made: datetime) -> str:
    """The page.

    Parameters
    ----------
    retrospect
        The models.
    made
        When the page was made; aware.
    """
    models = [judged for _, judged in retrospect.judged]
    axis = Axis.of(models) if models else None
    cards = [_card(retrospect, *pair, axis) for pair in retrospect.judged if axis]
    return templates.template("retrospect.html").render(
        retrospect=retrospect,
        axis=axis,
        cards=cards,
        shown=SHOWN,
        classes=CLASSES,
        width=WIDTH,
        height=HEIGHT,
        made=made,
        title=title,
        figure=figure,
    )


def figure(value: float | None, digits: int = 3) -> str:
    """A number with a fixed count of decimals; a dash for a missing one.

    >>> figure(0.03456), figure(-0.0001), figure(None)
    ('0.035', '0.000', '–')
    """
    if value is None or not isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _card(retrospect: Retrospect, outcome: Outcome, judged: Judged, axis: Axis) -> Card:
    return Card(
        name=retrospect.label(outcome, judged),
        outcome=outcome,
        judged=judged,
        curve=curve(judged, axis),
        strip=strip(judged, axis),
        since=since(judged),
        alerts=alerts_text(judged.open_alerts),
    )
