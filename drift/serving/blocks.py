"""A request cut into the rows that store it: one decision time, one version of each feature."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlflow_timescale.common.micros import MISSING, Micros

from .cells import FeatureCells, Floats
from .requests import Request, Versions

CELLS = 32_000  # of a block: a quarter of a megabyte, which one entity's replay has to read

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Block:
    """Rows of a request that become one row of mlops.served_blocks, increasing by entity number."""

    number: int
    as_of: int
    versions: tuple[int, ...]
    entities: npt.NDArray[np.int32]
    outputs: Floats
    values: Floats
    absent: npt.NDArray[np.int32] | None
    others: str | None
    event_times: Micros | None
    event_positions: npt.NDArray[np.int32] | None
    groups: list[str] | None


def blocks_of(request: Request, entity_ids: npt.NDArray[np.int32]) -> list[Block]:
    """The blocks of a request, in the order of decision times and entities.

    Parameters
    ----------
    entity_ids
        The numbers of the request's entities, shape (n,).
    """
    parts = _parts(request, entity_ids)
    return [_block(request, entity_ids, rows, number) for number, rows in enumerate(parts)]


def _parts(request: Request, entity_ids: npt.NDArray[np.int32]) -> Iterator[Rows]:
    cells = request.cells
    most = max(1, CELLS // max(1, len(cells.names)))
    for rows in _alike(request.as_of, _column_versions(cells)):
        ordered = rows[np.argsort(entity_ids[rows], kind="stable")]
        for start in range(0, len(ordered), most):
            yield ordered[start : start + most]


def _alike(as_of: Micros, versions: Versions | None) -> Iterator[Rows]:
    """Groups of rows with one decision time and the same versions, in the order of times."""
    keys = as_of[:, None]
    if versions is not None and (versions != versions[0]).any():
        _, labels = np.unique(versions, axis=0, return_inverse=True)
        keys = np.column_stack([keys, labels.reshape(-1)])
    if (keys == keys[0]).all():
        yield np.arange(len(as_of))
        return
    order = np.lexsort(keys.T[::-1])
    changes = (keys[order][1:] != keys[order][:-1]).any(axis=1)
    yield from np.split(order, np.flatnonzero(changes) + 1)


def _column_versions(cells: FeatureCells) -> Versions | None:
    """The version of each cell; one without a value takes the newest of its column."""
    if cells.versions is None:
        return None
    return np.where(cells.versions == 0, cells.versions.max(axis=0), cells.versions)


def _block(request: Request, entity_ids: npt.NDArray[np.int32], rows: Rows, number: int) -> Block:
    cells = request.cells
    versions = _column_versions(cells)
    absent = np.flatnonzero(cells.absent[rows].reshape(-1))
    times, positions = _event_times(cells, rows)
    return Block(
        number,
        int(request.as_of[rows[0]]),
        tuple([0] * len(cells.names) if versions is None else versions[rows[0]].tolist()),
        entity_ids[rows],
        request.outputs[rows],
        cells.values[rows].reshape(-1),
        absent.astype(np.int32) if len(absent) else None,
        _others(cells, rows),
        times,
        positions,
        None if request.groups is None else [request.groups[row] for row in rows],
    )


def _others(cells: FeatureCells, rows: Rows) -> str | None:
    if not cells.others:
        return None
    places = {int(row): place for place, row in enumerate(rows)}
    width = len(cells.names)
    texts = [
        f'"{places[row] * width + column}": {text}'
        for (row, column), text in cells.others.items()
        if row in places
    ]
    return "{" + ", ".join(texts) + "}" if texts else None


def _event_times(
    cells: FeatureCells, rows: Rows
) -> tuple[Micros | None, npt.NDArray[np.int32] | None]:
    """The distinct times, and each cell's position in them from 1; 0 where it is not known."""
    if cells.event is None:
        return None, None
    distinct, inverse = np.unique(cells.event[rows], return_inverse=True)
    is_known = distinct != MISSING
    if not is_known.any():
        return None, None
    if len(distinct) == 1:
        return distinct, None
    first_known = int(np.argmax(is_known))  # 1 where MISSING, the least value, is among them
    return distinct[first_known:], (inverse.reshape(-1) + 1 - first_known).astype(np.int32)
