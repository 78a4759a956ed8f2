"""The figure of an incident: the IC of each session, and when each cause held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from ..metrics.arrays import Floats
from .axes import (
    BLUE,
    DPI,
    LABEL_CHARACTERS,
    LABEL_WIDTH,
    SEVERITY_COLORS,
    SEVERITY_HATCHES,
    WIDTH,
    date_axis,
    day_numbers,
    draw_ic,
    draw_onset,
    finish,
    plain_spines,
    short_label,
)

# Of a telephone's picture.
NARROW, NARROW_LABEL, NARROW_CHARACTERS = 3.7, 1.3, 17
LANE_HEIGHT = 0.26  # inches


@dataclass(frozen=True)
class Lane:
    """A name, and the sessions from `first` to `last` in which something held.

    `severity` is "" where nothing is wrong.
    """

    name: str
    severity: str
    first: date
    last: date


def incident_figure(
    sessions: Sequence[date],
    ic: Floats,
    *,
    mean: int,
    level: float | None = None,
    lanes: Sequence[Lane] = (),
    onset: tuple[date, date, date] | None = None,
    narrow: bool = False,
) -> Figure:
    """Daily IC with its mean of some sessions above, below a lane for each name.

    `ic` has shape (sessions,), NaN where there is no value; `level` is the accepted mean; `onset`
    is the first session of a fall, and the ends of its interval; `narrow` is for telephones.
    """
    names = list(dict.fromkeys(lane.name for lane in lanes))
    figure, grid = _figure_and_grid(len(names), narrow)
    top, days = figure.add_subplot(grid[0]), day_numbers(sessions)
    draw_ic(top, days, ic, mean=(mean, _rolling_mean(ic, mean)), accepted=level)
    if onset is not None:
        day, *interval = day_numbers(onset)
        draw_onset(top, day, (interval[0], interval[1]), "the IC fell")
    finish(top, "IC", columns=2 if narrow else 6)
    lowest = top
    if names:
        top.tick_params(labelbottom=False)
        lowest = figure.add_subplot(grid[1], sharex=top)
        _draw_lanes(lowest, names, lanes, NARROW_CHARACTERS if narrow else LABEL_CHARACTERS)
    date_axis(lowest, days, ticks=4 if narrow else 10)
    return figure


def _figure_and_grid(lanes: int, narrow: bool) -> tuple[Figure, GridSpec]:
    """An empty figure, with a row for the IC and, where there are lanes, a row for them."""
    height = 2.6 + LANE_HEIGHT * lanes
    width, label = (NARROW, NARROW_LABEL) if narrow else (WIDTH, LABEL_WIDTH)
    figure = Figure(figsize=(width, height), dpi=2 * DPI if narrow else DPI)
    head = 0.6 if narrow else 0.35
    figure.subplots_adjust(label / width, 0.45 / height, 1 - 0.1 / width, 1 - head / height)
    ratios = [2.0, LANE_HEIGHT * lanes] if lanes else [1.0]
    return figure, figure.add_gridspec(len(ratios), 1, height_ratios=ratios, hspace=0.12)


def _draw_lanes(axes: Axes, names: Sequence[str], lanes: Sequence[Lane], characters: int) -> None:
    for lane in lanes:
        (begin,), (end,) = day_numbers([lane.first]), day_numbers([lane.last])
        axes.broken_barh(
            [(begin - 0.4, end - begin + 0.8)],
            (names.index(lane.name) - 0.31, 0.62),
            facecolor=SEVERITY_COLORS.get(lane.severity, BLUE),
            hatch=SEVERITY_HATCHES.get(lane.severity, ""),
            edgecolor="white",
            linewidth=0.3,
        )
    labels = [short_label(name, characters) for name in names]
    axes.set_yticks(range(len(names)), labels, fontsize=8, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", color="#eef1f4")
    plain_spines(axes)


def _rolling_mean(values: Floats, window: int) -> Floats:
    """The mean of the known values of the last sessions; NaN with fewer than half of them."""
    known = np.isfinite(values)
    sums = np.cumsum(np.concatenate([np.zeros(1), np.where(known, values, 0.0)]))
    counts = np.cumsum(np.concatenate([np.zeros(1), known]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    n = counts[ends] - counts[starts]
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Floats = (sums[ends] - sums[starts]) / n
    return np.where(n >= min(window, len(values)) / 2, means, np.nan)
