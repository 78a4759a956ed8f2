"""Frames in memory: what pandas, polars, Arrow and mappings of columns have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from narwhals.stable.v2 import dependencies

from mlflow_timescale.common.errors import InvalidFrame
from mlflow_timescale.common.frames import joining
from mlflow_timescale.common.frames.columns import (
    Column,
    Columns,
    as_column,
    as_field,
    flat,
    pandas_column,
    polars_column,
    refuse_duplicates,
)
from mlflow_timescale.common.frames.structures import JSON, load_json
from mlflow_timescale.common.text import refusal


class InMemory(ABC):
    """A frame of one library. `library` is the kind of frame that `join` returns."""

    library: str
    index: tuple[str, ...] = ()

    def __init__(self, native: Any) -> None:
        self.native = native
        self.names = self._names()
        refuse_duplicates(self.names)

    def __len__(self) -> int:
        return len(self.native)

    def columns(self) -> Columns:
        """All columns; those of pandas and polars share its memory where Arrow can."""
        columns = Columns({name: self.read(i) for i, name in enumerate(self.names)})
        columns.index = self.index
        return columns

    def column(self, name: str) -> Column:
        """One column; raises InvalidFrame if there is none of that name."""
        positions = Columns({other: i for i, other in enumerate(self.names)})
        positions.index = self.index
        return self.read(positions[name])

    def batches(self, values: int) -> Iterator[Columns]:
        """The columns of slices of about `values` values; of no rows, one empty slice."""
        rows = max(1, values // max(1, len(self.names)))
        if len(self) <= rows:
            yield self.columns()
            return
        for first in range(0, len(self), rows):
            yield type(self)(self.native[first : first + rows]).columns()

    def table(self) -> pa.Table:
        """An Arrow table; raises InvalidFrame for objects that Arrow cannot hold."""
        fields = [as_field(c, name, f"column {name!r}") for name, c in self.columns().items()]
        schema = pa.schema([entry for entry, _ in fields])
        return pa.Table.from_arrays([array for _, array in fields], schema=schema)

    @abstractmethod
    def read(self, position: int) -> Column:
        """The column at a position."""

    @abstractmethod
    def join(self, columns: Mapping[str, Any]) -> Any:
        """The native frame with more columns."""

    @abstractmethod
    def _names(self) -> list[str]: ...


class PandasFrame(InMemory):
    """A pandas frame. Levels of its index that are among `keys` are its first columns."""

    library = "pandas"

    def __init__(self, native: Any, keys: Collection[str] = ()) -> None:
        self._keys = keys
        super().__init__(native)

    def _names(self) -> list[str]:
        own = [str(name) for name in self.native.columns]
        levels = [str(name) for name in self.native.index.names]
        self._levels = [
            i for i, name in enumerate(levels) if name in self._keys and name not in own
        ]
        named = enumerate(self.native.index.names)
        self.index = tuple(
            str(name) for i, name in named if name is not None and i not in self._levels
        )
        return [*(levels[i] for i in self._levels), *own]

    def columns(self) -> Columns:
        """All columns, with the names of their time zones."""
        columns = super().columns()
        levels = {
            self.names[i]: self.native.index.get_level_values(level).dtype
            for i, level in enumerate(self._levels)
        }
        kinds = {**levels, **{str(name): kind for name, kind in self.native.dtypes.items()}}
        zones = {name: getattr(kind, "tz", None) for name, kind in kinds.items()}
        columns.zones = {name: str(zone) for name, zone in zones.items() if zone is not None}
        return columns

    def batches(self, values: int) -> Iterator[Columns]:
        """Slices by position, whatever the index is."""
        rows = max(1, values // max(1, len(self.names)))
        for first in range(0, max(1, len(self)), rows):
            yield PandasFrame(self.native.iloc[first : first + rows], self._keys).columns()

    def read(self, position: int) -> Column:
        if position < len(self._levels):
            level = self.native.index.get_level_values(self._levels[position])
            return pandas_column(level.to_series(index=range(len(level))))
        return pandas_column(self.native.iloc[:, position - len(self._levels)])

    def join(self, columns: Mapping[str, Any]) -> Any:
        return joining.join_pandas(self.native, columns)


class PolarsFrame(InMemory):
    """A polars frame."""

    library = "polars"

    def _names(self) -> list[str]:
        return list(self.native.columns)

    def read(self, position: int) -> Column:
        return polars_column(self.native.to_series(position))

    def join(self, columns: Mapping[str, Any]) -> Any:
        return joining.join_polars(self.native, columns)


class ArrowFrame(InMemory):
    """An Arrow table or record batch; columns that are marked as JSON text are read as objects."""

    library = "arrow"

    def _names(self) -> list[str]:
        return list(self.native.schema.names)

    def read(self, position: int) -> Column:
        column = flat(self.native.column(position))
        is_json = self.native.schema.field(position).metadata == JSON
        return _structures(column) if is_json and not pa.types.is_nested(column.type) else column

    def table(self) -> pa.Table:
        """The table itself, with its chunks."""
        if isinstance(self.native, pa.RecordBatch):
            return pa.Table.from_batches([self.native])
        return self.native

    def join(self, columns: Mapping[str, Any]) -> Any:
        return joining.join_arrow(self.table(), columns)


class MappingFrame(InMemory):
    """A mapping of names to columns; its training sets are pandas frames."""

    library = "pandas"

    def _names(self) -> list[str]:
        self._columns = [as_column(column, f"column {n!r}") for n, column in self.native.items()]
        names = [str(name) for name in self.native]
        lengths = {name: len(c) for name, c in zip(names, self._columns, strict=True)}
        if len(set(lengths.values())) > 1:
            raise InvalidFrame(f"columns have different lengths: {lengths}")
        return names

    def __len__(self) -> int:
        return len(self._columns[0]) if self._columns else 0

    def batches(self, values: int) -> Iterator[Columns]:
        """Slices of the columns."""
        rows = max(1, values // max(1, len(self.names)))
        for first in range(0, max(1, len(self)), rows):
            parts = (column[first : first + rows] for column in self._columns)
            yield Columns(zip(self.names, parts, strict=True))

    def read(self, position: int) -> Column:
        return self._columns[position]

    def join(self, columns: Mapping[str, Any]) -> Any:
        import pandas as pd

        pairs = zip(self.names, self.native.values(), self._columns, strict=True)
        own = {name: _pandas_values(native, column) for name, native, column in pairs}
        return joining.join_pandas(pd.DataFrame(own), columns)


def _named(series: Any) -> Any:
    if series.name is None:
        raise InvalidFrame(
            "cannot read the Series: it has no name for its column; give it one: .rename('factor')"
        )
    return series


def _structures(column: pa.Array) -> Column:
    values = np.empty(len(column), dtype=object)
    values[:] = [None if text is None else load_json(text) for text in column.to_pylist()]
    return values


def _pandas_values(native: Any, column: Column) -> Any:
    """A column of a mapping for pandas; what Arrow has no type for is kept as it is."""
    if isinstance(column, pa.Array):
        return column.to_pandas()
    if isinstance(native, np.ndarray):
        return native
    return _as_objects(column) if _has_surrogate(column) else column


def _has_surrogate(column: Column) -> bool:
    texts = (value for value in column if isinstance(value, str) and not value.isascii())
    return any(refusal(text) for text in texts)


def _as_objects(column: Column) -> Any:
    """A series of objects: the texts of pandas hold no lone surrogates."""
    import pandas as pd

    return pd.Series(column, dtype=object)


def in_memory(source: Any, keys: Collection[str] = ()) -> InMemory | None:
    """The frame of an object that holds its columns in memory; None for any other object.

    Levels of a pandas index that are among `keys` are columns.
    """
    if dependencies.is_pandas_dataframe(source):
        return PandasFrame(source, keys)
    if dependencies.is_pandas_series(source):
        return PandasFrame(_named(source).to_frame(), keys)
    if dependencies.is_polars_dataframe(source):
        return PolarsFrame(source)
    if isinstance(source, (pa.Table, pa.RecordBatch)):
        return ArrowFrame(source)
    return MappingFrame(source) if isinstance(source, Mapping) else None
