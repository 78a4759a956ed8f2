"""What all figures share: sizes, colours, axes, and the lines that several figures draw.

Drawn to be read in grey print: severities differ in line style and hatching, not only in colour.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import date

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mlflow_timescale.common.text import printable

from ..alerts.rules import Rule
from ..metrics.arrays import Floats

WIDTH = 9.6
DPI = 100
INK, QUIET, BLUE = "#1f2933", "#9aa5b1", "#2b6cb0"
FAINT = (QUIET, "#dfe4ea")
SEVERITY_COLORS = {"warning": "#d69e2e", "critical": "#dd6b20", "emergency": "#9b2c2c"}
SEVERITY_DASHES = {"warning": ":", "critical": "--", "emergency": "-"}
SEVERITY_HATCHES = {"warning": "", "critical": "//", "emergency": "xx"}
LABEL_WIDTH = 1.7
LABEL_CHARACTERS = 26


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def new_figure(rows: int, height: float, left: float = 0.6) -> tuple[Figure, list[Axes]]:
    """Axes one above the other; `height` and the margin `left` in inches."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    # Fixed margins: matplotlib's own layout engines double the time of drawing.
    figure.subplots_adjust(
        left / WIDTH, 0.3 / height, 1 - 0.1 / WIDTH, 1 - 0.4 / height, hspace=0.18
    )
    first = figure.add_subplot(rows, 1, 1)
    others = [figure.add_subplot(rows, 1, row, sharex=first) for row in range(2, rows + 1)]
    for axes in [first, *others][:-1]:
        axes.tick_params(labelbottom=False)
    return figure, [first, *others]


def floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def day_numbers(sessions: Sequence[date]) -> Floats:
    """Matplotlib's own numbers for dates: days since 1970-01-01."""
    return np.array(sessions, dtype="datetime64[D]").astype(np.float64)


def draw_ic(
    axes: Axes,
    days: Floats,
    ic: Floats,
    *,
    mean: tuple[int, Floats] | None = None,
    accepted: float | None = None,
) -> None:
    """The IC of each session, its mean of a number of sessions, and the accepted mean."""
    axes.vlines(days, 0, ic, color=QUIET, linewidth=1.0)
    axes.plot(days, ic, ".", color=QUIET, markersize=3, label="IC of the session")
    if mean is not None:
        window, means = mean
        axes.plot(days, means, color=BLUE, linewidth=1.8, label=f"mean of {window} sessions")
    if accepted is not None:
        label = f"accepted {round(accepted, 3) + 0.0:.3f}"  # never -0.000
        axes.axhline(accepted, color=INK, linewidth=1, linestyle="--", label=label)
    axes.axhline(0, color=INK, linewidth=0.8)


def draw_onset(axes: Axes, day: float, interval: tuple[float, float], label: str) -> None:
    """The day of an onset as a line, with its interval shaded."""
    axes.axvspan(*interval, color="#e53e3e", alpha=0.12)
    axes.axvline(day, color="#9b2c2c", linewidth=1.2, label=label)


def draw_level(axes: Axes, rule: Rule) -> None:
    """The threshold of a rule as a line."""
    color, dashes = SEVERITY_COLORS[rule.severity], SEVERITY_DASHES[rule.severity]
    label = f"{rule.severity} {rule.comparison} {rule.threshold:g}"
    axes.axhline(rule.threshold, color=color, linestyle=dashes, linewidth=1.4, label=label)


def finish(axes: Axes, label: str, columns: int = 6) -> None:
    """Add a label, a grid, and a legend above the axes."""
    axes.set_ylabel(label, fontsize=9)
    axes.grid(color="#eef1f4")
    axes.legend(
        fontsize=7,
        frameon=False,
        ncols=columns,
        loc="lower left",
        bbox_to_anchor=(0 if columns > 2 else -0.4, 1),
        borderaxespad=0.1,
        handlelength=1.6,
    )
    plain_spines(axes)


def plain_spines(axes: Axes) -> None:
    """Leave only the left and lower edge, in grey."""
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=INK, length=2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(QUIET)


def date_axis(axes: Axes, days: Floats, ticks: int = 10) -> None:
    locator = AutoDateLocator(minticks=ticks // 2, maxticks=ticks)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(formatter)
    if len(days) > 1:
        axes.set_xlim(float(days[0]) - 1, float(days[-1]) + 1)


def short_label(name: str, characters: int = LABEL_CHARACTERS) -> str:
    """A name for a picture, which draws `$` as itself (`parse_math=False`)."""
    name = printable(name)
    return name if len(name) <= characters else name[: characters - 1] + "…"
