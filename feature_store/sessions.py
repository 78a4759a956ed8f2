"""Trading sessions: which days count, and how old something is if only they do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

from .calendars import trading_calendar
from .times import Micros, from_micros

_DAY = 86_400_000_000
_BLOCK_DAYS = 64
Days = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sessions:
    """The sessions of an exchange in a stretch of time, as days since 1970 in its time zone.

    Without a calendar (`of(None, ...)`) every day counts, in UTC.
    """

    zone: str
    days: Days
    complete: Days

    @classmethod
    def of(
        cls, calendar: str | None, first: datetime, as_of: datetime, zone: str | None = None
    ) -> Sessions:
        """The sessions from `first` to `as_of`; those whose close has passed are complete.

        `zone` is where a day begins, if not at the exchange: "UTC" for daily data that is stamped
        at midnight in UTC. Raises UnknownCalendar for a name that does not exist.
        """
        start, end = (int(t.timestamp()) // 86_400 for t in (first, as_of))
        if calendar is None:
            days = np.arange(start, end + 1)
            return cls(zone or "UTC", days, days[:-1])
        begin = (start - 7) // _BLOCK_DAYS * _BLOCK_DAYS
        schedule = trading_calendar(calendar, begin, (end + 7) // _BLOCK_DAYS * _BLOCK_DAYS + 64)
        dates = schedule.sessions.as_unit("us").asi8 // _DAY
        closes = schedule.closes.dt.as_unit("us").astype("int64").to_numpy()
        kept = (dates >= start - 7) & (dates <= end + 1)
        done = kept & (closes <= int(as_of.timestamp() * 1e6))
        return cls(zone or str(schedule.tz), dates[kept], dates[done])

    def age(self, event: Micros, as_of: datetime) -> Micros:
        """Microseconds from events to as_of, of which only those on session days count.

        >>> from datetime import timezone
        >>> friday, monday = (datetime(2024, 1, d, 21, tzinfo=timezone.utc) for d in (5, 8))
        >>> event = np.array([friday.timestamp() * 1e6])
        >>> Sessions.of("XNYS", friday, monday).age(event, monday) // 3_600_000_000  # hours
        array([24])
        """
        now = np.array([int(as_of.timestamp() * 1e6)])
        age: Micros = self._clock(now)[0] - self._clock(event.astype(np.int64))
        return age

    def last(self, count: int) -> list[date]:
        """The last complete sessions."""
        return [from_micros(int(day) * _DAY).date() for day in self.complete[-count:]]

    def start(self, day: date) -> datetime:
        """When a day begins in the time zone of the exchange."""
        return pd.Timestamp(day).tz_localize(self.zone).to_pydatetime()

    def _clock(self, moments: Micros) -> Micros:
        """A clock that runs on session days only."""
        local = pd.to_datetime(moments, unit="us", utc=True).tz_convert(self.zone)
        wall = np.asarray(local.tz_localize(None).as_unit("us").asi8)
        day, time_of_day = wall // _DAY, wall % _DAY
        before = np.searchsorted(self.days, day)
        at = np.minimum(before, len(self.days) - 1)
        is_session = self.days[at] == day if len(self.days) else np.zeros(len(day), dtype=bool)
        clock: Micros = before * _DAY + np.where(is_session, time_of_day, 0)
        return clock
