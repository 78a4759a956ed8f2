"""Point-in-time reads: what was known at a moment, for one entity, many, or a training set."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlflow_timescale import db
from mlflow_timescale.common.micros import MISSING
from mlflow_timescale.common.text import printable
from mlflow_timescale.common.time import from_micros, to_micros

from ..catalogue.selection import (
    ANY_VERSION,
    FeatureSelection,
    SeriesTable,
    Versions,
    check_known,
    select,
    series_table,
    version_of,
)
from . import membership
from .ages import AgeLimit, common_age, on_calendars
from .cells import Cells
from .lookups import Bounds, SeriesLookup
from .plans import fill
from .query import PointInTimeQuery
from .readers import Readers
from .spine import Group, Spine, slices

_queries = db.load("features")
NAMED = 5  # entities that a warning names


class MixedVersions(UserWarning):
    """A column holds values of several versions of its feature."""


class UnknownEntities(UserWarning):
    """Entities of a spine have no value of any of its features, at no time."""


@dataclass(frozen=True)
class FeatureValue:
    """One value as it was known at `as_of`, and its origin.

    Attributes
    ----------
    entity_key, feature_name, feature_version
        The series.
    event_time
        The moment that the value describes (aware, UTC).
    value
        A float, NaN for "computed, undefined", or a list or mapping.
    as_of
        The moment of the question; None in a value that was made by hand.
    ingest_time
        When the value became known, at or before `as_of`; None in a value that was made by hand.
    producer, producer_version, run_id
        Who wrote it: the script, its git commit, the MLflow run; None if not recorded.
    assumed_lag
        The rule that computed `ingest_time`; None if the time was observed.

    Examples
    --------
    >>> from datetime import timezone
    >>> close, opening = (datetime(2024, 1, d, tzinfo=timezone.utc) for d in (2, 3))
    >>> value = FeatureValue("AAPL", "ret_5d", 1, close, 0.012, opening, opening)
    >>> value.ingest_time - value.event_time
    datetime.timedelta(days=1)
    """

    entity_key: str
    feature_name: str
    feature_version: int
    event_time: datetime
    value: Any
    as_of: datetime | None = None
    ingest_time: datetime | None = None
    producer: str | None = None
    producer_version: str | None = None
    run_id: str | None = None
    assumed_lag: str | None = None


class Options(NamedTuple):
    """How many cells are read: what is kept beside the values, and who shares the work."""

    details: bool = False
    warn_of_mixes: bool = True
    warn_of_gaps: bool = True
    plan: str | None = None
    database: db.Database | None = None
    readers: int = 1


SILENT = Options(warn_of_mixes=False, warn_of_gaps=False)


def latest(
    conn: db.Connection,
    entities: Sequence[str],
    features: Sequence[str] | None,
    *,
    as_of: datetime | None,
    versions: Versions,
) -> dict[str, dict[str, FeatureValue]]:
    """The values of some entities as known at one moment, by entity and feature."""
    parameters = {
        "entities": list(entities),
        "features": None if features is None else list(features),
        "as_of": _checked(as_of),
    }
    with conn.cursor(binary=True) as cursor:
        rows = cursor.execute(_queries.latest, parameters).fetchall()
    by_entity: dict[str, dict[str, FeatureValue]] = {entity: {} for entity in entities}
    present = set()
    for entity, feature, version, event_time, number, structure, *origin in rows:
        if version_of(feature, versions) not in (ANY_VERSION, version):
            continue
        present.add(feature)
        values = by_entity[entity]
        if feature not in values or values[feature].feature_version < version:
            value = number if structure is None else structure
            values[feature] = FeatureValue(entity, feature, version, event_time, value, *origin)
    if features is not None and not present.issuperset(features):
        selection = select(list(features), versions)
        unseen = [i for i, name in enumerate(selection.names) if name not in present]
        check_known(conn, selection, unseen)
    return by_entity


def drop_expired(
    conn: db.Connection,
    by_entity: dict[str, dict[str, FeatureValue]],
    limits: Callable[[str], tuple[AgeLimit, ...]],
) -> None:
    """Remove the values that are older than the limits of their feature."""
    entities: dict[str, list[str]] = {}
    for entity, features in by_entity.items():
        for name in features:
            entities.setdefault(name, []).append(entity)
    limited = {name: ages for name in entities if (ages := limits(name))}
    if not limited:
        return
    rules = on_calendars(conn, limited)
    for name in limited:
        owners = entities[name]
        values = [by_entity[entity][name] for entity in owners]
        event, as_of = (
            np.array([to_micros(getattr(value, time)) for value in values], dtype=np.int64)
            for time in ("event_time", "as_of")
        )
        for rule in rules[name]:
            for i in np.flatnonzero(rule.expired(event, as_of)):
                by_entity[owners[i]].pop(name, None)


def read_cells(
    conn: db.Connection, spine: Spine, query: PointInTimeQuery, options: Options
) -> tuple[Cells, npt.NDArray[np.bool_] | None]:
    """The winner of every cell, and which cells have expired (None without a limit).

    All cells are read from one snapshot of the database.
    """
    selection = query.selection
    several = ANY_VERSION in selection.versions
    cells = Cells.empty(len(selection.names), len(spine), details=options.details, versions=several)
    with conn.transaction(), Readers(conn, options.database, options.readers) as readers:
        conn.execute(_queries.one_snapshot)
        limits = on_calendars(conn, query.limits)
        rules = [limits[name] for name in selection.names]
        age = common_age(rules, spine.as_of)
        written_by = _late_writes_matter(conn, spine, query.written_by)
        for group in spine.groups:
            table = series_table(conn, group.entities, part_of(selection, group))
            if options.warn_of_gaps:
                _warn_of_unknown_entities(table, group)
            lookups = _lookups(table, list(slices(group, spine.as_of)), group.features)
            push = None if _mixes(table) or options.details else age
            fill(readers, cells, lookups, Bounds(push, written_by), options.plan)
    if several and options.warn_of_mixes:
        _warn_of_mixed_versions(cells, selection)
    expired = cells.expire(spine.as_of, rules) if any(rules) else None
    if query.universe is not None:
        mask = membership.outside(conn, spine, query.universe, len(selection.names))
        cells.empty_out(mask)
        if options.warn_of_gaps:
            membership.warn(mask, query.universe)
    return cells, expired


def lookups_of(
    conn: db.Connection, spine: Spine, selection: FeatureSelection
) -> list[SeriesLookup]:
    """The series of a spine, with the rows that need them."""
    return [
        lookup
        for group in spine.groups
        for lookup in _lookups(
            series_table(conn, group.entities, part_of(selection, group)),
            list(slices(group, spine.as_of)),
            group.features,
        )
    ]


def part_of(selection: FeatureSelection, group: Group) -> FeatureSelection:
    """The part of a selection that belongs to one entity column."""
    return FeatureSelection(
        [selection.names[i] for i in group.features],
        [selection.versions[i] for i in group.features],
    )


def _lookups(table: SeriesTable, by_entity: list[Any], positions: list[int]) -> list[SeriesLookup]:
    rows = {entity: (rows, as_of) for entity, rows, as_of in by_entity}
    nothing = (np.empty(0, dtype=np.intp), np.empty(0, dtype=np.int64))
    return [
        SeriesLookup(series, positions[feature], version, *rows.get(entity, nothing))
        for entity, feature, version, series in zip(*(c.tolist() for c in table), strict=True)
    ]


def _mixes(table: SeriesTable) -> bool:
    """Whether any (entity, feature) has several versions, so that an older one may be used."""
    pairs = table.entity.astype(np.int64) << 32 | table.feature
    return len(np.unique(pairs)) < len(pairs)


def _late_writes_matter(
    conn: db.Connection, spine: Spine, written_by: datetime | None
) -> datetime | None:
    """`written_by`, unless leaving later writes out cannot change any cell.

    Most later writes are known later too, and then no as_of of the spine sees them anyway.
    """
    if written_by is None or not len(spine):
        return None
    _checked(written_by)
    last = int(spine.as_of.max())
    if last == MISSING:
        return None
    values = {"written_by": written_by, "last": from_micros(last)}
    row: Any = conn.execute(_queries.written_late, values).fetchone()
    return written_by if row[0] else None


def _warn_of_mixed_versions(cells: Cells, selection: FeatureSelection) -> None:
    assert cells.version is not None  # nosec B101  # for mypy
    for j, name in enumerate(selection.names):
        used = np.unique(cells.version[j][cells.event[j] != MISSING])
        if selection.versions[j] == ANY_VERSION and len(used) > 1:
            warnings.warn(
                f"{printable(name)} mixes versions {used.tolist()}; pin one with feature_version",
                MixedVersions,
                stacklevel=4,
            )


def _warn_of_unknown_entities(table: SeriesTable, group: Group) -> None:
    unknown = np.setdiff1d(np.arange(len(group.entities)), table.entity)
    if not len(unknown):
        return
    names = [printable(group.entities[i]) for i in unknown[:NAMED]]
    more = ", ..." if len(unknown) > NAMED else ""
    warnings.warn(
        f"{len(unknown)} of {len(group.entities)} entities have no value of any of these "
        f"features, and their cells are empty: {', '.join(names)}{more}",
        UnknownEntities,
        stacklevel=4,
    )


def _checked(moment: datetime | None) -> datetime | None:
    if moment is not None:
        to_micros(moment, "as_of")
    return moment
