"""Reads the latest fall of a strategy's IC, and what happened around its onset."""

from __future__ import annotations

from mlflow_timescale.db import Connection

from ..computation.history import History
from ..metrics import cusum
from ..results.references import References
from ..strategies import Strategy
from .onset import Decay


def read_decay(conn: Connection, strategy: Strategy) -> Decay | None:
    """The latest fall of the IC below its accepted level; None without one, or without a level."""
    history = History.read(conn, strategy, References(conn, strategy.strategy_id))
    judged = [i for i, level in enumerate(history.levels) if level is not None]
    if not judged:
        return None
    level = history.levels[judged[-1]]
    first = next(i for i in judged if history.levels[i] == level)
    onset = cusum.onset(history.of("ic")[first:], level) if level else None
    if onset is None:
        return None
    return Decay(strategy.strategy_id, onset, tuple(history.sessions[first:]))
