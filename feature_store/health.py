"""Health: is every feature fresh, complete and plausible, and how late does it come?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np

from mlflow_timescale import db
from mlflow_timescale.common.calendar_overrides import read_calendar
from mlflow_timescale.common.calendars import EVERY_DAY, TradingCalendar
from mlflow_timescale.common.micros import Micros
from mlflow_timescale.common.rows import Rows
from mlflow_timescale.common.text import check_text
from mlflow_timescale.common.time import (
    Duration,
    InvalidTime,
    SessionCount,
    from_micros,
    parse_duration,
    to_micros,
)
from mlflow_timescale.db import Database
from mlflow_timescale.db.arrays import Int4Array
from mlflow_timescale.db.rows import mappings, scalar

from .catalogue import universes
from .errors import InvalidValue, unknown_feature

_queries = db.load("feature_health")
_features = db.load("features")
_EVERY_SESSION = timedelta(days=2)  # what may be older is not expected on every session


@dataclass(frozen=True)
class Freshness:
    """The newest value of one feature of one entity. Without a value, times and age are None."""

    entity_key: str
    feature_name: str
    feature_version: int
    event_time: datetime | None
    ingest_time: datetime | None
    age: timedelta | None
    max_staleness: timedelta | None

    @property
    def is_stale(self) -> bool:
        """Whether there must be a newer value."""
        return self.max_staleness is not None and (
            self.age is None or self.age > self.max_staleness
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: times in ISO 8601, durations in seconds."""
        return {**_plain(asdict(self)), "is_stale": self.is_stale}


@dataclass(frozen=True)
class Gap:
    """The sessions on which one feature of one entity has no value."""

    entity_key: str
    feature_name: str
    feature_version: int
    sessions: list[date]


@dataclass(frozen=True)
class SessionStatistics:
    """The values of one feature on one session: n of them, of which `undefined` are NaN.

    mean, sd (of the sample), min and max leave NaN out; None where nothing is left.
    """

    feature_name: str
    feature_version: int
    session: date
    entities: int
    n: int
    undefined: int
    structures: int
    mean: float | None
    sd: float | None
    min: float | None
    max: float | None


@dataclass(frozen=True)
class WriteLag:
    """Seconds from event to first value, as quantiles; `assumed` is the share of assumed lags."""

    feature_name: str
    feature_version: int
    n: int
    assumed: float
    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None


@dataclass(frozen=True)
class NeverWritten:
    """A feature that is defined and has no value at all."""

    feature_name: str
    feature_version: int
    view: str
    owner: str
    max_staleness: timedelta | None


@dataclass(frozen=True)
class OutsideEntity:
    """An entity that is not part of its universe at the report's time, and is not examined.

    `valid_to` is when it ended; None for one that has not begun, or is no member at all.
    """

    entity_key: str
    valid_to: datetime | None


