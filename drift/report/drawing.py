"""Pictures of a report, as matplotlib figures: numbers in, a `Figure` out, no state and no files.

Drawn to be read in grey print: severities differ in line style and hatching, not only in colour.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike, NDArray

from mlflow_timescale.common.text import printable

from ..alerts.rules import Evaluation, Rule, RuleStates
from ..metrics.arrays import Floats
from ..metrics.buckets import Reference
from ..metrics.cusum import Baseline, Onset

WIDTH = 9.6
DPI = 100
INK, QUIET, BLUE = "#1f2933", "#9aa5b1", "#2b6cb0"
FAINT = (QUIET, "#dfe4ea")
SEVERITY_COLORS = {"warning": "#d69e2e", "critical": "#dd6b20", "emergency": "#9b2c2c"}
SEVERITY_DASHES = {"warning": ":", "critical": "--", "emergency": "-"}
SEVERITY_HATCHES = {"warning": "", "critical": "//", "emergency": "xx"}
HEAT_BOUNDS = (0.0, 0.25, 0.5, 1.0, 2.5, 1e9)
HEAT_COLORS = ("#f7f9fb", "#dbe7f3", "#a9c4e0", "#f0a04b", "#8c1d18")
HEAT_MISSING = "#d0d0d0"
MOST_FEATURES = 25
LABEL_WIDTH = 1.7
NARROW, NARROW_LABEL = 3.7, 1.3
LABEL_CHARACTERS = 26
_END = r"(-?inf|nan|[-+]?[0-9][0-9.e+-]*)"
_INTERVAL = re.compile(rf"\({_END}, {_END}\]")


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


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
    figure, (top, bottom) = _figure(2, 4.6)
    days = _days(sessions)
    values = np.asarray(ic, dtype=np.float64)
    top.vlines(days, 0, values, color=QUIET, linewidth=1.0)
    top.plot(days, values, ".", color=QUIET, markersize=3, label="IC of the session")
    if averages:
        label = f"mean of {max(averages)} sessions"
        top.plot(days, _array(averages[max(averages)]), color=BLUE, linewidth=1.8, label=label)
    if baseline is not None:
        label = f"accepted {round(baseline.mean, 3) + 0.0:.3f}"  # never -0.000
        top.axhline(baseline.mean, color=INK, linewidth=1, linestyle="--", label=label)
    top.axhline(0, color=INK, linewidth=0.8)
    bottom.plot(days, _array(cusum), color=BLUE, linewidth=1.8, label="CUSUM of the shortfall")
    for rule in levels:
        _level(bottom, rule)
    if onset is not None:
        _mark_onset((top, bottom), days, onset)
    bottom.set_ylim(bottom=0)
    _finish(top, "IC")
    _finish(bottom, "CUSUM, sd")
    _date_axis(bottom, days)
    return figure


def psi_heatmap(sessions: Sequence[date], ratios: Mapping[str, ArrayLike]) -> Figure:
    """PSI by feature and session, in units of each feature's limit, the worst on top.

    `ratios` holds shape (sessions,) by feature, NaN where missing; at most 25 features are
    drawn, those with the largest last value.
    """
    names = sorted(ratios, key=lambda name: -_last(_array(ratios[name])))[:MOST_FEATURES]
    table = np.stack([_array(ratios[name]) for name in names]) if names else np.empty((0, 0))
    figure, (axes,) = _figure(1, 0.9 + 0.22 * max(len(names), 2), LABEL_WIDTH)
    colors = ListedColormap(list(HEAT_COLORS), "psi").with_extremes(bad=HEAT_MISSING)
    norm = BoundaryNorm(HEAT_BOUNDS, colors.N)
    cells = np.ma.masked_invalid(table)
    axes.imshow(cells, aspect="auto", cmap=colors, norm=norm, interpolation="nearest")
    axes.set_yticks(range(len(names)), list(map(_short, names)), fontsize=8, parse_math=False)
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
    figure, (axes,) = _figure(1, 2.7)
    days = _days(sessions)
    longest = max(series)
    for window, color in zip(sorted(set(series) - {longest}, reverse=True), FAINT, strict=False):
        label = f"{window} sessions"
        axes.plot(days, _array(series[window]), color=color, linewidth=0.9, label=label, zorder=1)
    main = _array(series[longest])
    reach = 1.96 * np.sqrt((periods_per_year + main**2 / 2) / longest)
    axes.fill_between(days, main - reach, main + reach, color=BLUE, alpha=0.15, linewidth=0)
    axes.plot(days, main, color=BLUE, linewidth=1.8, label=f"{longest} sessions, 95% interval")
    axes.axhline(0, color=INK, linewidth=0.8)
    for rule in levels:
        _level(axes, rule)
    axes.set_ylim(*_reach(main, reach))
    _finish(axes, "Sharpe, annualised")
    _date_axis(axes, days)
    return figure


def equity_figure(sessions: Sequence[date], returns: ArrayLike) -> Figure:
    """The compounded returns of a strategy, shape (sessions,), above its drawdown."""
    figure, (top, bottom) = _figure(2, 3.6)
    days, data = _days(sessions), np.nan_to_num(_array(returns))
    wealth = np.cumprod(1.0 + data)
    peak = np.maximum.accumulate(np.maximum(wealth, 1.0))
    top.plot(days, wealth, color=BLUE, linewidth=1.8, label="one unit, compounded")
    top.axhline(1.0, color=INK, linewidth=0.8)
    bottom.fill_between(days, wealth / peak - 1.0, 0, color=BLUE, alpha=0.3, linewidth=0)
    _finish(top, "capital")
    _plain(bottom)
    bottom.grid(color="#eef1f4")
    bottom.set_ylabel("drawdown", fontsize=9)
    bottom.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _date_axis(bottom, days)
    return figure


def timeline(sessions: Sequence[date], evaluation: Evaluation) -> Figure:
    """When each rule was open; thin where a louder rule was open as well."""
    states = list(evaluation.states.values())
    figure, (axes,) = _figure(1, 0.9 + 0.24 * max(len(states), 2), LABEL_WIDTH)
    days = _days(sessions)
    ends = np.append(days[1:], days[-1:] + 1)
    for row, state in enumerate(states):
        _bars(axes, row, state, days, ends)
    names = [_short(state.rule.name) for state in states]
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
    _plain(axes)
    _date_axis(axes, days)
    return figure


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
    height = 2.6 + 0.26 * len(names)
    width, label = (NARROW, NARROW_LABEL) if narrow else (WIDTH, LABEL_WIDTH)
    figure = Figure(figsize=(width, height), dpi=2 * DPI if narrow else DPI)
    head = 0.6 if narrow else 0.35
    figure.subplots_adjust(label / width, 0.45 / height, 1 - 0.1 / width, 1 - head / height)
    ratios = [2.0, 0.26 * len(names)] if names else [1.0]
    grid = figure.add_gridspec(len(ratios), 1, height_ratios=ratios, hspace=0.12)
    top, days = figure.add_subplot(grid[0]), _days(sessions)
    top.vlines(days, 0, ic, color=QUIET, linewidth=1.0)
    top.plot(days, ic, ".", color=QUIET, markersize=3, label="IC of the session")
    top.plot(days, _rolling(ic, mean), color=BLUE, linewidth=1.8, label=f"mean of {mean} sessions")
    if level is not None:
        accepted = f"accepted {round(level, 3) + 0.0:.3f}"
        top.axhline(level, color=INK, linewidth=1, linestyle="--", label=accepted)
    top.axhline(0, color=INK, linewidth=0.8)
    if onset is not None:
        at, low, high = _days(onset)
        top.axvspan(low, high, color="#e53e3e", alpha=0.12)
        top.axvline(at, color="#9b2c2c", linewidth=1.2, label="the IC fell")
    _finish(top, "IC", columns=2 if narrow else 6)
    ticks = 4 if narrow else 10
    if names:
        top.tick_params(labelbottom=False)
        bottom = figure.add_subplot(grid[1], sharex=top)
        _draw_lanes(bottom, names, lanes, 17 if narrow else LABEL_CHARACTERS)
        _date_axis(bottom, days, ticks)
    else:
        _date_axis(top, days, ticks)
    return figure


def _draw_lanes(axes: Axes, names: Sequence[str], lanes: Sequence[Lane], characters: int) -> None:
    for lane in lanes:
        (begin,), (end,) = _days([lane.first]), _days([lane.last])
        axes.broken_barh(
            [(begin - 0.4, end - begin + 0.8)],
            (names.index(lane.name) - 0.31, 0.62),
            facecolor=SEVERITY_COLORS.get(lane.severity, BLUE),
            hatch=SEVERITY_HATCHES.get(lane.severity, ""),
            edgecolor="white",
            linewidth=0.3,
        )
    labels = [_short(name, characters) for name in names]
    axes.set_yticks(range(len(names)), labels, fontsize=8, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", color="#eef1f4")
    _plain(axes)


def _rolling(values: Floats, window: int) -> Floats:
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


def _figure(rows: int, height: float, left: float = 0.6) -> tuple[Figure, list[Axes]]:
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


def _array(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _days(sessions: Sequence[date]) -> Floats:
    # matplotlib's own numbers for dates: days since 1970-01-01.
    return np.array(sessions, dtype="datetime64[D]").astype(np.float64)


def _level(axes: Axes, rule: Rule) -> None:
    color, dashes = SEVERITY_COLORS[rule.severity], SEVERITY_DASHES[rule.severity]
    label = f"{rule.severity} {rule.comparison} {rule.threshold:g}"
    axes.axhline(rule.threshold, color=color, linestyle=dashes, linewidth=1.4, label=label)


def _mark_onset(both: Sequence[Axes], days: Floats, onset: Onset) -> None:
    for axes in both:
        axes.axvspan(float(days[onset.low]), float(days[onset.high]), color="#e53e3e", alpha=0.12)
        axes.axvline(float(days[onset.index]), color="#9b2c2c", linewidth=1.2, label="onset")


def _finish(axes: Axes, label: str, columns: int = 6) -> None:
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
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=INK, length=2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(QUIET)


def _date_axis(axes: Axes, days: Floats, ticks: int = 10) -> None:
    locator = AutoDateLocator(minticks=ticks // 2, maxticks=ticks)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(formatter)
    if len(days) > 1:
        axes.set_xlim(float(days[0]) - 1, float(days[-1]) + 1)


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
    expected, current = _array(reference.counts), _array(counts)
    used = (expected + current) > 0
    at = np.arange(int(used.sum()))
    for values, shift, color, label in (
        (expected, -0.2, QUIET, "reference"),
        (current, 0.2, BLUE, "session"),
    ):
        axes.bar(at + shift, values[used] / max(values.sum(), 1), 0.4, color=color, label=label)
    labels = [_upper_end(x) for x, keep in zip(reference.labels, used, strict=True) if keep]
    axes.set_xticks(at, labels, parse_math=False)
    _plain(axes)
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
        return _short(label)
    low, high = (float(end) for end in label.strip("(]").split(", "))
    return f"> {low:.3g}" if high == np.inf else f"≤ {high:.3g}"


def _short(name: str, characters: int = LABEL_CHARACTERS) -> str:
    """A name for a picture, which draws `$` as itself (`parse_math=False`)."""
    name = printable(name)
    return name if len(name) <= characters else name[: characters - 1] + "…"


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
