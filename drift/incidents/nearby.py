"""Reads what changed near a session: promotions, revisions, gaps, definitions, code, packages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from mlflow_timescale.common.errors import first_of
from mlflow_timescale.db import Connection, load
from mlflow_timescale.db.rows import mappings

from ..alerts import lifecycle
from ..inputs import feature_values
from ..results.references import References
from ..serving import memory
from ..skew.sentences import counted
from ..strategies import Strategy
from . import timeline
from .onset import NearbyChange
from .replay import changed_packages
from .versions import DIFFERS, NO_VERSION, AliasMove, ServedVersions

__all__ = ["Nearby", "changed_origins", "read_changes"]

_queries = load("incidents")
LISTED = 5
# Alerts on inputs that were not there.
GAPS = (
    "stopped",
    "n_features",
    "n_signals",
    "n_returns",
    "signals_missing",
    "returns_missing",
    "few_returns",
    "few_names",
)


@dataclass(frozen=True)
class Nearby:
    """What changed, in order, and why of some kinds it is not known whether they did."""

    changes: tuple[NearbyChange, ...]
    unknown: Mapping[str, str]


@dataclass(frozen=True)
class _Period:
    """Sessions from `start` to `end`, and their times."""

    start: date
    end: date
    opens: datetime
    closes: datetime

    def row(self, **more: Any) -> dict[str, Any]:
        return {"start": self.opens, "end": self.closes, **more}


def read_changes(
    conn: Connection,
    strategy: Strategy,
    span: tuple[date, date],
    features: Sequence[str],
    last: date,
) -> Nearby:
    """What changed from one session to another.

    Parameters
    ----------
    span
        The sessions in which a change began.
    features
        The inputs of the strategy.
    last
        The session up to which what began is followed.
    """
    start, end = span
    calendar = strategy.calendar
    closes = calendar.session_open(calendar.next_session(end))
    period = _Period(start, end, calendar.session_open(start), closes)
    before = calendar.previous_session(start)
    served = timeline.read_versions(conn, strategy, before, last)
    row = {"strategy_id": strategy.strategy_id, "start": before, "end": end}
    origins = mappings(conn, _queries.served_origins, row)
    stored = set(feature_values.names(conn)) if feature_values.exist(conn) else set()
    watched = [name for name in features if name in stored]
    changes = [
        *_versions(served, period),
        *changed_origins(origins),
        *_gaps(conn, strategy, period),
        *_references(conn, strategy, period),
        *_schema(conn, period),
        *(_features(conn, period, watched) if watched else ()),
    ]
    unknown = _unknown(served, bool(origins), bool(watched), memory.removed_before(conn), start)
    return Nearby(tuple(sorted(changes, key=lambda change: change.session)), unknown)


def _unknown(
    served: ServedVersions,
    has_origins: bool,
    has_features: bool,
    removed_before: date | None,
    start: date,
) -> dict[str, str]:
    """The kinds of change of which nothing is recorded, and why."""
    unknown: dict[str, str] = {}
    kinds: tuple[str, ...] = ("wrong version", "promotion", "served version")
    if all(part.verdict == NO_VERSION for part in served.intervals):
        unknown |= dict.fromkeys(kinds, "the predictions name no version")
    elif not any(part.alias_version for part in served.intervals):
        unknown |= dict.fromkeys(kinds[:2], f"the registry has no history of {served.alias}")
    if not has_origins:
        is_removed = removed_before is not None and start < removed_before
        reason = "retention removed it" if is_removed else "`Serving` recorded nothing"
        unknown |= dict.fromkeys(("code", "packages"), reason)
    if not has_features:
        kinds = ("feature version", "definition", "revision")
        unknown |= dict.fromkeys(kinds, "no feature of the store is watched")
    return unknown


def _versions(served: ServedVersions, period: _Period) -> Iterator[NearbyChange]:
    for move in served.moves:
        if period.opens <= move.since < period.closes:
            by = f", by {move.by}" if move.by else ""
            reason = f": {move.reason}" if move.reason else ""
            text = f"{_alias(move)} became {move.version}{by}{reason}"
            yield NearbyChange("promotion", move.since.date(), text, _alias(move))
        if move.removed_by and move.until and period.opens <= move.until < period.closes:
            text = f"{_alias(move)} was removed, by {move.removed_by}"
            yield NearbyChange("promotion", move.until.date(), text, _alias(move))
    before = ""
    for part in served.intervals:
        is_near = period.start <= part.first <= period.end
        # One that began earlier still matters while it lasts.
        if part.verdict == DIFFERS and part.first <= period.end and part.last >= period.start:
            days = counted(part.sessions, "session")
            text = f"served {part.served}, {served.alias} was {part.alias_version}, {days}"
            yield NearbyChange("wrong version", part.first, text, part.served)
        elif before and part.served != before and is_near:
            text = f"served {part.served or 'without a name'}, before {before}"
            yield NearbyChange("served version", part.first, text, part.served)
        before = part.served or before


def _alias(move: AliasMove) -> str:
    return f"{move.model_name}@{move.alias}"


def changed_origins(rows: Sequence[Mapping[str, Any]]) -> Iterator[NearbyChange]:
    """What differs between the last prediction of a model and the one before, in order.

    Parameters
    ----------
    rows
        With session, model_name, model_version, checksum, code_version, environment, feature_names
        and feature_versions.
    """
    last: dict[str, Mapping[str, Any]] = {}
    versions: dict[str, int] = {}
    for row in rows:
        session, model = row["session"], row["model_name"]
        before = last.get(model)
        if before is not None:
            yield from _differences(session, before, row)
        last[model] = row
        new = dict(zip(row["feature_names"], row["feature_versions"], strict=True))
        changed = [n for n, v in new.items() if v and versions.get(n, v) != v]
        if changed:
            texts = [f"{name} {versions[name]} -> {new[name]}" for name in changed]
            yield NearbyChange("feature version", session, f"served {first_of(texts, LISTED)}")
        versions |= {name: version for name, version in new.items() if version}


def _differences(
    session: date, before: Mapping[str, Any], row: Mapping[str, Any]
) -> Iterator[NearbyChange]:
    old, new = before["code_version"], row["code_version"]
    if old and new and old != new:
        yield NearbyChange("code", session, f"serving code {new[:12]}, before {old[:12]}")
    changed = changed_packages(before["environment"] or {}, row["environment"] or {})
    if changed:
        texts = [f"{name} {was} -> {now}" for name, (was, now) in sorted(changed.items())]
        yield NearbyChange("packages", session, first_of(texts, LISTED))
    same_version = before["model_version"] == row["model_version"]
    if same_version and before["checksum"] and row["checksum"] not in (None, before["checksum"]):
        text = f"other files of {row['model_name']}/{row['model_version']}"
        yield NearbyChange("served version", session, text)


def _gaps(conn: Connection, strategy: Strategy, period: _Period) -> Iterator[NearbyChange]:
    for alert in lifecycle.find(conn, strategy.strategy_id, since=period.start):
        is_near = period.start <= alert.session <= period.end
        if alert.metric in GAPS and is_near and alert.note != lifecycle.REVISED_AWAY:
            until = "" if alert.resolved_session is None else f", until {alert.last_session}"
            note = f": {alert.note}" if alert.note else ""
            yield NearbyChange("gap", alert.session, f"{alert.rule}{until}{note}")


def _references(conn: Connection, strategy: Strategy, period: _Period) -> Iterator[NearbyChange]:
    for window in References(conn, strategy.strategy_id).accepted:
        if period.opens <= window.accepted_at < period.closes:
            span = f"{window.window_start} to {window.window_end}"
            text = f"reference {window.version} accepted: {span}, {window.reason}"
            yield NearbyChange("reference", window.accepted_at.date(), text)


def _schema(conn: Connection, period: _Period) -> Iterator[NearbyChange]:
    for day, count, name in conn.execute(_queries.schema_changes, period.row()):
        text = f"{counted(count, 'migration')} of the database's schema, the last is {name}"
        yield NearbyChange("schema", day, text)


def _features(conn: Connection, period: _Period, features: Sequence[str]) -> Iterator[NearbyChange]:
    row = period.row(features=list(features))
    yield from _revisions(mappings(conn, _queries.revised_features, row))
    for name, version, written, producer in conn.execute(_queries.new_feature_versions, row):
        by = f", by {producer}" if producer else ""
        text = f"{name} version {version} first written{by}"
        yield NearbyChange("feature version", written.date(), text)
    for view, version, at, who, names in conn.execute(_queries.new_definitions, row):
        text = f"view {view}/{version} registered by {who}: {first_of(names, LISTED)}"
        yield NearbyChange("definition", at.date(), text)


def _revisions(rows: Sequence[Mapping[str, Any]]) -> Iterator[NearbyChange]:
    """One change for each day and producer; one for a producer who revises on many days."""
    days_of: dict[str, set[date]] = {}
    for row in rows:
        days_of.setdefault(row["producer"] or "", set()).add(row["known_at"].date())
    groups: dict[tuple[str, date], list[Mapping[str, Any]]] = {}
    for row in rows:
        producer, day = row["producer"] or "", row["known_at"].date()
        routine = len(days_of[producer]) > LISTED
        groups.setdefault((producer, min(days_of[producer]) if routine else day), []).append(row)
    for (producer, day), group in groups.items():
        yield NearbyChange("revision", day, _revision(producer, group))


def _revision(producer: str, rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(row["feature_name"] for row in rows))
    cells = sum(row["cells"] for row in rows)
    first = min(row["first_event"] for row in rows).date()
    last = max(row["last_event"] for row in rows).date()
    days = len({row["known_at"].date() for row in rows})
    span = f"{first}" if first == last else f"{first} to {last}"
    by = f" by {producer}" if producer else ""
    often = f" on {days} days" if days > 1 else ""
    values = counted(cells, "value")
    return f"{values} of {first_of(names, LISTED)} revised{by}{often}, events {span}"
