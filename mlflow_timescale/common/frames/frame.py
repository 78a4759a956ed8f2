"""`Frame`: a frame of any library, or a file, read as Arrow and joined in its own library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import narwhals.stable.v2 as nw
import numpy.typing as npt
import pyarrow as pa

from mlflow_timescale.common.errors import InvalidFrame
from mlflow_timescale.common.frames import joining
from mlflow_timescale.common.frames.columns import Column, Columns
from mlflow_timescale.common.frames.memory import ArrowFrame, InMemory
from mlflow_timescale.common.frames.sources import collect, parts


class Frame:
    """A frame of any kind as Arrow columns: in batches of bounded size, or whole.

    Parameters
    ----------
    source
        A pandas frame or series; a polars frame (also a LazyFrame); an Arrow table, batch, reader
        or dataset; any object with `__arrow_c_stream__`, such as a DuckDB relation, or with
        `to_arrow`, such as a snapshot; any other frame that narwhals reads, such as a Dask frame; a
        mapping of names to lists; the path of a CSV file (also compressed), of a Parquet or Feather
        file, or of a directory of them; an iterable of any of these.
    text
        The columns that hold identifiers. A CSV file, or a directory `name=value`, gives them as
        they are written: 000001, 1.10, TRUE and NA are texts. Other sources have types already.
    keys
        The columns that may be levels of the index of a pandas frame, as alphalens and qlib have
        them. They are read like columns; results keep the index.

    Reading raises InvalidFrame for any other source, and for a file that cannot be read.

    Examples
    --------
    >>> frame = Frame({"entity_key": ["AAPL", "MSFT"], "rsi_14": [62.5, 40.0]})
    >>> [batch["rsi_14"].tolist() for batch in frame.batches(values=2)]
    [[62.5], [40.0]]
    """

    def __init__(self, source: Any, *, text: Iterable[str] = (), keys: Iterable[str] = ()) -> None:
        self._source = nw.to_native(source, pass_through=True)
        self._text = frozenset(text)
        self._keys = frozenset(keys)

    def __len__(self) -> int:
        return len(self._memory)

    def batches(self, values: int) -> Iterator[Columns]:
        """The columns in batches of about `values` values, at least a row each.

        Files, queries and streams are read while the batches are taken, and are never in memory
        as a whole. A frame without rows gives one empty batch, an iterable without frames none.

        >>> table = pa.table({"a": range(5), "b": range(5)})
        >>> [len(batch["a"]) for batch in Frame(table).batches(values=4)]
        [2, 2, 1]
        """
        for part in parts(self._source, self._text, values, self._keys):
            yield from part.batches(values)

    @property
    def names(self) -> list[str]:
        """The names of the columns, in order."""
        return self._memory.names

    def column(self, name: str) -> Column:
        """One column; raises InvalidFrame if there is none of that name.

        >>> Frame(pa.table({"a": [1.0], "b": [2.0]})).column("b").to_pylist()
        [2.0]
        """
        return self._memory.column(name)

    def columns(self) -> Columns:
        """All columns.

        >>> Frame([pa.table({"a": [1.0]}), pa.table({"a": [2.0]})]).columns()["a"].to_pylist()
        [1.0, 2.0]
        """
        return self._memory.columns()

    def table(self) -> pa.Table:
        """All columns as an Arrow table; raises InvalidFrame for objects that Arrow cannot hold.

        >>> Frame({"entity_key": ["AAPL"]}).table().schema
        entity_key: string
        """
        return self._memory.table()

    def join(self, columns: Mapping[str, npt.NDArray[Any]], output: str | None = None) -> Any:
        """The frame with more columns: arrays of shape (rows,) in its order; datetime64 is UTC.

        `output` is "pandas", "arrow" or "polars". By default it is the library of the frame: pandas
        for mappings and files, Arrow for streams and other libraries. Where the library stays the
        same, the index and the frame's own columns are kept untouched. Raises InvalidFrame if the
        frame has a column of that name.

        >>> import numpy as np
        >>> spine = pa.table({"entity_key": ["AAPL"]})
        >>> Frame(spine).join({"rsi_14": np.array([62.5])}).to_pylist()
        [{'entity_key': 'AAPL', 'rsi_14': 62.5}]
        """
        taken = sorted(set(columns) & set(self.names))
        if taken:
            raise InvalidFrame(
                f"the frame has columns named {', '.join(taken)} already; rename them"
            )
        memory, library = self._collected
        output = output or library
        joining.check_output(output)
        if output == memory.library:
            return memory.join(columns)
        if output == "pandas":
            return joining.join_pandas(memory.table().to_pandas(), columns)
        joined = ArrowFrame(memory.table()).join(columns)
        return joined if output == "arrow" else joining.to_polars(joined)

    @cached_property
    def _collected(self) -> tuple[InMemory, str]:
        return collect(self._source, self._text, self._keys)

    @property
    def _memory(self) -> InMemory:
        return self._collected[0]
