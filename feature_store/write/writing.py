"""Writing one batch, or a stream of them, as one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain

import psycopg

from mlflow_timescale import db
from mlflow_timescale.common import logs
from mlflow_timescale.common.frames import Columns
from mlflow_timescale.common.text import printable

from ..catalogue import categories, definitions
from ..catalogue.definitions import FeatureView
from ..catalogue.series import SeriesWriter
from ..errors import InvalidFrame, WriteContention
from ..values.points import FrameLayout, Points, check_order
from ..values.points import points as points_of
from .availability import Availability, on_calendar
from .batch import make_batch
from .midnights import warn_of_midnights
from .transaction import WriteSpec, WriteTransaction

_log = logs.logger("feature_store")


def frame_points(
    parts: Iterator[Columns],
    layout: FrameLayout,
    view: FeatureView | None,
    rule: Availability | None = None,
) -> Iterator[Points]:
    """The points of each part of a frame.

    One line in the log names the columns of a wide frame that the view does not have: they are not
    written. A warning (MidnightEvents) names a first part whose event times are dates, where `rule`
    makes them known within the day.
    """
    if view is not None:
        layout = replace(layout, allowed=frozenset(view.features))
    for number, part in enumerate(parts):
        ignored = layout.ignored(part) if not number else []
        if view is not None and ignored:
            names = printable(", ".join(ignored))
            _log.warning("not written, because view %r has no such feature: %s", view.name, names)
        points = points_of(part, layout)
        if not number and rule is not None:
            zone = part.zone(layout.event_time)
            event = points.event if len(part[layout.event_time]) > 1 else points.event[:1]
            warn_of_midnights(event, zone, rule)
        yield points


def write_batches(
    conn: db.Connection,
    aside: db.Connection,
    batches: Iterator[Points],
    spec: WriteSpec,
    view: str | FeatureView | None,
    progress: Callable[[int], None],
) -> int:
    """Write batches that definitions allow, as one write; return how many points were new.

    `aside` is a second connection, for what must not wait for the end of a long write.
    """
    first, second = next(batches, None), next(batches, None)
    if first is None:
        return 0
    if second is None:
        stored = write_points(conn, first, spec, view)
        progress(len(first))
        return stored
    spec, registered = _prepared(aside, spec, view)
    checked = _checked(aside, chain([first, second], batches), spec, registered)
    return write_stream(conn, SeriesWriter(aside, spec.version), checked, spec, progress)


def write_points(
    conn: db.Connection, points: Points, spec: WriteSpec, view: str | FeatureView | None = None
) -> int:
    """Write one batch that definitions allow; return how many points were new.

    Raises DefinitionError, ConflictingValues, InvalidTime or WriteContention; then nothing was
    written.
    """
    spec, registered = _prepared(conn, spec, view)
    definitions.check(conn, points, spec.version, registered)
    points = apply_availability(points, spec)
    if not len(points):
        return 0
    batch = make_batch(points, SeriesWriter(conn, spec.version).ids(points))
    with _readable_contention(), WriteTransaction(conn, spec) as transaction:
        categories.register(conn, points, spec.version)
        transaction.add(batch)
    return _log_stored(transaction.stored, len(points))


def write_stream(
    conn: db.Connection,
    series: SeriesWriter,
    stream: Iterator[Points],
    spec: WriteSpec,
    progress: Callable[[int], None],
) -> int:
    """Write batches in one transaction, with the memory of one batch.

    Points with ingest times are inserted batch by batch. Points that become known at the time of
    the write are staged first, because the clock may be read only when every series is locked.
    `series` creates new series on a separate connection; see `SeriesWriter.ids`.
    """
    count = 0
    with _readable_contention(), WriteTransaction(conn, spec) as transaction:
        for points in stream:
            count += len(points)
            lagged = apply_availability(points, spec)
            if len(lagged):
                categories.register(conn, lagged, spec.version)
                batch = make_batch(lagged, series.ids(lagged))
                enter = transaction.stage if batch.ingest is None else transaction.add
                enter(batch)
            progress(len(points))
        transaction.merge_staged()
    return _log_stored(transaction.stored, count)


def apply_availability(points: Points, spec: WriteSpec) -> Points:
    """Compute the ingest times where a rule gives them, and check those that are given."""
    if spec.availability is not None:
        if points.ingest is not None:
            raise InvalidFrame("give ingest_time or availability_lag, not both")
        points = replace(points, ingest=spec.availability.known_at(points.event))
    if points.ingest is not None:
        check_order(points.event, points.ingest, spec.forecast)
    return points


def _prepared(
    conn: db.Connection, spec: WriteSpec, view: str | FeatureView | None
) -> tuple[WriteSpec, FeatureView | None]:
    """The view of a write, registered, and the write with its version, on its calendar."""
    spec = replace(spec, availability=on_calendar(conn, spec.availability))
    if view is None:
        return spec, None
    registered = definitions.find_or_register(conn, view)
    return replace(spec, version=registered.version), registered


def _checked(
    conn: db.Connection, stream: Iterator[Points], spec: WriteSpec, view: FeatureView | None
) -> Iterator[Points]:
    """The batches, each checked against the definitions before it is handed on."""
    kinds: dict[str, str] = {}
    for points in stream:
        definitions.check(conn, points, spec.version, view, kinds)
        yield points


def _log_stored(stored: int, count: int) -> int:
    if stored < count:
        _log.info("%d new values; %d of %d were stored already", stored, count - stored, count)
    return stored


@contextmanager
def _readable_contention() -> Iterator[None]:
    """Raise WriteContention where the database ends one of two writers that block each other."""
    try:
        yield
    except psycopg.errors.DeadlockDetected as exc:
        raise WriteContention(
            "another write blocked this one and the database ended it; nothing was written, "
            "so write it again"
        ) from exc
