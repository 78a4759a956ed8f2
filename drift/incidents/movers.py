"""Inputs that left their accepted range, or differ from research, near a session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date

import numpy as np

from mlflow_timescale.db import Connection

from ..alerts import lifecycle
from ..alerts.presets import default
from ..metrics.arrays import Floats
from ..results import values
from ..skew.sentences import counted
from ..strategies import Strategy
from .onset import Mover

__all__ = ["episode", "moved", "read_movers"]

GAP = 5  # sessions within the limit, after which an input has moved again
# What is broken, before what has only moved; of one feature the first one counts.
SKEW = "skew"
METRICS = (
    SKEW,
    "late",
    "unit_shift",
    "clock_shift",
    "missing_excess",
    "repeated_excess",
    "unchanged_excess",
    "psi_ratio",
    "psi_5d_ratio",
)
BROKEN = METRICS[:7]
_TEXTS = {
    SKEW: "{value:.0f} served cells of a session differ from research",
    "late": "{sessions} behind",
    "unit_shift": "x{factor:.3g} of its usual size",
    "clock_shift": "event times {value:+.1f} h from their usual hour",
    "missing_excess": "{value:.0%} more names without a value than usual",
    "repeated_excess": "{value:.0%} more names with one and the same value than usual",
    "unchanged_excess": "{value:.0%} more names with the value of the session before than usual",
    "psi_ratio": "PSI {value:.1f} times its limit",
    "psi_5d_ratio": "PSI of five sessions {value:.1f} times its limit",
}


def read_movers(
    conn: Connection, strategy: Strategy, sessions: Sequence[date], window: slice
) -> tuple[tuple[Mover, ...], tuple[str, float] | None]:
    """The inputs that moved in a window of sessions, and the one of the others that came nearest.

    The nearness is its largest PSI in units of the level at which an alert opens.
    """
    limits = _limits(strategy)
    names = [*METRICS, "psi", "psi_limit"]
    period = sessions[0], sessions[-1]
    stored = values.of_sessions(conn, strategy.strategy_id, *period, names)
    series = values.on_sessions([v for v in stored if v.dimension], sessions)
    movers = tuple(
        _diagnosed(conn, strategy, mover) if mover.metric == SKEW else mover
        for mover in moved(series, sessions, limits, window)
    )
    names_moved = {mover.feature for mover in movers}
    return movers, _quiet(series, names_moved, window, limits["psi_ratio"])


def _diagnosed(conn: Connection, strategy: Strategy, mover: Mover) -> Mover:
    """A skewed feature with the diagnosis that its alert has."""
    for alert in lifecycle.find(conn, strategy.strategy_id, since=mover.first):
        if alert.metric == SKEW and alert.session <= mover.first <= alert.last_session:
            for part in alert.note.split("; "):
                if part.startswith(f"{mover.feature} "):
                    return replace(mover, text=part.removeprefix(f"{mover.feature} "))
    return mover


def _limits(strategy: Strategy) -> dict[str, float]:
    """The thresholds of the strategy's own rules, else those of the default ones."""
    rules = [*default(), *strategy.rules]
    return {rule.metric: rule.threshold for rule in rules if rule.metric in METRICS}


def moved(
    series: Mapping[tuple[str, str], Floats],
    sessions: Sequence[date],
    limits: Mapping[str, float],
    window: slice,
) -> tuple[Mover, ...]:
    """The inputs beyond a limit within a window, those that moved first before the others.

    Parameters
    ----------
    series
        Values over the sessions by metric and feature; NaN where there is none.
    limits
        By metric.

    Examples
    --------
    >>> days = [date(2024, 4, day) for day in (15, 16, 17, 18)]
    >>> late = {("late", "rsi"): np.array([0.0, 1.0, 1.0, 1.0])}
    >>> [mover] = moved(late, days, {"late": 0.0}, slice(2, 4))
    >>> mover.first.isoformat(), mover.sessions, mover.text
    ('2024-04-16', 3, '1 session behind')
    """
    by_feature: dict[str, Mover] = {}
    for metric in METRICS:
        for (name, feature), array in series.items():
            span = episode(np.abs(array) > limits[metric], window) if name == metric else None
            if span is not None and feature not in by_feature:
                by_feature[feature] = _mover(feature, metric, array, sessions, span, limits[metric])
    return tuple(sorted(by_feature.values(), key=lambda mover: (mover.first, mover.feature)))


def episode(beyond: np.ndarray, window: slice) -> np.ndarray | None:
    """The positions beyond a limit that belong together and touch a window; None without any.

    More than `GAP` sessions within the limit separate two episodes; the one that began first
    counts.

    >>> flags = np.array([True, False, False, True, True, False])
    >>> episode(flags, slice(4, 6)).tolist(), episode(flags, slice(5, 6))
    ([0, 3, 4], None)
    """
    at = np.flatnonzero(beyond)
    if not len(at):
        return None
    parts = np.split(at, np.flatnonzero(np.diff(at) > GAP + 1) + 1)
    touching = [p for p in parts if ((p >= window.start) & (p < window.stop)).any()]
    return touching[0] if touching else None


def _mover(
    feature: str,
    metric: str,
    array: Floats,
    sessions: Sequence[date],
    span: np.ndarray,
    limit: float,
) -> Mover:
    value = float(array[span[np.argmax(np.abs(array[span]))]])
    behind = counted(round(abs(value)), "session")
    factor = float(10**value) if metric == "unit_shift" else 0.0
    text = _TEXTS[metric].format(value=value, sessions=behind, factor=factor)
    first, last = sessions[int(span[0])], sessions[int(span[-1])]
    return Mover(feature, metric, first, last, len(span), value, limit, text)


def _quiet(
    series: Mapping[tuple[str, str], Floats], movers: set[str], window: slice, limit: float
) -> tuple[str, float] | None:
    nearest = max(_ratios(series, movers, window), key=lambda pair: pair[1], default=None)
    return None if nearest is None else (nearest[0], nearest[1] / limit)


def _ratios(
    series: Mapping[tuple[str, str], Floats], movers: set[str], window: slice
) -> Iterator[tuple[str, float]]:
    for (metric, feature), array in series.items():
        limits = series.get(("psi_limit", feature))
        if metric == "psi" and limits is not None and feature not in movers:
            ratios = (array / limits)[window]
            if np.isfinite(ratios).any():
                yield feature, float(np.nanmax(ratios))
