"""Values that cannot be, and values that are almost always errors, where they are recorded.

What is impossible raises InvalidFrame: an infinity (a division by a zero price), a return that was
known before its session opened. What is implausible is recorded with a warning: percent instead of
fractions, an unadjusted split, a return dated by the day on which it was realised.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.common.frames import InvalidFrame
from mlflow_timescale.common.text import printable

from ..metrics.arrays import Floats
from ..metrics.plausible_returns import (
    LARGEST_MEDIAN,
    LARGEST_RETURN,
    LARGEST_STRATEGY_RETURN,
    looks_like,
)

LEAST_ROWS = 5
LISTED = 5

Days = NDArray[np.datetime64]


class ImplausibleValues(UserWarning):
    """Recorded values that are possible, but more likely an error."""


def refuse_infinite(column: str, values: Floats, rows: Sequence[Sequence[Any]]) -> None:
    """Raise InvalidFrame for infinite values; `rows` are columns that describe the rows.

    >>> refuse_infinite("value", np.array([0.01, np.nan]), [["AAPL", "MSFT"]])
    """
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise InvalidFrame(
            f"column {column!r} is infinite in {len(infinite)} rows: "
            f"{_listed(infinite, rows, values)}. Nothing was recorded; look for a division by "
            f"zero, and leave unknown values empty"
        )


def refuse_from_the_future(
    sessions: Days, known_at: Sequence[datetime | None], calendar: TradingCalendar
) -> None:
    """Raise InvalidFrame for returns that were known before their session opened."""
    for row, session, _, moment in _recent(sessions, known_at):
        if moment < calendar.session_open(session):
            raise InvalidFrame(
                f"the return of row {row + 1} and session {session} is known at {_utc(moment)}, "
                f"before that session opened; a return belongs to the session of its signal"
            )


def warn_of_returns(
    calendar: TradingCalendar,
    entities: Sequence[str],
    sessions: Days,
    horizons: NDArray[np.int64],
    known_at: Sequence[datetime | None],
    values: Floats,
) -> None:
    """Warn of implausible returns of names."""
    scaled = np.abs(values) / np.sqrt(horizons)
    if len(values) >= LEAST_ROWS and float(np.median(scaled)) > LARGEST_MEDIAN:
        _warn(
            f"half of these returns are beyond {float(np.median(np.abs(values))):.0%}: are they in "
            f"percent? A return is a fraction, 0.01 for 1%"
        )
    elif len(large := np.flatnonzero(scaled > LARGEST_RETURN)):
        listed = _listed(large, [entities, sessions.tolist()], values, looks_like)
        _warn(f"{len(large)} returns are beyond {LARGEST_RETURN:.0%} of a session: {listed}")
    _warn_of_early_returns(calendar, sessions, horizons, known_at)


def _warn_of_early_returns(
    calendar: TradingCalendar,
    sessions: Days,
    horizons: NDArray[np.int64],
    known_at: Sequence[datetime | None],
) -> None:
    for row, session, horizon, moment in _recent(sessions, known_at, horizons):
        over = calendar.session_offset(session, horizon)
        if moment < calendar.session_open(over):
            _warn(
                f"the return of row {row + 1}, session {session} and horizon {horizon}, is known "
                f"at {_utc(moment)}, before session {over} opened: date returns by the session of "
                f"the signal, not by the day on which they were realised"
            )
            return


def warn_of_strategy_returns(sessions: Days, values: Floats) -> None:
    """Warn of implausible returns of a strategy."""
    large = np.flatnonzero(np.abs(values) > LARGEST_STRATEGY_RETURN)
    if len(large):
        listed = _listed(large, [sessions.tolist()], values)
        _warn(
            f"{len(large)} strategy returns are beyond {LARGEST_STRATEGY_RETURN:.0%}: {listed}; a "
            f"return is a fraction of the capital, 0.01 for 1%"
        )


def _recent(
    sessions: Days,
    known_at: Sequence[datetime | None],
    horizons: NDArray[np.int64] | None = None,
) -> Iterator[tuple[int, date, int, datetime]]:
    """Row, session, horizon and time known, one row for each of these, without those long over."""
    now = datetime.now(timezone.utc)
    spans = [1] * len(sessions) if horizons is None else horizons.tolist()
    first: dict[tuple[date, int, datetime], int] = {}
    for row, (session, span, known) in enumerate(
        zip(sessions.tolist(), spans, known_at, strict=True)
    ):
        first.setdefault((session, span, known or now), row)
    for (session, span, moment), row in first.items():
        if (moment.date() - session).days <= 3 * span + 10:
            yield row, session, span, moment


def _listed(
    chosen: NDArray[np.intp],
    columns: Sequence[Sequence[Any]],
    values: Floats,
    remark: Callable[[float], str] = lambda value: "",
) -> str:
    texts = [
        " ".join([*(str(c[i]) for c in columns), f"{values[i]:.4g}", remark(values[i])]).strip()
        for i in chosen[:LISTED].tolist()
    ]
    return "; ".join(texts) + (" and more" if len(chosen) > LISTED else "")


def _warn(text: str) -> None:
    warnings.warn(printable(text), ImplausibleValues, stacklevel=5)


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"
