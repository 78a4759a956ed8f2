"""Dates and times that callers pass."""

from __future__ import annotations

from datetime import date, datetime

from mlflow_timescale.common.errors import InvalidFrame as BadFrame


def aware(instant: datetime, name: str) -> datetime:
    """Return the datetime, or raise if it has no time zone."""
    if instant.tzinfo is None:
        raise BadFrame(f"{name} {instant.isoformat()} has no time zone; pass an aware datetime")
    return instant


def day(value: date | str, name: str = "date") -> date:
    """A date, or its ISO text; a datetime is refused, since its date depends on the zone."""
    if isinstance(value, datetime) or not isinstance(value, (date, str)):
        raise BadFrame(f"{name} must be a date such as 2024-01-12, not {value!r}")
    try:
        return value if isinstance(value, date) else date.fromisoformat(value)
    except ValueError as exc:
        raise BadFrame(f"{name} {value!r} is not a date such as 2024-01-12") from exc
