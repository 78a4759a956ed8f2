"""The types of arguments: a database, a point in time, a date, a duration, a list of names."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from mlflow_timescale.common import time
from mlflow_timescale.db.uri import DatabaseURI

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:  # generic in the stubs only, before click 8.4
    ParamType = click.ParamType


class URIType(ParamType):
    """A database URI, checked when the command line is read."""

    name = "URI"

    def convert(self, value: Any, param: Any, ctx: Any) -> DatabaseURI:
        try:
            return DatabaseURI.parse(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class Moment(ParamType):
    """A point in time with its time zone, such as 2024-01-12T21:00Z."""

    name = "TIME"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        try:
            return time.parse_time(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class Day(ParamType):
    """A date such as 2024-01-12."""

    name = "DATE"

    def convert(self, value: Any, param: Any, ctx: Any) -> date:
        try:
            return time.parse_day(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class When(ParamType):
    """A date such as 2024-01-12, or a point in time such as 2024-01-12T21:00Z."""

    name = "TIME"

    def convert(self, value: Any, param: Any, ctx: Any) -> date | datetime:
        is_date = isinstance(value, str) and len(value.strip()) == len("2024-01-12")
        try:
            return time.parse_day(value) if is_date else time.parse_time(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class Duration(ParamType):
    """A fixed length of time, such as 5d or 4h."""

    name = "DURATION"

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta:
        try:
            return time.fixed_duration(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class Age(ParamType):
    """A length of time, or of the sessions of a calendar: 5d, 4h or 3 sessions."""

    name = "AGE"

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta | time.SessionCount:
        try:
            return time.parse_duration(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


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
