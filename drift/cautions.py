"""What a reader must know beside the alerts: how far the monitor can be trusted today."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime

from mlflow_timescale.common.calendar_ends import end_notice
from mlflow_timescale.common.errors import did_you_mean
from mlflow_timescale.db import Connection

from .computation.provisional import FEATURE_SESSIONS
from .inputs.champions import registered_models
from .results import values
from .results.references import MIN_SESSIONS, References
from .strategies import Strategy


def cautions(conn: Connection, strategy: Strategy, now: datetime) -> list[str]:
    """Sentences on the model, the reference, gaps, a job that has stopped, and the calendar's end.

    A caution opens no alert, and changes no exit code.
    """
    closed = strategy.calendar.last_sessions(1, now)[-1]
    runs = values.runs(conn, strategy.strategy_id, end=closed)
    return [
        *_model(conn, runs),
        *_reference(conn, strategy),
        *_sessions(runs, strategy, closed, now),
        *_calendar(strategy, now),
    ]


def _calendar(strategy: Strategy, now: datetime) -> Iterator[str]:
    if notice := end_notice(strategy.calendar, now):
        yield notice


def _reference(conn: Connection, strategy: Strategy) -> Iterator[str]:
    known = References(conn, strategy.strategy_id)
    if known.accepted:
        return
    accept = f"accept one: `drift accept -s {strategy.strategy_id} START END`"
    if not known.provisional:
        yield (
            f"no reference has been accepted: features are judged from session "
            f"{FEATURE_SESSIONS} on, the IC after {MIN_SESSIONS} sessions with one; {accept}"
        )
        return
    window = known.provisional[-1]
    level = "no level of the IC yet"
    if window.ic_mean is not None:
        level = f"mean IC {window.ic_mean:.3f}, which may already be bad"
    yield (
        f"no reference has been accepted: judged provisionally by the first sessions, "
        f"{window.window_start} to {window.window_end} ({level}); {accept}"
    )


def _model(conn: Connection, runs: list[values.Run]) -> Iterator[str]:
    """A model of the last session that the registry does not know; it may be a label of its own."""
    name = runs[-1].model_name if runs else ""
    known = registered_models(conn) if name else []
    if known and name not in known:
        yield (
            f"the predictions name the model {name!r}, which the registry does not know"
            f"{did_you_mean(name, known)}: no version can be compared with a champion"
        )


def _sessions(
    runs: list[values.Run], strategy: Strategy, closed: date, now: datetime
) -> Iterator[str]:
    if not runs:
        return
    first, last = runs[0].session, runs[-1].session
    computed = {run.session for run in runs}
    gaps = [day for day in strategy.calendar.sessions_in_range(first, last) if day not in computed]
    if gaps:
        yield (
            f"{_period(gaps)} never computed; "
            f"`drift backfill -s {strategy.strategy_id} {gaps[0]} {gaps[-1]}` computes them"
        )
    behind = len(strategy.calendar.sessions_in_range(last, closed)) - 1 if last < closed else 0
    # The job of a session that has just closed runs in the evening.
    is_over = now >= strategy.calendar.session_open(strategy.calendar.next_session(closed))
    if behind > 1 or (behind and is_over):
        yield (
            f"the last session computed is {last}, {behind} before {closed}, the last that closed: "
            f"the daily job has not run since, or failed"
        )


def _period(sessions: Sequence[date]) -> str:
    if len(sessions) == 1:
        return f"session {sessions[0]} was"
    return f"{len(sessions)} sessions from {sessions[0]} to {sessions[-1]} were"
