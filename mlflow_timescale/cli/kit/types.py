"""The types of arguments: a database, a point in time, a date, a duration, a list of names."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import click

from mlflow_timescale.common import time
from mlflow_timescale.db.uri import DatabaseURI

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:  # generic in the stubs only, before click 8.4
    ParamType = click.ParamType


class _Parsed(ParamType):
    """A type whose values `parse` checks and converts; its ValueError is an error of usage."""

    parse: Callable[[Any], Any]

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return self.parse(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class URIType(_Parsed):
    """A database URI, checked when the command line is read."""

    name = "URI"
    parse = staticmethod(DatabaseURI.parse)


class Moment(_Parsed):
    """A point in time with its time zone, such as 2024-01-12T21:00Z."""

    name = "TIME"
    parse = staticmethod(time.parse_time)


class Day(_Parsed):
    """A date such as 2024-01-12."""

    name = "DATE"
    parse = staticmethod(time.parse_day)


class When(_Parsed):
    """A date such as 2024-01-12, or a point in time such as 2024-01-12T21:00Z."""

    name = "TIME"

    @staticmethod
    def parse(value: Any) -> date | datetime:
        is_date = isinstance(value, str) and len(value.strip()) == len("2024-01-12")
        return time.parse_day(value) if is_date else time.parse_time(value)


class Duration(_Parsed):
    """A fixed length of time, such as 5d or 4h."""

    name = "DURATION"
    parse = staticmethod(time.fixed_duration)


class Age(_Parsed):
    """A length of time, or a number of sessions of a calendar: 5d, 4h or 3 sessions."""

    name = "AGE"
    parse = staticmethod(time.parse_duration)


class Names(ParamType):
    """Names with commas between."""

    name = "NAMES"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in value.split(","))
        if not all(names):
            self.fail(f"{value!r} holds an empty name; write a,b,c", param, ctx)
        return names
