"""Spines: for which entities, at which moments. Any frame, in any order, with any other columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_store import columns
from feature_store.columns import Columns
from feature_store.errors import InvalidFrame
from feature_store.write.points import Codes
from mlflow_timescale.common.micros import MISSING, Micros
from mlflow_timescale.common.time import to_micros

OUTPUTS = ("pandas", "arrow", "polars")


class Group(NamedTuple):
    """One entity column of a spine and the positions of the features that belong to it."""

    entities: list[str]
    entity: Codes
    features: list[int]


class Spine(NamedTuple):
    """A spine as read: the frame itself, its as-of times, and its entity columns."""

    frame: Any
    as_of: Micros
    groups: list[Group]

    def __len__(self) -> int:
        return len(self.as_of)


EntityColumns = str | Mapping[str, Sequence[str]]


def read_spine(frame: Any, features: list[str], entity: EntityColumns, as_of: str) -> Spine:
    """Read a spine. `entity` is a column, or says for each entity column which features are its.

    Raises InvalidFrame or InvalidTime. A missing as_of is no error: its cells stay empty.
    """
    if not _is_frame(frame):
        frame = _from_pairs(frame, entity, as_of)
    read = columns.columns(frame)
    taken = sorted(set(features) & set(read))
    if taken:
        raise InvalidFrame(f"the spine already has columns named as features: {', '.join(taken)}")
    times = columns.times(_column(read, as_of), as_of, missing=True)
    owners = _owners(entity, features)
    groups = [
        Group(*columns.labels(_column(read, name), name), positions)
        for name, positions in owners.items()
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


def join(frame: Any, added: Mapping[str, npt.NDArray[Any]], output: str | None) -> Any:
    """The spine with columns added, as the kind of frame it was or as `output` says."""
    output = output or _kind(frame)
    if output not in OUTPUTS:
        raise InvalidFrame(f"output {output!r} is none of {', '.join(OUTPUTS)}")
    if output == "pandas":
        return _join_pandas(frame, added)
    read = columns.columns(frame)
    table = pa.table({**read, **{name: _arrow(values) for name, values in added.items()}})
    if output == "arrow":
        return table
    import polars

    return polars.from_arrow(table)


def frame_of(added: Mapping[str, Any], output: str) -> Any:
    """A frame of these columns alone."""
    if output == "pandas":
        import pandas as pd

        return pd.DataFrame({name: _pandas(values) for name, values in added.items()})
    arrays = {name: _arrow(np.asarray(values)) for name, values in added.items()}
    return join(pa.table(arrays), {}, output)


def _join_pandas(frame: Any, added: Mapping[str, npt.NDArray[Any]]) -> Any:
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        frame = pa.table(columns.columns(frame)).to_pandas()
    new = pd.DataFrame({name: _pandas(values) for name, values in added.items()}, copy=False)
    new.index = frame.index
    return pd.concat([frame, new], axis=1)


def _pandas(values: Any) -> Any:
    import pandas as pd

    if isinstance(values, list):
        return values
    if values.dtype.kind == "M":
        return pd.Series(values).dt.tz_localize("UTC")
    return values


def _arrow(values: npt.NDArray[Any]) -> pa.Array:
    if values.dtype.kind == "M":
        return pa.array(values).cast(pa.timestamp("us", "UTC"))
    return pa.array(values.tolist()) if values.dtype == object else pa.array(values)


def _kind(frame: Any) -> str:
    if columns.is_polars(frame):
        return "polars"
    return "arrow" if isinstance(frame, (pa.Table, pa.RecordBatch)) else "pandas"


def _is_frame(frame: Any) -> bool:
    return not columns.is_stream(frame) or hasattr(frame, "__arrow_c_stream__")


def _from_pairs(pairs: Any, entity: EntityColumns, as_of: str) -> Columns:
    """A spine of a list of (entity, as_of)."""
    if not isinstance(entity, str) or isinstance(pairs, (str, bytes)):
        raise InvalidFrame("a spine is a frame, or a list of (entity, as_of) pairs")
    pairs = list(pairs)
    moments = [to_micros(moment, f"as_of in row {i},") for i, (_, moment) in enumerate(pairs)]
    return {
        entity: pa.array([name for name, _ in pairs], type=pa.string()),
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


def _column(read: Columns, name: str) -> Any:
    if name not in read:
        raise InvalidFrame(f"the spine has no column {name!r}; it has {', '.join(read)}")
    return read[name]