@dataclass(frozen=True)
class Health:
    """The whole report. Ages count only session days where the view or the call has a calendar."""

    as_of: datetime
    calendar: str | None
    sessions: list[date]
    freshness: list[Freshness]
    gaps: list[Gap]
    statistics: list[SessionStatistics]
    write_lag: list[WriteLag]
    never_written: list[NeverWritten]
    outside: list[OutsideEntity] = field(default_factory=list)

    def __repr__(self) -> str:
        return (
            f"<Health as of {self.as_of.isoformat()}: {len(self.freshness)} series, "
            f"{len(self.stale)} stale, {len(self.gaps)} with gaps, "
            f"{len(self.never_written)} never written; .to_frame() shows them>"
        )

    def to_frame(self, part: str = "freshness", output: str = "pandas") -> Any:
        """One part of the report as a frame, with a row for each entry.

        `part` is "freshness", "gaps", "statistics", "write_lag" or "never_written"; ages are
        durations, write lags are in seconds, statistics in the unit of the feature.
        """
        return Rows(getattr(self, part)).to_frame(output)

    @property
    def stale(self) -> list[Freshness]:
        """What is older than its definition allows."""
        return [entry for entry in self.freshness if entry.is_stale]

    @property
    def is_stale(self) -> bool:
        """Whether anything is stale, or defined with a maximum staleness and never written."""
        return bool(self.stale) or any(entry.max_staleness for entry in self.never_written)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: times in ISO 8601, durations in seconds."""
        plain: dict[str, Any] = _plain(asdict(self))
        plain["freshness"] = [entry.to_dict() for entry in self.freshness]
        return plain | {"is_stale": self.is_stale}


def check_health(
    database: Database,
    features: Sequence[str] | None = None,
    entities: Sequence[str] | None = None,
    *,
    as_of: datetime | None = None,
    calendar: str | None = None,
    zone: str | None = None,
    sessions: int = 20,
    max_staleness: str | Duration | None = None,
    universe: str | None = None,
) -> Health:
    """Look at features as they were known at `as_of` (default: now).

    `calendar` is an exchange's MIC, "24/7" or "weekdays": weekends, holidays and the closed days
    that `override_session` recorded then do not age a value, and every feature is expected on
    every one of the last `sessions` complete sessions, unless its definition lets it be two days
    old or older; those, and all without a calendar, are expected on the days on which any entity
    has them. `zone` is where days begin, if not at the exchange:
    "UTC" for daily data that is stamped at midnight in UTC. `max_staleness` is for features
    without a definition: a timedelta or a text such as "5d"; with a calendar also "3 sessions".
    Entities whose recorded intervals have ended are left out and listed in `outside`; with
    `universe` only the members of that universe are examined.

    Raises UnknownFeature for a name that is neither written nor defined, UnknownCalendar and
    InvalidTime.
    """
    check_text({"features": features, "entities": entities}, "health")
    limit = None if max_staleness is None else _limit(max_staleness, calendar)
    if sessions < 1:
        raise InvalidValue(f"sessions is {sessions}; look at one at least")
    with database.transaction() as conn:
        now = as_of or scalar(conn, _queries.clock)
        to_micros(now, "as_of")
        wanted = {"features": _list(features), "entities": _list(entities), "as_of": now}
        rows = mappings(conn, _queries.freshness, wanted, binary=True)
        rows, outside = _members(conn, rows, now, universe)
        never = [
            NeverWritten(**row)
            for row in mappings(conn, _queries.never_written, wanted, binary=True)
        ]
        _check_names(conn, features, never)
        trading = read_calendar(conn, calendar or EVERY_DAY)
        last = trading.last_sessions(sessions, now)
        freshness = _freshness(conn, rows, trading, now, limit, zone)
        window = _window(rows, trading, last, now, zone)
        statistics = [
            SessionStatistics(**r) for r in mappings(conn, _queries.sessions, window, binary=True)
        ]
        lags = [WriteLag(**row) for row in mappings(conn, _queries.write_lag, window, binary=True)]
        expected = _expected(freshness, statistics, calendar, last)
        gaps = [Gap(**row) for row in mappings(conn, _queries.gaps, window | expected, binary=True)]
    return Health(now, calendar, last, freshness, gaps, statistics, lags, never, outside)


def _members(
    conn: db.Connection, rows: list[dict[str, Any]], now: datetime, universe: str | None
) -> tuple[list[dict[str, Any]], list[OutsideEntity]]:
    """The rows of entities that are part of the universe now, and the other entities."""
    known = universes.everything(conn) if universe is None else universes.find(conn, universe)
    moment = np.array([to_micros(now)])
    gone: dict[str, OutsideEntity] = {}
    for entity in {row["entity_key"] for row in rows}:
        is_listed = universe is not None or entity in known.intervals
        if is_listed and not known.contains(entity, moment)[0]:
            ends = [part.end for part in known.intervals.get(entity, []) if part.end <= moment[0]]
            gone[entity] = OutsideEntity(entity, from_micros(max(ends)) if ends else None)
    kept = [row for row in rows if row["entity_key"] not in gone]
    return kept, [gone[entity] for entity in sorted(gone)]


def newest(
    conn: db.Connection,
    features: Sequence[str] | None,
    entities: Sequence[str],
    calendar: TradingCalendar,
    *,
    as_of: datetime,
    max_staleness: timedelta,
) -> list[Freshness]:
    """The newest value of each feature that any of some entities has: which feeds have stopped?

    Only the calendar's session days age a value. `max_staleness` is for features without a
    definition. A feature that is defined and was never written, and one of `features` that none of
    the entities has, come without an entity ("") and without a time.
    """
    wanted = {"features": _list(features), "entities": _list(entities), "as_of": as_of}
    rows = mappings(conn, _queries.freshness, wanted, binary=True)
    found: dict[str, Freshness] = {}
    for entry in _freshness(conn, rows, calendar, as_of, max_staleness):
        best = found.get(entry.feature_name)
        if best is None or (entry.age is not None and (best.age is None or entry.age < best.age)):
            found[entry.feature_name] = entry
    for row in mappings(conn, _queries.never_written, wanted, binary=True):
        found[row["feature_name"]] = _without(row["feature_name"], row["max_staleness"], row)
    for name in set(features or ()) - set(found):
        found[name] = _without(name, max_staleness, {})
    return [found[name] for name in sorted(found)]


def _limit(max_staleness: str | Duration, calendar: str | None) -> timedelta:
    """The limit by a clock that runs on session days only: a session is 24 hours of it."""
    limit = parse_duration(max_staleness, "max_staleness")
    if not isinstance(limit, SessionCount):
        return limit
    if calendar is None:
        raise InvalidTime(f"max_staleness is {limit}, which needs a calendar such as XNYS")
    return timedelta(days=limit.count)


def _without(name: str, allowed: timedelta | None, row: dict[str, Any]) -> Freshness:
    return Freshness("", name, row.get("feature_version", 1), None, None, None, allowed)


def _freshness(
    conn: db.Connection,
    rows: list[dict[str, Any]],
    calendar: TradingCalendar,
    now: datetime,
    default: timedelta | None,
    zone: str | None = None,
) -> list[Freshness]:
    ages = _ages(conn, rows, calendar, now, zone)
    return [
        Freshness(
            row["entity_key"],
            row["feature_name"],
            row["feature_version"],
            row["event_time"],
            row["ingest_time"],
            None if row["event_time"] is None else timedelta(microseconds=int(age)),
            row["max_staleness"] if row["view"] is not None else default,
        )
        for row, age in zip(rows, ages, strict=True)
    ]


def _ages(
    conn: db.Connection,
    rows: list[dict[str, Any]],
    calendar: TradingCalendar,
    now: datetime,
    zone: str | None,
) -> Micros:
    """Ages by the calendar of each feature's view; where it has none, by that of the call."""
    events = np.array([to_micros(row["event_time"] or now) for row in rows], dtype=np.int64)
    ages = calendar.age(events, now, zone)
    for name in {row["calendar"] for row in rows} - {None}:
        own = np.array([row["calendar"] == name for row in rows])
        ages[own] = read_calendar(conn, name).age(events[own], now, zone)
    return ages


