"""The series of a strategy's healthy time, from which rules are simulated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlflow_timescale.db import Connection

from ..alerts.rules import Rule
from ..metrics.arrays import Floats
from ..metrics.cusum import Baseline
from ..results.references import References
from ..strategies import Strategy
from . import feature_history
from .history import History

LONGEST = 500  # sessions whose features are read


def read(
    conn: Connection, strategy: Strategy, rules: Sequence[Rule], *, ranked: bool
) -> tuple[dict[str, Floats], Baseline | None]:
    """What the rules watch, by metric, up to the end of the accepted window; and the IC's level.

    The metrics of features are those of the accepted window, judged by references of its parts; of
    a strategy without one, of its last sessions.
    """
    references = References(conn, strategy.strategy_id)
    metrics = sorted({rule.metric for rule in rules} | {"strategy_return"})
    history = History.read(conn, strategy, references, metrics=metrics)
    levels = [level for level in history.levels if level is not None]
    accepted = references.accepted
    sessions = list(history.sessions)
    if accepted:
        sessions = [day for day in sessions if day <= accepted[-1].window_end]
    series = {name: array[: len(sessions)] for name, array in history.presented().items()}
    start = accepted[-1].window_start if accepted else sessions[0] if sessions else None
    days = [day for day in sessions if start is not None and day >= start][-LONGEST:]
    if days and any(_is_of_features(rule.metric) for rule in rules):
        found = feature_history.read(conn, strategy, days, ranked=ranked)
        before = np.full(len(sessions) - len(days), np.nan)
        series |= {name: np.concatenate([before, values]) for name, values in found.items()}
    known = {name: values for name, values in series.items() if np.isfinite(values).any()}
    return known, levels[-1] if levels else None


def _is_of_features(metric: str) -> bool:
    return metric in feature_history.METRICS or metric.endswith("_excess")
