"""Phase two of a reconciliation: what else a diagnosis needs of a feature that differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone

import numpy as np
from numpy.typing import NDArray

from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.common.micros import MISSING, Micros
from mlflow_timescale.common.time import from_micros, to_micros
from mlflow_timescale.db import Connection
from mlflow_timescale.features import cross_section, known

from .cells import Floats, SkewCells, same
from .comparing import Comparison, Sources, compare
from .hypotheses import SHIFTS
from .research import Research, Texts, of_store
from .served import ServedTable

__all__ = ["Context", "cells_of"]

REPLAY = 86_400_000_000  # µs: what is recorded later than this after its decision is a replay
AROUND = max(SHIFTS)


@dataclass(frozen=True)
class Context:
    """What the cells of all features share.

    `earlier` holds the sessions before the range, from which a fault may last.
    """

    conn: Connection
    calendar: TradingCalendar
    sources: Sources
    texts: Texts
    now: datetime
    earlier: Mapping[int, ServedTable]


def cells_of(
    context: Context,
    number: int,
    compared: Comparison,
    feature: str,
    known_now: Floats | None = None,
) -> SkewCells:
    """The cells of one feature, in the range and before, with all that may explain them.

    `known_now` is what is known today of the events of the range, where it has been read.
    """
    i = compared.features.index(feature)
    table, parts = compared.table, [compared]
    if number in context.earlier and len(context.earlier[number]):
        only = _only(context.earlier[number], feature)
        parts.insert(0, compare(context.conn, only, context.sources, context.texts, exact=False))
    served, expected, stored = (
        np.concatenate([getattr(part, name)[part.features.index(feature)] for part in parts])
        for name in ("served", "expected", "stored")
    )
    rows_of = [part.table for part in parts]
    sessions, entities, as_of = (
        np.concatenate([getattr(rows, name) for rows in rows_of])
        for name in ("sessions", "entities", "as_of")
    )
    days = _days(context.calendar, sessions.min(), sessions.max())
    names, column = np.unique(entities.astype(str), return_inverse=True)
    places = {day: place for place, day in enumerate(days)}
    row = np.array([places[day] for day in sessions], dtype=np.intp)
    is_other = isinstance(context.sources.of_feature(feature), Research)
    places_of = GridPlaces(days, names.tolist(), row, column.astype(np.intp), as_of)
    grid = _grid(context, table, feature, places_of, stored)
    padding = len(served) - len(table)
    others = {
        name: np.concatenate([np.full(padding, np.nan), compared.expected[j]])
        for j, name in enumerate(compared.features)
        if j != i
    }
    if known_now is None:
        known_now = _now(context, compared, i, compared.events[i])
    now = _padded(stored[:padding], known_now)
    written = _padded(stored[:padding], _written(context, compared, i))
    return SkewCells(
        days,
        names.tolist(),
        row,
        column.astype(np.intp),
        served,
        expected,
        grid,
        known_then=_where_changed(stored, now, expected) if is_other else None,
        written=_where_changed(written, stored, expected),
        now=_where_changed(now, stored, expected),
        others=others,
        versions=_versions(context, feature, table, padding),
        tolerance=context.sources.tolerance(feature, table),
    )


def _where_changed(values: Floats | None, other: Floats | None, right: Floats) -> Floats | None:
    """Values of the store at one moment where it has others at another; else what is right.

    A value that the store has at both, against another source, is not a matter of time: the store
    is wrong.
    """
    if values is None or other is None:
        return None
    return np.where(same(values, other, 0.0), right, values)


def _only(table: ServedTable, feature: str) -> ServedTable:
    """The same rows, and one feature."""
    j = table.column(feature)
    return ServedTable(
        {feature: table.features[feature]},
        table.source,
        table.reading,
        table.sessions,
        table.entities,
        table.as_of,
        table.recorded_at,
        table.values[:, [j]],
        table.absent[:, [j]],
        table.event[:, [j]],
        {(row, 0): value for (row, column), value in table.others.items() if column == j},
    )


def _days(calendar: TradingCalendar, first: date, last: date) -> list[date]:
    start = calendar.session_offset(first, -AROUND)
    return calendar.sessions_in_range(start, calendar.session_offset(last, AROUND))


@dataclass(frozen=True)
class GridPlaces:
    """S sessions, N entities, and the place in them and the moment of each of c served cells."""

    days: Sequence[date]
    names: Sequence[str]
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    as_of: Micros


def _grid(
    context: Context, table: ServedTable, feature: str, places: GridPlaces, stored: Floats
) -> Floats:
    """Research of every session and entity, at the hour at which decisions are made, shape (S, N).

    `stored` is what the store knew at the moments of the cells, (c,): these are not read again.
    """
    days, names, row, column = places.days, places.names, places.row, places.column
    closes = np.array([to_micros(context.calendar.session_close(day)) for day in days])
    usual = int(np.median(places.as_of - closes[row]))
    moments = np.repeat((closes + usual)[:, None], len(names), axis=1)
    moments[row, column] = places.as_of
    sessions = [day for day in days for _ in names]
    entities = list(names) * len(days)
    source = context.sources.of_feature(feature)
    if isinstance(source, Research):
        by_cell: Floats = source.values(
            sessions, entities, moments.reshape(-1), feature, context.texts
        )
        return by_cell.reshape(moments.shape)
    values = np.full(moments.shape, np.nan)
    values[row, column] = stored
    is_read = np.ones(moments.shape, dtype=bool)
    is_read[row, column] = False
    # What lies in the future is not known yet: the read would return the newest value.
    at = np.flatnonzero(is_read & (moments <= to_micros(context.now)))
    if len(at):
        read, _ = of_store(
            context.conn,
            [entities[place] for place in at.tolist()],
            moments.reshape(-1)[at],
            {feature: context.sources.version(feature, table.features[feature]) or 0},
            context.texts,
            reading=table.reading,
        )
        values.reshape(-1)[at] = read[0]
    return values


def _padded(before: Floats, values: Floats | None) -> Floats | None:
    return None if values is None else np.concatenate([before, values])


def _written(context: Context, compared: Comparison, i: int) -> Floats | None:
    """What the store held at the decisions of sessions that differ; elsewhere the stored value."""
    feature, table = compared.features[i], compared.table
    version = context.sources.version(feature, table.features[feature])
    if version is None:
        return None
    values: Floats = compared.stored[i].copy()
    last = from_micros(int(table.as_of.max()))
    is_replay = table.recorded_at - table.as_of > REPLAY
    moments = np.where(is_replay, table.recorded_at, table.as_of)
    if not known.written_later(context.conn, from_micros(int(moments.min())), last):
        return values
    for session in np.unique(table.sessions[compared.differs[i]]).tolist():
        at = np.flatnonzero(table.sessions == session)
        written_by = from_micros(int(moments[at].max()))
        if not known.written_later(context.conn, written_by, last):
            continue
        read, _ = of_store(
            context.conn,
            table.entities[at].tolist(),
            table.as_of[at],
            {feature: version},
            context.texts,
            reading=table.reading,
            written_by=written_by,
        )
        values[at] = read[0]
    return values


def _now(context: Context, compared: Comparison, i: int, event: Micros) -> Floats | None:
    """What is known today of the events that were known at the decisions, shape (n,)."""
    feature, table = compared.features[i], compared.table
    values: Floats | None = current(context.conn, table, {feature: event}, context.now).get(feature)
    return values


def current(
    conn: Connection, table: ServedTable, events: Mapping[str, Micros], now: datetime
) -> dict[str, Floats]:
    """What is known at `now` of some events of each feature, shape (n,); NaN where nothing is."""
    with_event = [moments[moments != MISSING] for moments in events.values()]
    all_events = np.concatenate(with_event) if with_event else np.empty(0, dtype=np.int64)
    if not len(all_events):
        return {}
    period = cross_section.Period(
        from_micros(int(all_events.min()) - 1),
        from_micros(int(all_events.max())),
        now.astimezone(timezone.utc),
    )
    names, codes = np.unique(table.entities.astype(str), return_inverse=True)
    numbers = {str(name): number for number, name in enumerate(names)}
    result: dict[str, Floats] = {}
    with conn.transaction():
        for points in cross_section.points(conn, period, list(events), numbers, others=False):
            served = table.features[points.feature]
            if served in (0, points.version):
                values = known.newest(points, codes, events[points.feature])
                earlier = result.get(points.feature)
                result[points.feature] = (
                    values if earlier is None else np.where(np.isnan(values), earlier, values)
                )
    return result


def _versions(
    context: Context, feature: str, table: ServedTable, padding: int
) -> dict[str, Floats]:
    """The values of the other versions of a feature, at the same decisions."""
    source = context.sources.of_feature(feature)
    compared_with = source if isinstance(source, int) else table.features[feature]
    if isinstance(source, Research):
        return {}
    versions = {}
    stored = context.sources.versions.get(feature, ())
    for version in stored if len(stored) > 1 else ():
        if version != compared_with:
            read, _ = of_store(
                context.conn,
                table.entities.tolist(),
                table.as_of,
                {feature: version},
                context.texts,
                reading=table.reading,
            )
            versions[str(version)] = np.concatenate([np.full(padding, np.nan), read[0]])
    return versions
