"""The reading of a feature's clock: at what hour of a session its events happened."""

from __future__ import annotations

from datetime import date, timezone

import numpy as np

from mlflow_timescale.common.calendars import NotASession, TradingCalendar
from mlflow_timescale.common.time import to_micros

from ..inputs.feature_values import Section
from ..metrics.clock import Reading

_MINUTE = 60_000_000


def reading(section: Section, session: date, calendar: TradingCalendar) -> Reading | None:
    """The clock of one feature in one session; None without any value."""
    if not len(section.events):
        return None
    event = int(np.median(section.events))
    utc = np.datetime64(event, "us").item()
    local = utc.replace(tzinfo=timezone.utc).astimezone(calendar.tz)
    try:
        behind = calendar.sessions_apart(
            calendar.date_to_session(local.date(), "previous"), session
        )
    except NotASession:
        behind = 0
    # Values of the previous close are dated by it, also after a half day.
    dated = calendar.session_offset(session, -behind) if behind > 0 else session
    close = to_micros(calendar.session_close(dated))
    return Reading(
        after_close=(event - close) / _MINUTE,
        local=local.hour * 60 + local.minute,
        utc=utc.hour * 60 + utc.minute,
        behind=max(behind, 0),
    )
