"""Warnings before a trading calendar ends: exchange_calendars publishes some year by year."""

from __future__ import annotations

from datetime import datetime, timedelta

from mlflow_timescale.common.calendar_errors import longer
from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.common.schedules import WEEKDAYS, is_own

__all__ = ["NOTICE", "assumption", "end_notice", "has_ended"]

NOTICE = timedelta(days=30)  # before the last day of a calendar


def has_ended(calendar: TradingCalendar, now: datetime) -> bool:
    """Whether the present day of the exchange lies after the last one that its calendar covers.

    >>> from datetime import timezone
    >>> has_ended(TradingCalendar("XNYS"), datetime(2026, 1, 1, tzinfo=timezone.utc))
    False
    """
    return calendar.known_to is not None and now.astimezone(calendar.tz).date() > calendar.known_to


def end_notice(calendar: TradingCalendar, now: datetime) -> str:
    """A sentence on a calendar that ends within 30 days, or has ended; empty otherwise.

    Parameters
    ----------
    calendar
        With its overrides and imported sessions.
    now
        Aware.

    Examples
    --------
    >>> from datetime import timezone
    >>> end_notice(TradingCalendar("XNYS"), datetime(2026, 1, 1, tzinfo=timezone.utc))
    ''
    """
    if calendar.known_to is None:
        return ""
    left = calendar.known_to - now.astimezone(calendar.tz).date()
    if left > NOTICE:
        return ""
    verb = "ended" if has_ended(calendar, now) else "ends"
    return (
        f"calendar {calendar.name} {verb} on {calendar.known_to}; {assumption(calendar)} after it: "
        f"{longer(calendar.name)}"
    )


def assumption(calendar: TradingCalendar) -> str:
    """What is taken for sessions beyond a calendar's end.

    >>> assumption(TradingCalendar("XSHG"))
    'weekdays are taken for sessions, holidays too,'
    """
    imported = calendar.imported
    if imported is None or not is_own(calendar.name) or imported.base == WEEKDAYS:
        return "weekdays are taken for sessions, holidays too,"
    return f"the sessions of {imported.base} are taken"
