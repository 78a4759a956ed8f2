"""Reads the latest fall of a strategy's IC, and what happened around its onset."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from mlflow_timescale.db import Connection, load
from mlflow_timescale.db.rows import mappings

from ..alerts import lifecycle
from ..alerts.rules import SEVERITIES
from ..computation.history import History
from ..inputs import feature_values
from ..results import values
from ..results.references import References
from ..strategies import Strategy
from . import movers, nearby
from .conclusions import decisions, reading
from .onset import Decay, fall

_queries = load("incidents")
BEFORE = 10  # sessions before the interval of the onset in which its cause may have begun


def read_decay(conn: Connection, strategy: Strategy) -> Decay | None:
    """The latest fall of the IC below its accepted level; None without one, or without a level."""
    result = _fall(conn, strategy)
    if result is None:
        return None
    onset, sessions = result.onset, result.sessions
    window = slice(max(onset.low - BEFORE, 0), onset.alarm + 1)
    moved, quiet = movers.read_movers(conn, strategy, sessions, window)
    start, end = sessions[window.start], sessions[max(onset.high, onset.index)]
    features = _features(conn, strategy, start, end)
    near = nearby.read_changes(conn, strategy, (start, end), features, sessions[-1])
    result = replace(
        result,
        movers=moved,
        quiet=quiet,
        changes=near.changes,
        unknown=near.unknown,
        reading=reading(moved, near.changes, movers.BROKEN, start),
    )
    return replace(result, decisions=decisions(result, _alerts(conn, strategy), movers.BROKEN))


def _fall(conn: Connection, strategy: Strategy) -> Decay | None:
    """The change point alone."""
    history = History.read(conn, strategy, References(conn, strategy.strategy_id))
    return fall(strategy.strategy_id, history.sessions, history.of("ic"), history.levels)


def _features(conn: Connection, strategy: Strategy, start: date, end: date) -> list[str]:
    """The inputs of a strategy: those that are watched, and those that were served."""
    stored = values.of_sessions(conn, strategy.strategy_id, start, end, ["psi"])
    row = {"strategy_id": strategy.strategy_id, "start": start, "end": end}
    served = mappings(conn, _queries.served_origins, row)
    labels = [*(strategy.features or ()), *(value.dimension for value in stored)]
    names = {feature_values.base(label) for label in labels if label}
    return sorted(names | {name for each in served for name in each["feature_names"]})


def _alerts(conn: Connection, strategy: Strategy) -> list[tuple[str, str, date]]:
    """Action, severity and first session of the open alerts on the IC, the worst first."""
    alerts = lifecycle.find(conn, strategy.strategy_id, states=("open", "acknowledged"))
    of_ic = [alert for alert in alerts if alert.metric == "ic"]
    of_ic.sort(key=lambda alert: -SEVERITIES.index(alert.severity))
    return [(alert.action.rstrip("."), alert.severity, alert.session) for alert in of_ic]
