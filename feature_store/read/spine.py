"""Spines: entities and as-of times. Any frame, in any order, with any other columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlflow_timescale.common.frames import Frame, as_column, labels
from mlflow_timescale.common.micros import MISSING, Micros, column_micros, object_micros

from ..errors import InvalidFrame
from ..values.points import Codes

EntityColumns = str | Mapping[str, Sequence[str]]
# Columns that a spine often carries along; a CSV file gives them as they are written.
IDENTIFIERS = frozenset(
    {
        "group",
        "model_name",
        "model_version",
        "producer",
        "producer_version",
        "run_id",
        "strategy_id",
    }
)


class Group(NamedTuple):
    """One entity column of a spine and the positions of the features that belong to it."""

    entities: list[str]
    entity: Codes
    features: list[int]


class Spine(NamedTuple):
    """A spine as read: the frame itself, its as-of times, and its entity columns."""

    frame: Frame
    as_of: Micros
    groups: list[Group]

    def __len__(self) -> int:
        return len(self.as_of)

    def join(self, added: Mapping[str, npt.NDArray[Any]], output: str | None) -> Any:
        """The spine with columns added; see `Frame.join`."""
        return self.frame.join(added, output)


def read_spine(
    source: Any,
    features: list[str],
    entity: EntityColumns,
    as_of: str,
    *,
    missing: bool = False,
) -> Spine:
    """Read a spine: a frame of any kind, or (entity, as_of) pairs.

    `entity` is a column, or a mapping of each entity column to its features. `missing` allows a
    missing as_of, whose cells stay empty: older snapshots have such rows. Raises InvalidFrame or
    InvalidTime.
    """
    owners = _owners(entity, features)
    frame = Frame(
        _from_pairs(source, entity, as_of),
        text=IDENTIFIERS | owners.keys(),
        keys={*owners, as_of},
    )
    taken = sorted(set(features) & set(frame.names))
    if taken:
        raise InvalidFrame(f"the spine already has columns named as features: {', '.join(taken)}")
    times = column_micros(frame.column(as_of), as_of, missing=missing)
    groups = [
        Group(*labels(frame.column(name), name), positions) for name, positions in owners.items()
    ]
    return Spine(frame, times, groups)


def slices(group: Group, as_of: Micros) -> Iterator[tuple[int, npt.NDArray[np.intp], Micros]]:
    """For each entity: its code, its rows in the order of as_of, and those times."""
    order = np.lexsort((as_of, group.entity))
    order = order[as_of[order] != MISSING]
    codes = group.entity[order]
    first = np.flatnonzero(np.diff(codes, prepend=-1))
    for start, stop in zip(first, np.append(first, len(order))[1:], strict=True):
        rows = order[start:stop]
        yield int(codes[start]), rows, as_of[rows]


def _from_pairs(source: Any, entity: EntityColumns, as_of: str) -> Any:
    """The columns of (entity, as_of) pairs; any other source as it is."""
    if isinstance(source, str) and not Path(source).exists():
        raise InvalidFrame(
            f"a spine is a frame, a file, or a list of (entity, as_of) pairs; no file {source!r}"
        )
    if not isinstance(source, Iterable) or isinstance(source, (str, bytes, Mapping)):
        return source
    if hasattr(source, "__arrow_c_stream__") or hasattr(source, "columns"):
        return source
    pairs = list(source)
    if not all(isinstance(pair, (tuple, list, np.ndarray)) for pair in pairs):
        return pairs
    odd = next((pair for pair in pairs if len(pair) != 2), None)
    if odd is not None:
        raise InvalidFrame(f"{odd!r} is no (entity, as_of) pair; give a frame for other columns")
    if not isinstance(entity, str):
        raise InvalidFrame("pairs have one entity column; give a frame for several")
    moments = object_micros([moment for _, moment in pairs], "as_of")
    return {
        entity: as_column([name for name, _ in pairs]),
        as_of: pa.array(moments, type=pa.timestamp("us", "UTC")),
    }


def _owners(entity: EntityColumns, features: list[str]) -> dict[str, list[int]]:
    if isinstance(entity, str):
        return {entity: list(range(len(features)))}
    owner = {name: column for column, names in entity.items() for name in names}
    unowned = [name for name in features if name not in owner]
    if unowned:
        raise InvalidFrame(f"entity does not say whose features {', '.join(unowned)} are")
    return {
        column: [i for i, name in enumerate(features) if owner[name] == column] for column in entity
    }
