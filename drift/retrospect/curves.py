"""Curves and strips as numbers of SVG paths, in a box of 1000 by 100 units.

A page of two hundred models has two hundred pictures: SVG paths are small, sharp at every width,
and take milliseconds to make.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from ..metrics import ic
from ..metrics.arrays import Floats
from .judging import Judged

__all__ = ["Axis", "Curve", "Strip", "curve", "strip"]

WIDTH, HEIGHT = 1000, 100
MEAN = 20  # sessions of the moving average that is drawn
BUCKETS = 60  # most cells of a strip
_MONTH = 30.4  # days
_GOOD, _BAD, _BLANK = (43, 108, 176), (197, 48, 48), (255, 255, 255)


@dataclass(frozen=True)
class Axis:
    """The first and the last session of all models, and the largest IC that is drawn."""

    first: date
    last: date
    top: float

    @classmethod
    def of(cls, models: Sequence[Judged]) -> Axis:
        """An axis that covers all models."""
        means = [np.abs(_mean(judged)) for judged in models]
        finite = np.concatenate([values[np.isfinite(values)] for values in means] or [np.empty(0)])
        top = float(np.quantile(finite, 0.995)) if len(finite) else 0.1
        first = min(judged.sessions[0] for judged in models)
        return cls(first, max(judged.sessions[-1] for judged in models), max(top, 0.01) * 1.15)

    def x(self, day: date) -> float:
        """The horizontal position of a session, from 0 to `WIDTH`."""
        days = max((self.last - self.first).days, 1)
        return round((day - self.first).days / days * WIDTH, 1)

    def y(self, value: float) -> float:
        """The vertical position of an IC, from 0 (the top) to `HEIGHT`."""
        return round((1 - float(np.clip(value / self.top, -1, 1))) / 2 * HEIGHT, 1)


@dataclass(frozen=True)
class Curve:
    """The paths of one model.

    Attributes
    ----------
    daily, mean, fallen
        The IC of each session, its moving average up to the onset, and from the onset on.
    level, zero
        Vertical positions of the reference's mean IC (None without a reference) and of zero.
    reference, interval
        Horizontal ends of the reference and of the onset's interval; None without one.
    onset
        Horizontal position of the onset; None without one.
    """

    daily: str
    mean: str
    fallen: str
    level: float | None
    zero: float
    reference: tuple[float, float] | None
    interval: tuple[float, float] | None
    onset: float | None


@dataclass(frozen=True)
class Strip:
    """Mean ICs of one model by calendar time: positions, widths and colours of cells; the onset."""

    cells: tuple[tuple[float, float, str], ...]
    onset: float | None


def curve(judged: Judged, axis: Axis) -> Curve:
    """The decay curve of a model."""
    places = [axis.x(day) for day in judged.sessions]
    decay, reference = judged.fall, judged.reference
    daily = judged.values["ic"]
    mean = _mean(judged)
    bars = [
        f"M{x} {axis.y(0)}V{axis.y(value)}"
        for x, value in zip(places, daily.tolist(), strict=True)
        if np.isfinite(value)
    ]
    since = judged.sessions.index(decay.first) if decay else len(places)
    return Curve(
        daily="".join(bars),
        mean=_path(places[: since + 1], mean[: since + 1], axis),
        fallen=_path(places[since:], mean[since:], axis),
        level=axis.y(judged.level.mean) if judged.level else None,
        zero=axis.y(0),
        reference=(axis.x(reference[0]), axis.x(reference[1])) if reference else None,
        interval=(axis.x(decay.interval[0]), axis.x(decay.interval[1])) if decay else None,
        onset=axis.x(decay.first) if decay else None,
    )


def strip(judged: Judged, axis: Axis) -> Strip:
    """The IC of a model by time, as colours: blue above zero, red below."""
    days = max((axis.last - axis.first).days, 1)
    buckets = int(np.clip(round(days / _MONTH), 1, BUCKETS))
    places = np.array([axis.x(day) for day in judged.sessions])
    at = np.minimum((places / WIDTH * buckets).astype(int), buckets - 1)
    width = WIDTH / buckets
    cells = tuple(
        (round(bucket * width, 1), round(width, 1), _color(value / axis.top))
        for bucket, value in _bucket_means(judged.values["ic"], at)
    )
    return Strip(cells, axis.x(judged.fall.first) if judged.fall else None)


def _bucket_means(values: Floats, at: NDArray[np.int64]) -> Iterator[tuple[int, float]]:
    for bucket in np.unique(at).tolist():
        finite = values[(at == bucket) & np.isfinite(values)]
        if len(finite):
            yield bucket, float(finite.mean())


def _mean(judged: Judged) -> Floats:
    values = judged.values["ic"]
    return np.where(np.isfinite(values), ic.moving_average(values, MEAN), np.nan)


def _path(places: Sequence[float], values: Floats, axis: Axis) -> str:
    points = [
        f"{x} {axis.y(value)}"
        for x, value in zip(places, values.tolist(), strict=True)
        if np.isfinite(value)
    ]
    return f"M{'L'.join(points)}" if len(points) > 1 else ""


def _color(share: float) -> str:
    """Blue for 1, white for 0, red for -1.

    >>> _color(1.0), _color(0.0), _color(-2.0)
    ('#2b6cb0', '#ffffff', '#c53030')
    """
    share = float(np.clip(share, -1, 1))
    end = _GOOD if share > 0 else _BAD
    mixed = [round(a + (b - a) * abs(share)) for a, b in zip(_BLANK, end, strict=True)]
    return f"#{mixed[0]:02x}{mixed[1]:02x}{mixed[2]:02x}"
