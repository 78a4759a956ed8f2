"""Time: one parser, one rule for time zones, one spelling of durations, exact microseconds.

A point in time is an aware datetime, or a whole number of microseconds since 1970 in UTC, which is
what PostgreSQL stores. A value that would have to be guessed (without a time zone), rounded
(nanoseconds) or shifted (an hour that daylight saving skips) is refused: a point in time that is
wrong by a microsecond may show a feature value that was not known yet.

A duration is a timedelta, or a text: "5d", "4h", "45m", "90s", "1d 12h". Where a trading calendar
is at hand, "3 sessions" is a duration too.

Columns of times are in `mlflow_timescale.common.micros`; this module loads no array library.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from mlflow_timescale.common.errors import InvalidTime

__all__ = [
    "EPOCH",
    "MICROSECOND",
    "Duration",
    "InvalidTime",
    "SessionCount",
    "duration_micros",
    "fixed_duration",
    "format_duration",
    "format_second",
    "from_micros",
    "missing_zone",
    "optional_duration",
    "parse_day",
    "parse_duration",
    "parse_time",
    "require_zone",
    "to_micros",
]

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)
_TEXT = "write 2024-01-12T21:00Z, 2024-01-12T16:00-05:00 or 2024-01-12T16:00 America/New_York"
_OBJECT = "datetime(..., tzinfo=ZoneInfo('America/New_York'))"
_NAMED_ZONE = re.compile(r"(.*[\dzZ])\s+([A-Za-z][\w+/-]*)", re.ASCII)
_NANOSECONDS = re.compile(r"[.,]\d{7,}")
_NUMBER = r"(\d+(?:\.\d+)?)"
_FIXED = re.compile(r"\s*".join(rf"(?:{_NUMBER}{unit})?" for unit in "dhms"), re.ASCII)
_SESSIONS = re.compile(r"(\d+) sessions?", re.ASCII)
_UNITS = ("days", "hours", "minutes", "seconds")


@dataclass(frozen=True)
class SessionCount:
    """A duration in sessions of a trading calendar.

    Parameters
    ----------
    count
        The number of sessions, 1 or more. Raises InvalidTime.

    Examples
    --------
    >>> str(SessionCount(3)), str(SessionCount(1))
    ('3 sessions', '1 session')
    """

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InvalidTime(f"a duration of {self.count} sessions; give 1 session or more")

    def __str__(self) -> str:
        return f"{self.count} session" if self.count == 1 else f"{self.count} sessions"


Duration = timedelta | SessionCount


def missing_zone(what: str, advice: str = _OBJECT) -> InvalidTime:
    """The one error for a time without a time zone.

    Parameters
    ----------
    what
        The name and value of the time.
    advice
        How to name a time zone in the form in which the time was given.

    Examples
    --------
    >>> print(missing_zone("until 2024-01-12T21:00:00"))  # doctest: +ELLIPSIS
    until 2024-01-12T21:00:00 has no time zone; say which one is meant: datetime(..., tzinfo=...)
    """
    return InvalidTime(f"{what} has no time zone; say which one is meant: {advice}")


def require_zone(moment: datetime, what: str = "time") -> datetime:
    """The datetime itself, if it is aware.

    Parameters
    ----------
    moment
        A datetime or pandas Timestamp. Raises InvalidTime if it is naive or of another type.
    what
        What the error calls it.

    Examples
    --------
    >>> require_zone(datetime(2024, 1, 12, 21, tzinfo=timezone.utc)).isoformat()
    '2024-01-12T21:00:00+00:00'
    >>> require_zone(datetime(2024, 1, 12, 21), "as_of")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    mlflow_timescale.common.errors.InvalidTime: as_of 2024-01-12T21:00:00 has no time zone; ...
    """
    if not isinstance(moment, datetime):
        raise InvalidTime(f"{what} {moment!r} is not a datetime; give one with a time zone")
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise missing_zone(f"{what} {moment.isoformat()}")
    return moment


def parse_time(value: str | datetime, what: str = "time") -> datetime:
    """A point in time from a text, in the time zone that the text names.

    Parameters
    ----------
    value
        ISO 8601 with "Z" or an offset, or with the name of a time zone after a space. An aware
        datetime is returned as it is. Raises InvalidTime for anything else: no time zone, finer
        than a microsecond, an hour that daylight saving skips, or repeats without an offset.
    what
        What the error calls it.

    Examples
    --------
    >>> parse_time("2024-01-12T21:00Z").isoformat()
    '2024-01-12T21:00:00+00:00'
    >>> parse_time("2024-01-12 16:00 America/New_York").isoformat()
    '2024-01-12T16:00:00-05:00'
    >>> parse_time("2024-01-12T21:00", "as_of")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    mlflow_timescale.common.errors.InvalidTime: as_of '2024-01-12T21:00' has no time zone; ...
    """
    moment = value
    if isinstance(moment, str):
        moment = _read(moment.strip(), what)
        if moment.tzinfo is None:
            raise missing_zone(f"{what} {value!r}", _TEXT)
    to_micros(moment, what)
    return moment


def parse_day(value: str | date, what: str = "date") -> date:
    """A calendar date from a text.

    Parameters
    ----------
    value
        ISO 8601, or a date, which is returned as it is. Raises InvalidTime for anything else; also
        for a datetime, whose date depends on the time zone.
    what
        What the error calls it.

    Examples
    --------
    >>> parse_day("2024-01-12")
    datetime.date(2024, 1, 12)
    >>> parse_day("12.1.2024", "session")
    Traceback (most recent call last):
    mlflow_timescale.common.errors.InvalidTime: session '12.1.2024' is not a date such as 2024-01-12
    """
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise InvalidTime(f"{what} must be a date such as 2024-01-12, not {value!r}")
    try:
        return date.fromisoformat(value.strip())
    except ValueError as exc:
        raise InvalidTime(f"{what} {value!r} is not a date such as 2024-01-12") from exc


def parse_duration(value: str | Duration, what: str = "duration") -> Duration:
    """A duration from a text; zero or more.

    Parameters
    ----------
    value
        "5d", "4h", "45m", "90s", several of them from large to small ("1d 12h"), or "3 sessions".
        A timedelta or SessionCount is returned as it is. Raises InvalidTime.
    what
        What the error calls it.

    Examples
    --------
    >>> parse_duration("1d 12h")
    datetime.timedelta(days=1, seconds=43200)
    >>> parse_duration("3 sessions")
    SessionCount(count=3)
    >>> parse_duration("soon", "max_age")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    mlflow_timescale.common.errors.InvalidTime: max_age 'soon' is not a duration; write 5d, 4h, ...
    """
    if isinstance(value, str):
        sessions = _SESSIONS.fullmatch(value.strip())
        return SessionCount(int(sessions[1])) if sessions else _fixed(value, what)
    if isinstance(value, SessionCount):
        return value
    if not isinstance(value, timedelta):
        raise _not_a_duration(value, what)
    if not value >= timedelta(0):  # NaT, a timedelta too, compares false
        raise InvalidTime(f"{what} {value!r} is not a duration of zero or more")
    return value


def fixed_duration(value: str | Duration, what: str = "duration") -> timedelta:
    """A duration that needs no calendar, as `parse_duration` reads it.

    Parameters
    ----------
    value
        As of `parse_duration`; a number of sessions raises InvalidTime too.
    what
        What the error calls it.

    Examples
    --------
    >>> fixed_duration("4h")
    datetime.timedelta(seconds=14400)
    >>> fixed_duration("1 session", "max_age")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    mlflow_timescale.common.errors.InvalidTime: max_age is 1 session, which has no fixed length; ...
    """
    duration = parse_duration(value, what)
    if isinstance(duration, SessionCount):
        raise InvalidTime(
            f"{what} is {duration}, which has no fixed length; write 5d, 4h, 45m or 90s"
        )
    return duration


def optional_duration(value: str | Duration | None, what: str = "duration") -> Duration | None:
    """A duration as `parse_duration` reads it, or None for no duration.

    Parameters
    ----------
    value
        As of `parse_duration`, or None. Raises InvalidTime.
    what
        What the error calls it.

    Examples
    --------
    >>> optional_duration("5d", "max_age"), optional_duration(None)
    (datetime.timedelta(days=5), None)
    """
    return None if value is None else parse_duration(value, what)


def format_duration(duration: Duration) -> str:
    """A duration as `parse_duration` reads it.

    Parameters
    ----------
    duration
        Zero or more.

    Examples
    --------
    >>> format_duration(timedelta(days=1, hours=12, seconds=0.5))
    '1d 12h 0.5s'
    >>> format_duration(timedelta(0)), format_duration(SessionCount(2))
    ('0s', '2 sessions')
    """
    if isinstance(duration, SessionCount):
        return str(duration)
    minutes, seconds = divmod(duration - timedelta(duration.days), timedelta(minutes=1))
    hours, minutes = divmod(minutes, 60)
    counts = ((duration.days, "d"), (hours, "h"), (minutes, "m"))
    parts = [f"{count}{unit}" for count, unit in counts if count]
    if seconds or not parts:
        fraction = f"{seconds.microseconds:06d}".rstrip("0")
        parts.append(f"{seconds.seconds}.{fraction}".rstrip(".") + "s")
    return " ".join(parts)


def format_second(moment: datetime) -> str:
    """A point in time for people: in UTC, to the second.

    >>> format_second(parse_time("2024-01-15T16:00-05:00"))
    '2024-01-15 21:00:00 UTC'
    """
    return f"{moment.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def to_micros(moment: datetime, what: str = "time") -> int:
    """Microseconds since 1970 in UTC.

    Parameters
    ----------
    moment
        An aware datetime. Raises InvalidTime if it is naive, finer than a microsecond (pandas),
        outside the years 1 to 9999 in UTC, or an hour that daylight saving skips.
    what
        What the error calls it.

    Examples
    --------
    >>> to_micros(datetime(2024, 1, 15, 16, tzinfo=ZoneInfo("America/New_York")))
    1705352400000000
    """
    require_zone(moment, what)
    if getattr(moment, "nanosecond", 0):
        raise InvalidTime(
            f"{what} {moment.isoformat()} is finer than a microsecond; round it yourself"
        )
    try:
        utc = moment.astimezone(timezone.utc)
        local = utc.astimezone(moment.tzinfo)
    except (OverflowError, ValueError) as exc:
        raise InvalidTime(
            f"{what} {moment.isoformat()} lies outside the years 1 to 9999 in UTC"
        ) from exc
    if local.replace(tzinfo=None) != moment.replace(tzinfo=None):
        raise InvalidTime(
            f"{what} {moment.isoformat()} does not exist: "
            f"daylight saving skips it in {moment.tzinfo}"
        )
    return int((utc - EPOCH) // MICROSECOND)


def from_micros(micros: int) -> datetime:
    """The datetime in UTC of microseconds since 1970.

    Parameters
    ----------
    micros
        A whole number, also one of numpy. Raises OverflowError outside the years 1 to 9999.

    Examples
    --------
    >>> from_micros(1705352400000000).isoformat()
    '2024-01-15T21:00:00+00:00'
    """
    return EPOCH + timedelta(microseconds=int(micros))


def duration_micros(duration: str | Duration, what: str = "duration") -> int:
    """Microseconds of a duration that needs no calendar.

    Parameters
    ----------
    duration
        As of `fixed_duration`. Raises InvalidTime.
    what
        What the error calls it.

    Examples
    --------
    >>> duration_micros("90s")
    90000000
    """
    return int(fixed_duration(duration, what) // MICROSECOND)


def _read(text: str, what: str) -> datetime:
    """The datetime of an ISO 8601 text, naive if the text names no time zone."""
    if _NANOSECONDS.search(text):
        raise InvalidTime(f"{what} {text!r} is finer than a microsecond; round it yourself")
    named = _NAMED_ZONE.fullmatch(text)
    try:
        # Python 3.10 reads no "Z".
        moment = datetime.fromisoformat(re.sub(r"[zZ]\Z", "+00:00", named[1] if named else text))
    except ValueError as exc:
        raise InvalidTime(f"{what} {text!r} is not a time; {_TEXT}") from exc
    return _in_zone(moment, named[2], what) if named else moment


def _in_zone(moment: datetime, zone: str, what: str) -> datetime:
    if moment.tzinfo is not None:
        raise InvalidTime(f"{what} has both an offset and time zone {zone!r}; {_TEXT}")
    try:
        local = moment.replace(tzinfo=ZoneInfo(zone))
    except (KeyError, ValueError, OSError) as exc:
        raise InvalidTime(f"{what} is in time zone {zone!r}, which does not exist") from exc
    to_micros(local, what)
    if local.utcoffset() != local.replace(fold=1).utcoffset():
        raise InvalidTime(
            f"{what} {moment.isoformat()} occurs twice in {zone}: daylight saving repeats it; "
            f"write it with its offset"
        )
    return local


def _fixed(text: str, what: str) -> timedelta:
    match = _FIXED.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise _not_a_duration(text, what)
    numbers = (float(number or 0) for number in match.groups())
    try:
        return timedelta(**dict(zip(_UNITS, numbers, strict=True)))
    except OverflowError as exc:
        raise InvalidTime(f"{what} {text!r} is longer than 999999999 days") from exc


def _not_a_duration(value: object, what: str) -> InvalidTime:
    return InvalidTime(
        f"{what} {value!r} is not a duration; write 5d, 4h, 45m, 90s or 1 session, "
        f"or give a timedelta"
    )
