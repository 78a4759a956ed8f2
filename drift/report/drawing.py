"""Pictures of a report as matplotlib figures: numbers in, a `Figure` out, no state and no files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike, NDArray

from mlflow_timescale.common.text import printable

from ..alerts.rules import Evaluation, Rule, RuleStates
from ..metrics.arrays import Floats
from ..metrics.buckets import Reference
from ..metrics.cusum import Baseline, Onset
from .axes import (
    BLUE,
    DPI,
    FAINT,
    INK,
    LABEL_WIDTH,
    QUIET,
    SEVERITY_COLORS,
    SEVERITY_HATCHES,
    WIDTH,
    date_axis,
    day_numbers,
    draw_ic,
    draw_level,
    draw_onset,
    finish,
    floats,
    new_figure,
    plain_spines,
    short_label,
)

HEAT_BOUNDS = (0.0, 0.25, 0.5, 1.0, 2.5, 1e9)
HEAT_COLORS = ("#f7f9fb", "#dbe7f3", "#a9c4e0", "#f0a04b", "#8c1d18")
HEAT_MISSING = "#d0d0d0"
MOST_FEATURES = 25
_END = r"(-?inf|nan|[-+]?[0-9][0-9.e+-]*)"
_INTERVAL = re.compile(rf"\({_END}, {_END}\]")


def ic_figure(
    sessions: Sequence[date],
    ic: ArrayLike,
    cusum: ArrayLike,
    *,
    averages: Mapping[int, ArrayLike] | None = None,
    baseline: Baseline | None = None,
    levels: Sequence[Rule] = (),
    onset: Onset | None = None,
) -> Figure:
    """Daily IC above, its CUSUM with the alert levels below.

    `ic`, `cusum` and each of `averages` (by window, the longest is drawn) have shape (sessions,),
    NaN where there is no value; `levels` are the rules on the CUSUM; `onset` is drawn as a line
    with its interval shaded.
    """
    figure, (top, bottom) = new_figure(2, 4.6)
    days = day_numbers(sessions)
    mean = (max(averages), floats(averages[max(averages)])) if averages else None
    accepted = None if baseline is None else baseline.mean
    draw_ic(top, days, floats(ic), mean=mean, accepted=accepted)
    bottom.plot(days, floats(cusum), color=BLUE, linewidth=1.8, label="CUSUM of the shortfall")
    for rule in levels:
        draw_level(bottom, rule)
    if onset is not None:
        interval = float(days[onset.low]), float(days[onset.high])
        for axes in (top, bottom):
            draw_onset(axes, float(days[onset.index]), interval, "onset")
    bottom.set_ylim(bottom=0)
    finish(top, "IC")
    finish(bottom, "CUSUM, sd")
    date_axis(bottom, days)
    return figure


def psi_heatmap(sessions: Sequence[date], ratios: Mapping[str, ArrayLike]) -> Figure:
    """PSI by feature and session, in units of each feature's limit, the worst on top.

    `ratios` holds shape (sessions,) by feature, NaN where missing; at most 25 features are
    drawn, those with the largest last value.
    """
    names = sorted(ratios, key=lambda name: -_last(floats(ratios[name])))[:MOST_FEATURES]
    table = np.stack([floats(ratios[name]) for name in names]) if names else np.empty((0, 0))
    figure, (axes,) = new_figure(1, 0.9 + 0.22 * max(len(names), 2), LABEL_WIDTH)
    colors = ListedColormap(list(HEAT_COLORS), "psi").with_extremes(bad=HEAT_MISSING)
    norm = BoundaryNorm(HEAT_BOUNDS, colors.N)
    cells = np.ma.masked_invalid(table)
    axes.imshow(cells, aspect="auto", cmap=colors, norm=norm, interpolation="nearest")
    axes.set_yticks(range(len(names)), list(map(short_label, names)), fontsize=8, parse_math=False)
    _session_ticks(axes, sessions)
    _heat_legend(axes)
    return figure


def distributions(
    features: Sequence[tuple[str, Reference, Sequence[int]]], *, columns: int = 2
) -> Figure:
    """Reference and current shares per bucket, one small picture for each feature.

    `features` are (name, reference, current counts), the worst first.
    """
    rows = max(1, -(-len(features) // columns))
    height = 2.3 * rows
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    figure.subplots_adjust(0.05, 0.6 / height, 0.99, 1 - 0.25 / height, 0.12, 0.6)
    for number, (name, reference, counts) in enumerate(features, start=1):
        axes = figure.add_subplot(rows, columns, number)
        _shares(axes, reference, counts)
        axes.set_title(printable(name), fontsize=9, loc="left", parse_math=False)
        if number == 1:
            axes.legend(fontsize=7, frameon=False)
    return figure


def sharpe_figure(
    sessions: Sequence[date],
    series: Mapping[int, ArrayLike],
    *,
    periods_per_year: float = 252,
    levels: Sequence[Rule] = (),
) -> Figure:
    """Rolling Sharpe ratios by window, the longest with its 95% interval.

    `series` holds shape (sessions,) by window in sessions; three windows are drawn. The interval is
    that of Lo (2002).
    """
    figure, (axes,) = new_figure(1, 2.7)
    days = day_numbers(sessions)
    longest = max(series)
    for window, color in zip(sorted(set(series) - {longest}, reverse=True), FAINT, strict=False):
        label = f"{window} sessions"
        axes.plot(days, floats(series[window]), color=color, linewidth=0.9, label=label, zorder=1)
    main = floats(series[longest])
    reach = 1.96 * np.sqrt((periods_per_year + main**2 / 2) / longest)
    axes.fill_between(days, main - reach, main + reach, color=BLUE, alpha=0.15, linewidth=0)
    axes.plot(days, main, color=BLUE, linewidth=1.8, label=f"{longest} sessions, 95% interval")
    axes.axhline(0, color=INK, linewidth=0.8)
    for rule in levels:
        draw_level(axes, rule)
    axes.set_ylim(*_reach(main, reach))
    finish(axes, "Sharpe, annualised")
    date_axis(axes, days)
    return figure


def equity_figure(sessions: Sequence[date], returns: ArrayLike) -> Figure:
    """The compounded returns of a strategy, shape (sessions,), above its drawdown."""
    figure, (top, bottom) = new_figure(2, 3.6)
    days, data = day_numbers(sessions), np.nan_to_num(floats(returns))
    wealth = np.cumprod(1.0 + data)
    peak = np.maximum.accumulate(np.maximum(wealth, 1.0))
    top.plot(days, wealth, color=BLUE, linewidth=1.8, label="one unit, compounded")
    top.axhline(1.0, color=INK, linewidth=0.8)
    bottom.fill_between(days, wealth / peak - 1.0, 0, color=BLUE, alpha=0.3, linewidth=0)
    finish(top, "capital")
    plain_spines(bottom)
    bottom.grid(color="#eef1f4")
    bottom.set_ylabel("drawdown", fontsize=9)
    bottom.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    date_axis(bottom, days)
    return figure


def timeline(sessions: Sequence[date], evaluation: Evaluation) -> Figure:
    """When each rule was open; thin where a louder rule was open as well."""
    states = list(evaluation.states.values())
    figure, (axes,) = new_figure(1, 0.9 + 0.24 * max(len(states), 2), LABEL_WIDTH)
    days = day_numbers(sessions)
    ends = np.append(days[1:], days[-1:] + 1)
    for row, state in enumerate(states):
        _bars(axes, row, state, days, ends)
    names = [short_label(state.rule.name) for state in states]
    axes.set_yticks(range(len(states)), names, fontsize=8, parse_math=False)
    axes.set_ylim(max(len(states), 1) - 0.5, -0.5)
    axes.set_xlim(float(days[0]), float(ends[-1]))
    axes.grid(axis="y", color="#eef1f4")
    handles = [
        Patch(facecolor=color, hatch=SEVERITY_HATCHES[name], edgecolor="white", label=name)
        for name, color in SEVERITY_COLORS.items()
    ]
    axes.legend(
        handles=handles,
        ncols=3,
        fontsize=7,
        frameon=False,
        loc="lower right",
        bbox_to_anchor=(1, 1),
    )
    plain_spines(axes)
    date_axis(axes, days)
    return figure


def _session_ticks(axes: Axes, sessions: Sequence[date]) -> None:
    at = np.unique(np.linspace(0, max(len(sessions) - 1, 0), 8).astype(int))
    ticks = [int(i) for i in at if i < len(sessions)]
    axes.set_xticks(ticks, [sessions[i].isoformat() for i in ticks], fontsize=8)
    labels = axes.get_xticklabels()
    if len(labels) > 1:
        labels[0].set_horizontalalignment("left")
        labels[-1].set_horizontalalignment("right")
    axes.tick_params(length=2)


def _heat_legend(axes: Axes) -> None:
    names = [f"up to {high:g}" for high in HEAT_BOUNDS[1:-1]] + [f"above {HEAT_BOUNDS[-2]:g}"]
    handles = [
        Patch(facecolor=color, edgecolor=QUIET, linewidth=0.5, label=name)
        for color, name in zip((*HEAT_COLORS, HEAT_MISSING), (*names, "no value"), strict=True)
    ]
    axes.legend(
        handles=handles,
        ncols=6,
        fontsize=7,
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        title="PSI in units of the feature's limit",
        title_fontsize=8,
        alignment="left",
        borderaxespad=0.2,
    )


def _last(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else -1.0


def _shares(axes: Axes, reference: Reference, counts: Sequence[int]) -> None:
    expected, current = floats(reference.counts), floats(counts)
    used = (expected + current) > 0
    at = np.arange(int(used.sum()))
    for values, shift, color, label in (
        (expected, -0.2, QUIET, "reference"),
        (current, 0.2, BLUE, "session"),
    ):
        axes.bar(at + shift, values[used] / max(values.sum(), 1), 0.4, color=color, label=label)
    labels = [_upper_end(x) for x, keep in zip(reference.labels, used, strict=True) if keep]
    axes.set_xticks(at, labels, parse_math=False)
    plain_spines(axes)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.tick_params(labelsize=7)
    axes.tick_params(axis="x", labelrotation=40)
    for tick in axes.get_xticklabels():
        tick.set_horizontalalignment("right")
        tick.set_rotation_mode("anchor")


def _upper_end(label: str) -> str:
    """An interval by its upper end, as neighbours share the other.

    >>> _upper_end("(-0.5, 0.2513]"), _upper_end("(0.25, inf]"), _upper_end("missing")
    ('≤ 0.251', '> 0.25', 'missing')
    """
    if not _INTERVAL.fullmatch(label):  # of a category: any text
        return short_label(label)
    low, high = (float(end) for end in label.strip("(]").split(", "))
    return f"> {low:.3g}" if high == np.inf else f"≤ {high:.3g}"


def _reach(main: Floats, reach: Floats) -> tuple[float, float]:
    """The interval sets the axis, not the short windows, which swing several times as far."""
    if not np.isfinite(main).any():
        return -1.0, 1.0
    low, high = float(np.nanmin(main - reach)), float(np.nanmax(main + reach))
    return min(low, 0.0) * 1.1, max(high, 0.0) * 1.1


def _bars(axes: Axes, row: int, state: RuleStates, days: Floats, ends: Floats) -> None:
    color, hatch = SEVERITY_COLORS[state.rule.severity], SEVERITY_HATCHES[state.rule.severity]
    for flags, height in ((state.open & ~state.inhibited, 0.62), (state.inhibited, 0.2)):
        spans = [(float(days[a]), float(ends[b - 1] - days[a])) for a, b in _runs(flags)]
        axes.broken_barh(
            spans,
            (row - height / 2, height),
            facecolor=color,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.3,
        )


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(start, end) of each run of True."""
    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
