"""Reading the sessions of a strategy, and the windows in which their features are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np

from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.common.time import to_micros
from mlflow_timescale.db import Connection, load
from mlflow_timescale.db.rows import scalar

from ..inputs.champions import Champions
from ..inputs.feature_values import FeatureWindow, Section
from ..inputs.signals_and_returns import Judged, Observed, Signal, observe
from ..strategies import Strategy

_queries = load("drift")


def observe_all(
    conn: Connection, strategy: Strategy, days: Sequence[date], champions: Champions
) -> list[Observed]:
    """Read sessions in order; each continues the version that judged the one before.

    A session without predictions, of a strategy that decides before the close, has its features as
    of the usual hour of the decision. Values read later in the evening would seem to be repeated on
    the next session.
    """
    if not days:
        return []

    judged = Judged(strategy.signal, strategy.model_name, strategy.model_version, champions)
    key = {"strategy_id": strategy.strategy_id, "session": days[0]}
    before = scalar(conn, _queries.version_before, key) or ""
    lead = _lead_before(conn, strategy, days[0])
    observations = []
    for day in days:
        observed = observe(conn, strategy.strategy_id, day, judged, before)
        close, decided = strategy.calendar.session_close(day), observed.as_of
        if decided is not None:
            lead = close - decided
        elif lead > timedelta(0):
            observed = replace(observed, expected=close - lead)
        observations.append(observed)
        primary = observed.primary
        before = primary.model_version if primary and primary.model_version else before
    return observations


def _lead_before(conn: Connection, strategy: Strategy, day: date) -> timedelta:
    """How long before its close the last session before `day` was decided; else not positive."""
    key = {"strategy_id": strategy.strategy_id, "session": day}
    row = conn.execute(_queries.as_of_before, key).fetchone()
    if row is None:
        return timedelta(0)
    session, decided = row
    lead: timedelta = strategy.calendar.session_close(session) - decided
    return lead


def signal_section(signal: Signal | None) -> Section:
    """A signal as one feature more: its values, all of the time at which the last was made."""
    if signal is None:
        return Section(np.empty(0, dtype=np.int64), np.empty(0))
    events = np.full(len(signal.entities), to_micros(signal.signal_time), dtype=np.int64)
    return Section(signal.entities, signal.values, events=events)


def as_of(observed: Observed, calendar: TradingCalendar) -> datetime:
    """When the session's predictions were made; without any, when they were due.

    That is before the close if they were on the session before, else when the next session opens.
    """
    moment = observed.as_of or observed.expected
    return moment or calendar.session_open(calendar.next_session(observed.session))


def window(
    observed: Observed, calendar: TradingCalendar, known_by: datetime | None = None
) -> FeatureWindow:
    """The time in which a session's features are written, and the names that should have them.

    Values must have been known at the session's as-of time, or at `known_by`.
    """
    after = calendar.session_close(calendar.previous_session(observed.session))
    moment = as_of(observed, calendar)
    before_close = moment < calendar.session_close(observed.session)
    return FeatureWindow(
        observed.session, after, moment, observed.entities, known_by, before_close=before_close
    )