def _window(
    rows: list[dict[str, Any]],
    calendar: TradingCalendar,
    last: list[date],
    now: datetime,
    zone: str | None,
) -> dict[str, Any]:
    return {
        "series": Int4Array(np.array([row["series_id"] for row in rows], dtype=np.int32)),
        "zone": zone or str(calendar.tz),
        "first": calendar.day_start(last[0], zone) if last else now,
        "as_of": now,
    }


def _expected(
    freshness: list[Freshness],
    statistics: list[SessionStatistics],
    calendar: str | None,
    sessions: list[date],
) -> dict[str, Any]:
    """Which features are expected on which sessions, as two parallel lists."""
    regular = {
        entry.feature_name
        for entry in freshness
        if calendar and (entry.max_staleness is None or entry.max_staleness < _EVERY_SESSION)
    }
    pairs = {(name, day) for name in regular for day in sessions}
    pairs |= {
        (entry.feature_name, entry.session)
        for entry in statistics
        if entry.feature_name not in regular and entry.session in sessions
    }
    found = sorted(pairs)
    return {"features": [name for name, _ in found], "sessions": [day for _, day in found]}


def _check_names(
    conn: db.Connection, features: Sequence[str] | None, never: list[NeverWritten]
) -> None:
    known = {entry.feature_name for entry in never}
    known |= {name for name, _ in conn.execute(_features.feature_names)}
    missing = sorted(set(features or []) - known)
    if missing:
        raise unknown_feature(missing, known)


def _list(names: Iterable[str] | None) -> list[str] | None:
    return None if names is None else list(names)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.isoformat() if isinstance(value, (date, datetime)) else value
