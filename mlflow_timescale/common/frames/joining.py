"""Results: columns joined to a caller's frame, and frames made of columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlflow_timescale.common.errors import InvalidFrame
from mlflow_timescale.common.frames.columns import as_field, objects
from mlflow_timescale.common.frames.structures import is_structure

OUTPUTS = ("pandas", "arrow", "polars")
SMALL = 1_000  # labels of an index that is kept


def make_frame(columns: Mapping[str, Any], output: str) -> Any:
    """A frame of lists or numpy arrays; datetime64 is in UTC.

    `output` is "pandas", "arrow" or "polars". Raises InvalidFrame for any other, and for a column
    of objects that Arrow cannot hold.

    >>> make_frame({"entity_key": ["AAPL"], "rsi_14": [62.5]}, "arrow").to_pylist()
    [{'entity_key': 'AAPL', 'rsi_14': 62.5}]
    """
    check_output(output)
    if output == "pandas":
        import pandas as pd

        return pd.DataFrame({name: _to_pandas(column) for name, column in columns.items()})
    table = _table({name: _array(column) for name, column in columns.items()})
    return table if output == "arrow" else to_polars(table)


def pandas_matrix(values: npt.NDArray[Any], names: Sequence[str], index: Sequence[str]) -> Any:
    """A pandas frame of one array of shape (rows, columns): a fifth of the time of columns.

    >>> pandas_matrix(np.array([[62.5]]), ["rsi_14"], ["AAPL"]).loc["AAPL", "rsi_14"].item()
    62.5
    """
    import pandas as pd

    columns = _index(tuple(names), None)
    return pd.DataFrame(values, index=_index(tuple(index), "entity_key"), columns=columns)


def pandas_series(values: npt.NDArray[Any], index: Sequence[str], name: str) -> Any:
    """A pandas series of one value for each entity.

    >>> pandas_series(np.array([0.5]), ["AAPL"], "signal").to_dict()
    {'AAPL': 0.5}
    """
    import pandas as pd

    return pd.Series(values, index=_index(tuple(index), "entity_key"), name=name)


def _index(labels: tuple[str, ...], name: str | None) -> Any:
    """A pandas index of the caller's own: its name may be changed."""
    make = _made_index if len(labels) <= SMALL else _made_index.__wrapped__
    return make(labels, name).view()


# Live code predicts the same names again and again, and an index of texts takes a while to make.
@lru_cache(maxsize=64)
def _made_index(labels: tuple[str, ...], name: str | None) -> Any:
    import pandas as pd

    return pd.Index(labels, name=name)


def check_output(output: str) -> None:
    """Raise InvalidFrame unless it is one of OUTPUTS."""
    if output not in OUTPUTS:
        raise InvalidFrame(f"output {output!r} is none of {', '.join(OUTPUTS)}")


def join_pandas(frame: Any, columns: Mapping[str, Any]) -> Any:
    """A pandas frame with more columns; its index and its own columns are kept untouched."""
    import pandas as pd

    added = pd.DataFrame({n: _to_pandas(column) for n, column in columns.items()}, copy=False)
    added.index = frame.index
    return pd.concat([frame, added], axis=1)


def join_polars(frame: Any, columns: Mapping[str, Any]) -> Any:
    """A polars frame with more columns; the types of its own columns are kept."""
    return frame.hstack(to_polars(_table(columns)))


def join_arrow(table: pa.Table, columns: Mapping[str, Any]) -> pa.Table:
    """An Arrow table with more columns; its chunks and its metadata are kept."""
    added = _table(columns)
    schema = pa.schema([*table.schema, *added.schema], metadata=table.schema.metadata)
    return pa.Table.from_arrays([*table.columns, *added.columns], schema=schema)


def to_polars(table: pa.Table) -> Any:
    """An Arrow table as a polars frame."""
    import polars

    return polars.from_arrow(table)


def _table(columns: Mapping[str, Any]) -> pa.Table:
    fields = [_to_arrow(column, name) for name, column in columns.items()]
    schema = pa.schema([entry for entry, _ in fields])
    return pa.Table.from_arrays([array for _, array in fields], schema=schema)


def _array(column: Any) -> Any:
    """An array of a column's values; lists of structures stay one value a row."""
    if isinstance(column, np.ndarray):
        return column
    return objects(column) if any(map(is_structure, column)) else np.asarray(column)


def _to_pandas(column: Any) -> Any:
    import pandas as pd

    if isinstance(column, np.ndarray) and column.dtype.kind == "M":
        moments: Any = pd.Series(column)
        return moments.dt.tz_localize("UTC")
    return column


def _to_arrow(column: Any, name: str) -> tuple[pa.Field, pa.Array]:
    if column.dtype.kind == "M":
        column = pa.array(column).cast(pa.timestamp("us", "UTC"))
    return as_field(column, name, f"column {name!r}")
