"""Universes: which entities exist, or are members of something, from when to when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlflow_timescale import db
from mlflow_timescale.common.frames import Frame, labels
from mlflow_timescale.common.micros import MISSING, Micros, column_micros
from mlflow_timescale.common.time import from_micros, to_micros

from ..errors import DefinitionError, InvalidValue

_queries = db.load("features")
_ALWAYS = np.iinfo(np.int64).max
COLUMNS = ("entity_key", "valid_from", "valid_to")


class Interval(NamedTuple):
    """From `start` on and before `end`, in microseconds since 1970."""

    start: int
    end: int


@dataclass(frozen=True)
class Universe:
    """The intervals of each entity; one without an interval is not part of it."""

    name: str
    intervals: dict[str, list[Interval]]

    def contains(self, entity: str, times: Micros) -> npt.NDArray[np.bool_]:
        """At which times an entity is part of the universe.

        >>> universe = Universe("listed", {"AAPL": [Interval(10, 20)]})
        >>> universe.contains("AAPL", np.array([9, 10, 19, 20]))
        array([False,  True,  True, False])
        """
        inside = np.zeros(len(times), dtype=bool)
        for interval in self.intervals.get(entity, []):
            inside |= (times >= interval.start) & (times < interval.end)
        return inside


def read(source: Any, entity: str = "entity_key") -> Universe:
    """A universe from a frame with the columns entity_key, valid_from and valid_to.

    Either time may be missing, in a row or as a column: the entity was always, or still is, part
    of it. Raises InvalidFrame, InvalidTime, and InvalidValue where intervals overlap.
    """
    columns = Frame(source, text=[entity]).columns()
    names, codes = labels(columns[entity], entity)
    start, end = (
        column_micros(columns[name], name, missing=True)
        if name in columns
        else np.full(len(codes), MISSING)
        for name in COLUMNS[1:]
    )
    end = np.where(end == MISSING, _ALWAYS, end)
    intervals: dict[str, list[Interval]] = {}
    for code, first, last in sorted(zip(codes.tolist(), start.tolist(), end.tolist(), strict=True)):
        intervals.setdefault(names[code], []).append(Interval(first, last))
    for name, parts in intervals.items():
        _check(name, parts)
    return Universe("the frame", intervals)


def record(conn: db.Connection, name: str, source: Any) -> int:
    """Record the intervals of a universe; return how many were new or changed.

    An interval of the same entity and start is replaced. Raises as `read`, and InvalidValue where
    an interval overlaps one that is recorded.
    """
    if not name:
        raise InvalidValue("a universe needs a name, such as 'sp500'")
    rows = [(entity, *part) for entity, parts in read(source).intervals.items() for part in parts]
    values = {
        "universe": name,
        "entities": [row[0] for row in rows],
        "starts": [None if row[1] == MISSING else from_micros(row[1]) for row in rows],
        "ends": [None if row[2] == _ALWAYS else from_micros(row[2]) for row in rows],
    }
    with conn.transaction():
        changed = conn.execute(_queries.record_universe, values).rowcount
        for entity, parts in find(conn, name).intervals.items():
            _check(entity, parts)
    return changed


def find(conn: db.Connection, name: str) -> Universe:
    """A recorded universe. Raises DefinitionError, which names those that are recorded."""
    intervals: dict[str, list[Interval]] = {}
    for entity, interval in _recorded(conn, name):
        intervals.setdefault(entity, []).append(interval)
    if not intervals:
        names = [row[0] for row in conn.execute(_queries.universes)]
        raise DefinitionError(
            f"no universe {name!r} is recorded; there are: {', '.join(names) or 'none yet'}. "
            f"FeatureStore.record_universe records one"
        )
    return Universe(name, intervals)


def everything(conn: db.Connection) -> Universe:
    """The intervals of all recorded universes together; without any where there is no table yet."""
    intervals: dict[str, list[Interval]] = {}
    exists: Any = conn.execute(_queries.universes_exist).fetchone()
    if exists[0]:
        for entity, interval in _recorded(conn, None):
            intervals.setdefault(entity, []).append(interval)
    return Universe("all universes", intervals)


def _recorded(conn: db.Connection, name: str | None) -> Iterator[tuple[str, Interval]]:
    for entity, start, end in conn.execute(_queries.universe, {"universe": name}):
        first = MISSING if start is None else to_micros(start)
        yield entity, Interval(first, _ALWAYS if end is None else to_micros(end))


def _check(entity: str, parts: list[Interval]) -> None:
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        if part.end <= part.start:
            raise InvalidValue(
                f"{entity} is valid until {from_micros(part.end)}, which is not after its start"
            )
        if following is not None and following.start < part.end:
            raise InvalidValue(
                f"{entity} has two intervals that overlap: one begins at "
                f"{from_micros(following.start)}, before the one ahead of it ends"
            )
