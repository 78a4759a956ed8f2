"""What was known in many cells, as arrays: for readers that compare values cell by cell.

A cell is an entity at a moment, and a feature. The connection must be in autocommit mode: all cells
of a call are of one snapshot.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_timescale import db
from mlflow_timescale.common.micros import MISSING, Micros
from mlflow_timescale.common.time import Duration, SessionCount, from_micros, parse_duration

from . import cross_section
from .catalogue import definitions
from .catalogue.definitions import FeatureView
from .read import revisions
from .read.ages import AgeLimit
from .read.point_in_time import SILENT, read_cells
from .read.query import OF_VIEW, PointInTimeQuery
from .values import stored

_queries = db.load("features")
_TIMEDELTA = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d+)?)")
RECENT = timedelta(days=6)  # before the first moment, in which most newest points lie


class KnownCells(NamedTuple):
    """The values of F features in n cells, shape (F, n), and their event times in µs.

    A value is NaN, and an event MISSING, where nothing was known. `texts` holds the JSON text of
    values that are no numbers, by feature and cell; `now`, by feature, shape (n,), what is known of
    the same events at a later moment, of features for which it was read in passing.
    """

    values: NDArray[np.float64]
    events: Micros
    texts: dict[tuple[int, int], str]
    now: Mapping[str, NDArray[np.float64]] = {}


class Revision(NamedTuple):
    """Who changed a value, and when."""

    known_at: datetime
    producer: str | None
    run_id: str | None


def versions(conn: db.Connection) -> dict[str, list[int]]:
    """The versions of every feature that has ever been written, by name."""
    by_name: dict[str, list[int]] = {}
    for name, version in conn.execute(_queries.feature_names):
        by_name.setdefault(name, []).append(version)
    return by_name


def cells(
    conn: db.Connection,
    entities: Sequence[str],
    as_of: Micros,
    features: Mapping[str, int],
    *,
    written_by: datetime | None = None,
    reading: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> KnownCells:
    """What was known of `entities` at `as_of`, shapes (n,).

    Parameters
    ----------
    features
        The version of each feature; 0 for the newest that was known.
    written_by
        As in `FeatureStore.training_frame`.
    reading
        The limits of the read, as texts: `max_age`, `max_staleness` (none if it is left out), their
        `calendar`, and the `views` that were read ("momentum/2, quality/1").
    now
        Later than all of `as_of`: fills `now` of the result where it costs no further read.
    """
    stored.register(conn)
    if len(as_of) and written_by is None and not _limits(reading):
        return _recent_cells(conn, entities, as_of, features, now)
    return _exact_cells(conn, entities, as_of, features, written_by, reading)


def written_later(conn: db.Connection, written_by: datetime, as_of: datetime) -> bool:
    """Whether anything was written after a moment that claims to have been known at `as_of`."""
    row: Any = conn.execute(
        _queries.written_late, {"written_by": written_by, "last": as_of}
    ).fetchone()
    return bool(row[0])


def _recent_cells(
    conn: db.Connection,
    entities: Sequence[str],
    as_of: Micros,
    features: Mapping[str, int],
    now: datetime | None,
) -> KnownCells:
    """The winners among the points of the last days, in one pass; then the cells without one.

    A series at a time would take a round of the interpreter for every entity and feature.
    """
    names, codes = np.unique(np.asarray(entities, dtype=str), return_inverse=True)
    last = from_micros(int(as_of.max()))
    period = cross_section.Period(from_micros(int(as_of.min())) - RECENT, last, now or last)
    numbers = {str(name): number for number, name in enumerate(names)}
    shape = (len(features), len(as_of))
    later: dict[str, NDArray[np.float64]] = {}
    known = KnownCells(np.full(shape, np.nan), np.full(shape, MISSING, dtype=np.int64), {}, later)
    several = {name for name, stored in versions(conn).items() if len(stored) > 1}
    places = {name: i for i, name in enumerate(features)}
    with conn.transaction():
        for points in cross_section.points(conn, period, list(features), numbers, others=False):
            name, version = points.feature, features[points.feature]
            is_read = version == points.version if version else name not in several
            if is_read and points.texts is None:
                _enter(known, places[name], points, codes, as_of)
                if now is not None and (known.events[places[name]] != MISSING).all():
                    later[name] = newest(points, codes, known.events[places[name]])
    without = known.events == MISSING
    missing = {name: v for name, v in features.items() if without[places[name]].any()}
    if missing:
        rows = np.flatnonzero(without.any(axis=0))
        names_of_rows = [entities[row] for row in rows.tolist()]
        rest = _exact_cells(conn, names_of_rows, as_of[rows], missing, None, None)
        for j, name in enumerate(missing):
            known.values[places[name], rows] = rest.values[j]
            known.events[places[name], rows] = rest.events[j]
        known.texts.update(
            {(places[list(missing)[j]], int(rows[cell])): t for (j, cell), t in rest.texts.items()}
        )
    return known


def _enter(
    known: KnownCells,
    i: int,
    points: cross_section.FeaturePoints,
    codes: NDArray[np.intp],
    as_of: Micros,
) -> None:
    """Enter the newest known point of each cell of one feature: a search on the strict frontier.

    The keys increase by entity, then by the moment at which a point was known. A point that is not
    known before a later one of its entity cannot win; keys of later entities are larger anyway.
    """
    moments, rank = np.unique(
        np.concatenate([np.maximum(points.events, points.ingests), as_of]), return_inverse=True
    )
    keys = points.entities * len(moments) + rank[: len(points.events)]
    later = np.append(np.minimum.accumulate(keys[::-1])[::-1][1:], np.iinfo(np.int64).max)
    frontier = np.flatnonzero(keys < later)
    wanted = codes * len(moments) + rank[len(points.events) :]
    at = frontier[np.maximum(np.searchsorted(keys[frontier], wanted, "right") - 1, 0)]
    is_known = (points.entities[at] == codes) & (keys[at] <= wanted)
    known.values[i, is_known] = points.values[at[is_known]]
    known.events[i, is_known] = points.events[at[is_known]]


def newest(
    points: cross_section.FeaturePoints, entities: NDArray[np.intp], events: Micros
) -> NDArray[np.float64]:
    """The newest value of each cell's event among the points of a feature; NaN for none, or a text.

    `entities` are numbers as in the points, `events` microseconds or MISSING; both of shape (n,).
    """
    distinct, rank = np.unique(points.events, return_inverse=True)
    keys = points.entities * len(distinct) + rank  # sorted: points are in order
    at = np.searchsorted(distinct, events)
    is_event = (at < len(distinct)) & (events != MISSING)
    is_event &= distinct[np.minimum(at, len(distinct) - 1)] == events
    wanted = entities * len(distinct) + at
    last = np.searchsorted(keys, wanted, "right") - 1
    is_there = is_event & (last >= 0)
    is_there &= keys[np.maximum(last, 0)] == wanted
    values = np.where(is_there, points.values[np.maximum(last, 0)], np.nan)
    return np.where(np.isneginf(values), np.nan, values)


def exact_cells(
    conn: db.Connection,
    entities: Sequence[str],
    as_of: Micros,
    features: Mapping[str, int],
    **options: Any,
) -> KnownCells:
    """As `cells`, by the plans of a training set: a value known long before its event counts too.

    Slower for many entities.
    """
    stored.register(conn)
    return _exact_cells(
        conn, entities, as_of, features, options.get("written_by"), options.get("reading")
    )


def _exact_cells(
    conn: db.Connection,
    entities: Sequence[str],
    as_of: Micros,
    features: Mapping[str, int],
    written_by: datetime | None,
    reading: Mapping[str, str] | None,
) -> KnownCells:
    spine_frame = {
        "entity_key": pa.array(entities, type=pa.string()),
        "as_of": pa.array(as_of, type=pa.timestamp("us", "UTC")),
    }
    query = PointInTimeQuery(
        list(features),
        feature_version={name: version or "newest" for name, version in features.items()},
        written_by=written_by,
        recorded=_age_limits(conn, list(features), reading),
    )
    names = query.selection.names
    read, _ = read_cells(conn, query.spine(pa.table(spine_frame)), query, SILENT)
    order = [names.index(name) for name in features]
    texts = {
        (i, int(cell)): json.dumps(read.structures[j][cell], sort_keys=True)
        for i, j in enumerate(order)
        if j in read.structures
        for cell in np.flatnonzero([value is not None for value in read.structures[j]])
    }
    return KnownCells(read.value[order], read.event[order], texts)


def revision(
    conn: db.Connection, entity: str, feature: str, event: int, known_by: datetime
) -> Revision | None:
    """The newest revision of a value that became known after a moment; None without one.

    Parameters
    ----------
    event
        The event time in microseconds.
    known_by
        The moment (aware).
    """
    rows = revisions.history(conn, entity, feature, None)
    moment = from_micros(event)
    found = [
        Revision(known, producer, run)
        for at, known, producer, run in zip(
            rows["event_time"], rows["ingest_time"], rows["producer"], rows["run_id"], strict=True
        )
        if at == moment and known > known_by
    ]
    return max(found, key=lambda revised: revised.known_at) if found else None


def _limits(reading: Mapping[str, str] | None) -> dict[str, Any]:
    """What of a read leaves values out by their age.

    >>> _limits({"max_staleness": "view", "calendar": "XNYS"})
    {}
    >>> _limits({"max_age": "1 day, 12:00:00"})
    {'max_age': datetime.timedelta(days=1, seconds=43200)}
    """
    reading = reading or {}
    limits: dict[str, Any] = {
        name: _duration(reading[name])
        for name in ("max_age", "max_staleness")
        if reading.get(name, OF_VIEW) != OF_VIEW
    }
    if "views" in reading and reading.get("max_staleness") == OF_VIEW:
        limits["views"] = reading["views"]
    return limits


def _duration(text: str) -> Duration:
    """A duration in our form or in that of `str(timedelta)`."""
    match = _TIMEDELTA.fullmatch(text)
    if match is None:
        return parse_duration(text, "an age")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def _age_limits(
    conn: db.Connection, names: Sequence[str], reading: Mapping[str, str] | None
) -> dict[str, tuple[AgeLimit, ...]]:
    """The limits of a read by feature, as `PointInTimeQuery.limits_of` puts them together."""
    limits = _limits(reading)
    if not limits:
        return {}
    views = _views(conn, limits.get("views", ""))
    registered, calendar = definitions.calendars(conn), (reading or {}).get("calendar")
    by_feature: dict[str, tuple[AgeLimit, ...]] = {}
    for name in names:
        view = views.get(name)
        counted = calendar or (view and view.calendar) or registered.get(name)
        ages = [limits[key] for key in ("max_age", "max_staleness") if key in limits]
        rules = [
            AgeLimit(age, counted if isinstance(age, SessionCount) else calendar) for age in ages
        ]
        if view is not None and view.max_staleness is not None:
            rules.append(AgeLimit(view.max_staleness, view.calendar))
        by_feature[name] = tuple(rules)
    return by_feature


def _views(conn: db.Connection, labels: str) -> dict[str, FeatureView]:
    """The views through which features were read, by feature."""
    read = set(filter(None, labels.split(", ")))
    # One that was never registered is left out: its limits are not known.
    registered = [v for v in definitions.views(conn) if f"{v.name}/{v.version}" in read]
    return {name: view for view in registered for name in view.features}
