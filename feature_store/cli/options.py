"""What the feature commands share: their types of arguments, and how they print."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from mlflow_timescale.cli.options import console
from mlflow_timescale.common.time import to_micros

from ..errors import FeatureError

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:  # generic in the stubs only, before click 8.4
    _ParamType = click.ParamType

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(d|h|m|s)\Z")
_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


class Moment(_ParamType):
    """A time with an offset."""

    name = "TIME"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        try:
            moment = datetime.fromisoformat(re.sub(r"[zZ]\Z", "+00:00", value))
            to_micros(moment)
        except ValueError as exc:
            self.fail(f"{value!r}: {exc}", param, ctx)
        return moment


class Duration(_ParamType):
    """A fixed length of time."""

    name = "DURATION"

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta:
        found = _DURATION.match(value)
        if found is None:
            self.fail(f"{value!r} is not a duration: write 5d, 4h, 30m or 90s", param, ctx)
        return timedelta(**{_UNITS[found[2]]: float(found[1])})


class Lag(Duration):
    """A duration, or a rule of a trading calendar."""

    name = "LAG"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return super().convert(value, param, ctx) if _DURATION.match(value) else value


class Version(_ParamType):
    """A version of every feature, or of one: 2, or rsi_14=2."""

    name = "VERSION"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str | None, int | str]:
        name, _, version = value.rpartition("=")
        if version != "newest" and not version.isdigit():
            self.fail(f"{value!r} is not a version: write 2, newest, or rsi_14=2", param, ctx)
        return name or None, version if version == "newest" else int(version)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
as_of_option = click.option("--as-of", type=Moment(), help="As known then; default: now.")
max_age_option = click.option("--max-age", type=Duration(), help="Leave out older values: 5d, 4h.")
version_option = click.option(
    "--feature-version",
    type=Version(),
    multiple=True,
    help="2, newest, or rsi_14=2 for one feature; may be repeated. Default: the newest then known.",
)


def versions(given: tuple[tuple[str | None, int | str], ...]) -> Any:
    """What `feature_version` takes, from the options that were given."""
    if not given:
        return None
    if given[0][0] is None:
        if len(given) > 1:
            raise FeatureError("give one version for all features, or name=version for each")
        return given[0][1]
    return {str(name): version for name, version in given}


def show(columns: Mapping[str, Any], as_json: bool, title: str = "") -> None:
    """Print columns as a table without its empty columns, or as JSON: one object a row."""
    names = list(columns)
    rows = list(zip(*(_listed(columns[name]) for name in names), strict=True))
    if as_json:
        records = [dict(zip(names, map(_jsonable, row), strict=True)) for row in rows]
        click.echo(json.dumps(records, indent=2))
        return
    table = Table(title=title or None, title_justify="left")
    texts = [[_cell(row[i]) for row in rows] for i in range(len(names))]
    shown = [i for i, column in enumerate(texts) if not rows or any(column)]
    for i in shown:
        table.add_column(names[i], overflow="fold")
    for row in zip(*(texts[i] for i in shown), strict=True):
        table.add_row(*row)
    console().print(table)


def _listed(column: Any) -> list[Any]:
    import numpy as np
    import pandas as pd

    if isinstance(column, (pd.Series, np.ndarray)):
        return list(column.tolist())
    return list(column)


def _jsonable(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN"
    if isinstance(value, (int, float, str, list, dict)) or value is None:
        return value
    return _text(value) or None


def _cell(value: Any) -> str:
    """As people read it: a time in UTC without the digits that are zero."""
    if isinstance(value, datetime) and type(value).__name__ != "NaTType":
        text = value.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")
        return text.removesuffix(".000000").removesuffix(":00") + "Z"
    return _text(value)


def _text(value: Any) -> str:
    if value is None or type(value).__name__ in ("NaTType", "NAType"):
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    return f"{value:.6g}" if isinstance(value, float) else str(value)
