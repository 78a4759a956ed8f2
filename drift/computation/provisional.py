"""The reference of a strategy while none has been accepted: its first sessions.

Without a reference no fall of the IC and no broken feature can be judged. The distributions of the
features are fitted after `FEATURE_SESSIONS` sessions; with the level of the IC, again, after
`MIN_SESSIONS` sessions that have one. The first sessions may already be bad, so the reference is
shown as provisional until one is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date

import numpy as np

from mlflow_timescale.db import Connection, load

from ..metrics.psi import Reference
from ..results import references, values
from ..results.references import MIN_SESSIONS, TRAINED, References
from ..strategies import Strategy
from . import reference_fit

FEATURE_SESSIONS = 20
BINS = 10
Training = Callable[[str, str], Mapping[str, Reference]]
_queries = load("drift")
REASON = "provisional: nothing has been accepted yet"


def keep_due(conn: Connection, strategy: Strategy, training: Training) -> bool:
    """Keep the provisional reference that is due, if one is, and mark later sessions as stale.

    `training` returns the distributions of features in the training set of a model's version: they
    replace those of the first sessions. Returns whether one was kept; another may then be due.
    """
    known = References(conn, strategy.strategy_id)
    if known.accepted or len(known.provisional) == 2:
        return False
    if known.provisional:
        window = _first(_with_ic(conn, strategy), MIN_SESSIONS)
    else:
        window = _first(_with_data(conn, strategy), FEATURE_SESSIONS)
    if window is None:
        return False
    days = strategy.calendar.sessions_in_range(*window)
    stored = values.of_sessions(conn, strategy.strategy_id, *window, metrics=["ic"])
    ic = values.on_sessions(stored, days).get(("ic", ""), np.full(len(days), np.nan))
    with conn.transaction():
        trained = training(*_judged_model(conn, strategy, window[1]))
        fitted = [
            (name, _with_buckets(own, trained.get(name)))
            for name, own in reference_fit.distributions(conn, strategy, days, BINS)
        ]
        references.keep_provisional(
            conn,
            strategy.strategy_id,
            window,
            ic if known.provisional else np.full(len(days), np.nan),
            fitted,
            reason=f"{REASON}; {TRAINED}" if trained else REASON,
        )
    return True


def _with_buckets(own: Reference, trained: Reference | None) -> Reference:
    """The buckets of the training set, with the habits and the clock of the first sessions."""
    if (
        trained is None or own.ranked
    ):  # a snapshot has values, not ranks among the names of a session
        return own
    return replace(trained, habits=own.habits, clock=own.clock)


def _judged_model(conn: Connection, strategy: Strategy, session: date) -> tuple[str, str]:
    row = {"strategy_id": strategy.strategy_id, "session": session}
    model = conn.execute(_queries.judged_model, row).fetchone()
    return (model[0], model[1]) if model else (strategy.model_name, strategy.model_version)


def _first(sessions: Sequence[date], count: int) -> tuple[date, date] | None:
    return (sessions[0], sessions[count - 1]) if len(sessions) >= count else None


def _with_data(conn: Connection, strategy: Strategy) -> list[date]:
    runs = values.runs(conn, strategy.strategy_id)
    return [run.session for run in runs if run.status == "ok" and run.digest]


def _with_ic(conn: Connection, strategy: Strategy) -> list[date]:
    span = (values.FIRST, values.LAST, ["ic"], [""])
    stored = values.of_sessions(conn, strategy.strategy_id, *span)
    return [value.session for value in stored if value.value is not None]
