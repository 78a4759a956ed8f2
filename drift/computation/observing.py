"""Reading the sessions of a strategy, and the windows in which their features are written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

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
    """Read sessions in order; each continues the version that judged the one before."""
    if not days:
        return []

    judged = Judged(strategy.signal, strategy.model_name, strategy.model_version, champions)
    key = {"strategy_id": strategy.strategy_id, "session": days[0]}
    before = scalar(conn, _queries.version_before, key) or ""
    observations = []
    for day in days:
        observations.append(observe(conn, strategy.strategy_id, day, judged, before))
        primary = observations[-1].primary
        before = primary.model_version if primary and primary.model_version else before
    return observations


def signal_section(signal: Signal | None) -> Section:
    """A signal as one feature more: its values, all of the time at which the last was made."""
    if signal is None:
        return Section(np.empty(0, dtype=np.int64), np.empty(0))
    events = np.full(len(signal.entities), to_micros(signal.signal_time), dtype=np.int64)
    return Section(signal.entities, signal.values, events=events)


def as_of(observed: Observed, calendar: TradingCalendar) -> datetime:
    """When the session's predictions were made; without any, when the next session opens."""
    return observed.as_of or calendar.session_open(calendar.next_session(observed.session))


def window(
    observed: Observed, calendar: TradingCalendar, known_by: datetime | None = None
) -> FeatureWindow:
    """The time in which a session's features are written, and the names that should have them.

    Values must have been known at the session's as-of time, or at `known_by`.
    """
    after = calendar.session_close(calendar.previous_session(observed.session))
    return FeatureWindow(
        observed.session, after, as_of(observed, calendar), observed.entities, known_by
    )
