"""How old a value may be at its as_of: by the clock, or on the session days of a calendar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mlflow_timescale import db
from mlflow_timescale.common.calendar_overrides import read_calendar
from mlflow_timescale.common.calendars import Override, TradingCalendar
from mlflow_timescale.common.imported_sessions import ImportedSessions
from mlflow_timescale.common.micros import FIRST, LAST, Micros
from mlflow_timescale.common.time import (
    MICROSECOND,
    Duration,
    InvalidTime,
    SessionCount,
    format_duration,
    parse_duration,
)

__all__ = ["AgeLimit", "Limits", "common_age", "on_calendars"]

Calendar = str | TradingCalendar
_DAYLIGHT_SAVING = 7_200_000_000
_MARGIN = 60 * 86_400_000_000  # longer than any exchange was closed since 1990, in microseconds


@dataclass(frozen=True)
class AgeLimit:
    """A limit on as_of - event_time, inclusive.

    Attributes
    ----------
    length
        A timedelta or a number of sessions; a session is 24 hours on session days.
    calendar
        With a calendar only the time on its session days counts; None: all time counts.

    Raises InvalidTime for sessions without a calendar.

    Examples
    --------
    >>> friday, monday = np.array(["2024-01-05T21", "2024-01-08T15"], "M8[us]").astype(np.int64)
    >>> AgeLimit(timedelta(days=1)).expired(np.array([friday]), np.array([monday]))
    array([ True])
    >>> AgeLimit(SessionCount(1), "XNYS").expired(np.array([friday]), np.array([monday]))
    array([False])
    """

    length: Duration
    calendar: Calendar | None = None

    def __post_init__(self) -> None:
        if isinstance(self.length, SessionCount) and self.calendar is None:
            raise InvalidTime(
                f"max_age is {self.length}, which has no fixed length without a calendar; give "
                f"calendar='XNYS', read a view that has a calendar, or write 5d, 4h, 45m or 90s"
            )

    @cached_property
    def micros(self) -> int | None:
        """The length in microseconds; None where it is longer than any two times are apart."""
        length = self.length
        if isinstance(length, SessionCount):
            length = timedelta(days=min(length.count, timedelta.max.days))
        micros = length // MICROSECOND
        return micros if micros <= LAST - FIRST else None

    def expired(self, event: Micros, as_of: Micros) -> npt.NDArray[np.bool_]:
        """Which events, shape (n,), are too old at their as_of. Raises UnknownCalendar."""
        if self.micros is None or not len(event):
            return np.zeros(len(event), dtype=bool)
        too_old: npt.NDArray[np.bool_] = event < as_of - self.micros
        if self.calendar is None:
            return too_old
        # A calendar leaves time out, so that most values are young enough without a look at it; a
        # session with a change to daylight saving lasts 23 hours and counts 24.
        doubtful = np.flatnonzero(event < as_of - self.micros + _DAYLIGHT_SAVING)
        if len(doubtful):
            first, last = event[doubtful], as_of[doubtful]
            # No calendar is needed for centuries after the limit.
            last = np.minimum(last, first + 3 * self.micros + _MARGIN)
            too_old[doubtful] = self._calendar().ages(first, last) > self.micros
        return too_old

    def to_dict(self) -> dict[str, Any]:
        """The limit for a manifest, with the corrections of its calendar at this time."""
        overrides = []
        if isinstance(self.calendar, TradingCalendar):
            overrides = [_plain(override) for override in self.calendar.overrides]
        name = self.calendar.name if isinstance(self.calendar, TradingCalendar) else self.calendar
        plain: dict[str, Any] = {
            "length": format_duration(self.length),
            "calendar": name,
            "overrides": overrides,
        }
        if isinstance(self.calendar, TradingCalendar) and self.calendar.imported is not None:
            plain["imported"] = self.calendar.imported.to_dict()
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> AgeLimit:
        """The limit of a manifest."""
        calendar = plain["calendar"]
        if calendar is not None:
            imported = plain.get("imported")
            calendar = TradingCalendar(
                calendar,
                [_override(item) for item in plain["overrides"]],
                ImportedSessions.from_dict(imported) if imported else None,
            )
        return cls(parse_duration(plain["length"]), calendar)

    def _calendar(self) -> TradingCalendar:
        if isinstance(self.calendar, TradingCalendar):
            return self.calendar
        assert self.calendar is not None  # nosec B101  # for mypy
        return TradingCalendar(self.calendar)


Limits = Mapping[str, tuple[AgeLimit, ...]]  # by feature; all of them hold


def on_calendars(conn: db.Connection, limits: Limits) -> dict[str, tuple[AgeLimit, ...]]:
    """The limits on the calendars that are recorded in a database, with their overrides."""
    names = {limit.calendar for rules in limits.values() for limit in rules}
    calendars = {name: read_calendar(conn, name) for name in names if isinstance(name, str)}
    return {
        feature: tuple(
            replace(limit, calendar=calendars[limit.calendar])
            if isinstance(limit.calendar, str)
            else limit
            for limit in rules
        )
        for feature, rules in limits.items()
    }


def common_age(limits: Iterable[tuple[AgeLimit, ...]], as_of: Micros) -> timedelta | None:
    """An age that no value of any feature exceeds, for a search that is limited by it.

    None where a feature has no limit by the clock, or the limit reaches before the year 1.
    """
    longest = 0
    for rules in limits:
        ages = [r.micros for r in rules if r.calendar is None and r.micros is not None]
        if not ages:
            return None
        longest = max(longest, min(ages))
    known = as_of[as_of >= FIRST]
    if not len(known) or int(known.min()) - longest < FIRST:
        return None
    return longest * MICROSECOND


def _plain(override: Override) -> dict[str, Any]:
    plain = asdict(override)
    close = override.close
    return plain | {
        "session": override.session.isoformat(),
        "close": None if close is None else close.isoformat(),
    }


def _override(plain: Mapping[str, Any]) -> Override:
    close = plain["close"]
    return Override(
        date.fromisoformat(plain["session"]),
        plain["is_session"],
        None if close is None else datetime.fromisoformat(close),
        plain["why"],
    )
