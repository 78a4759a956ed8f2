"""The session of each recorded row: from its column `session`, or from an instant."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.common.frames import Columns, InvalidFrame
from mlflow_timescale.common.micros import midnights
from mlflow_timescale.common.time import to_micros

from .columns import days, instants

LISTED = 5

Days = NDArray[np.datetime64]
Instants = NDArray[np.datetime64]


def signal_times(given: Columns, calendar: TradingCalendar) -> tuple[Instants, Days]:
    """The signal time (UTC, microseconds) and the session of each row.

    Raises InvalidFrame for times that are dates, that come later than the close of the session
    after the row's, and for sessions that lie after the next one.
    """
    if "signal_time" not in given and "session" in given:
        sessions = calendar.require_sessions(days(given, "session"))
        _refuse_future(sessions, calendar)
        return calendar.session_closes(sessions), sessions
    if "session" not in given:
        times, sessions = sessions_of(given, "signal_time", calendar)
    else:
        times = _complete(given, "signal_time")
        sessions = calendar.require_sessions(days(given, "session"))
        _refuse_late(times, sessions, calendar)
    _refuse_future(sessions, calendar)
    return times, sessions


def sessions_of(given: Columns, name: str, calendar: TradingCalendar) -> tuple[Instants, Days]:
    """The instants of a column, and their sessions. Raises InvalidFrame for dates."""
    times = _complete(given, name)
    _refuse_dates(times, name, calendar)
    return times, calendar.instants_to_sessions(times)


def _complete(given: Columns, name: str) -> Instants:
    times = instants(given, name)
    if np.isnat(times).any():
        raise InvalidFrame(f"column {name!r} has {np.isnat(times).sum()} empty values")
    return times


def _refuse_dates(times: Instants, name: str, calendar: TradingCalendar) -> None:
    """Raise InvalidFrame for midnights: a date read as an instant falls into the session before."""
    if not len(times) or not calendar.has_hours:
        return
    zone = str(calendar.tz)
    for place in dict.fromkeys(("UTC", zone)):
        share = float(midnights(times.view(np.int64), place).mean())
        if share > 0.5:
            rows = "every row" if share == 1 else f"{share:.0%} of the rows"
            raise InvalidFrame(
                f"column {name!r} is midnight {place} in {rows}, so these are dates rather than "
                f"the instants of the predictions, and would fall one session early; pass the "
                f"dates as column 'session', or add the time of the close, such as "
                f"date.dt.tz_localize({zone!r}) + pd.Timedelta(hours=16)"
            )


def _refuse_late(times: Instants, sessions: Days, calendar: TradingCalendar) -> None:
    """Raise InvalidFrame for signals made after the session that follows theirs had closed."""
    closes = calendar.session_closes(sessions).astype("datetime64[us]")
    next_closes = calendar.next_closes(closes.view(np.int64)).view("datetime64[us]")
    late = np.flatnonzero(times > next_closes)
    if len(late):
        raise InvalidFrame(
            f"column 'signal_time' contradicts column 'session' in {len(late)} rows: "
            f"{_listed(late, sessions, times)}. These signals come after the next session closed; "
            f"pass the session of each signal, or leave the column out: signal_time gives it"
        )


def _refuse_future(sessions: Days, calendar: TradingCalendar) -> None:
    """Raise InvalidFrame for sessions after the one that opens next."""
    opening = calendar.next_open(datetime.now(timezone.utc))
    instant = np.array([to_micros(opening)]).view("datetime64[us]")
    upcoming = calendar.instants_to_sessions(instant)[0]
    future = np.flatnonzero(sessions > upcoming)
    if len(future):
        raise InvalidFrame(
            f"{len(future)} predictions are of sessions after the next one, {upcoming}: "
            f"{_listed(future, sessions)}. A signal belongs to the session that it was made in; "
            f"the return may come later"
        )


def _listed(chosen: NDArray[np.intp], *columns: Any) -> str:
    texts = [
        f"row {i + 1}: " + ", ".join(str(column[i]) for column in columns)
        for i in chosen[:LISTED].tolist()
    ]
    return "; ".join(texts) + (" and more" if len(chosen) > LISTED else "")
