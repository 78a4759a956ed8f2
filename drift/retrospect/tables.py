"""Tables as columns with names: pickled frames, Parquet, CSV, JSON of `mlflow.log_table`.

The caller names the columns, or they are guessed from usual names. Each choice is a note; if no
column fits, the error lists the columns of the table.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from mlflow_timescale.common.frames import Columns as Batch
from mlflow_timescale.common.frames import Frame, InvalidFrame, Labels, read_pickled_frame

from ..metrics.arrays import Floats
from .cells import Cells, Unusable
from .panels import make_cells

__all__ = ["PICKLES", "TABLES", "Names", "cells_of", "forward_returns", "read_table"]

TABLES = (".parquet", ".csv", ".json", ".csv.gz")
PICKLES = (".pkl", ".pickle")
_WIDE = 3  # columns of numbers from which a table may have one for each name
_LISTED = 20  # columns that an error lists
GUESSES: Mapping[str, tuple[str, ...]] = {
    "time": (
        *("datetime", "date", "session", "tradedate", "signaltime", "eventtime", "timestamp"),
        *("time", "day", "asof"),
    ),
    "entity": (
        *("instrument", "entitykey", "entity", "symbol", "ticker", "asset", "stock", "secid"),
        *("security", "permno", "isin", "code", "name", "id"),
    ),
    "score": (
        *("score", "signal", "prediction", "predictions", "pred", "ypred", "yhat", "forecast"),
        *("factor", "alpha"),
    ),
    "label": (
        *("label", "label0", "forwardreturn", "fwdreturn", "fwdret", "return", "returns", "ret"),
        *("target", "ytrue", "realized", "actual", "y"),
    ),
    "price": ("adjclose", "adjustedclose", "close", "price", "pxlast", "last", "settle"),
}


@dataclass(frozen=True)
class Names:
    """The columns that were named; None for those that are guessed.

    `wide`: a table without a column of names has a column for each name.
    """

    entity: str | None = None
    time: str | None = None
    score: str | None = None
    label: str | None = None
    price: str | None = None
    wide: bool = False

    @property
    def texts(self) -> set[str]:
        """Columns of a CSV file that are read as text, so that the name 000001 keeps its zeros."""
        forms = {form(name) for name in GUESSES["entity"] for form in (str, str.title, str.upper)}
        return forms | ({self.entity} if self.entity else set())


def read_table(data: bytes, name: str, names: Names) -> dict[str, Labels]:
    """The columns of a file by name; a pickled frame has the levels of its index, too.

    Parameters
    ----------
    data
        The content of the file.
    name
        The name of the file; its suffix is its format.
    names
        The names of columns that the caller gave.

    Raises
    ------
    InvalidFrame
        The file cannot be read, or is refused.
    """
    low = name.lower()
    if low.endswith(PICKLES):
        return _of_pickle(data, name)
    if low.endswith(".json"):
        return _of_batch(Frame(_of_json(data, name)).columns())
    if not data:
        raise InvalidFrame(f"cannot read {name}: the file is empty")
    if not low.endswith(TABLES):
        raise InvalidFrame(f"{name} is no table: give one of {', '.join((*TABLES, *PICKLES))}")
    if low.endswith(".csv"):
        _require_commas(data, name)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, PurePosixPath(name).name)
        path.write_bytes(data)
        try:
            return _of_batch(Frame(path, text=names.texts).columns())
        except InvalidFrame as exc:
            raise InvalidFrame(str(exc).replace(f"{scratch}/", "")) from exc


def _require_commas(data: bytes, name: str) -> None:
    header = data.split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    if "," not in header and (other := next((c for c in ";\t|" if c in header), None)):
        raise InvalidFrame(
            f"cannot read {name}: its columns are separated by {other!r}; write it with commas, "
            "and decimals with points (pandas: to_csv)"
        )


def cells_of(
    table: Mapping[str, Labels],
    role: str,
    names: Names,
    what: str,
    *,
    beside: str | None = None,
) -> tuple[Cells, list[str]]:
    """The cells of a column, and how it was found.

    Parameters
    ----------
    table
        As `read_table` returns it.
    role
        "score", "label" or "price".
    names
        The names of columns that the caller gave.
    what
        The file, for errors.
    beside
        The role of another column of the table, which is not taken; a label beside a score has
        its usual name, or is named.

    Raises
    ------
    Unusable
        A column is missing or cannot be used; the message lists the columns of the table.
    """
    if table and not any(map(len, table.values())):
        raise Unusable(f"{what} has no rows")
    time = _column(table, "time", names, what, set())
    if names.wide and _is_wide(table, names, time):
        return melted(table, time, role, what)
    entity = _column(table, "entity", names, what, {time})
    taken = {time, entity}
    if beside is not None:
        taken.add(_column(table, beside, names, what, taken))
    value = _column(table, role, names, what, taken, by_kind=beside is None)
    notes = [f"{what}: time={time}, entity={entity}, {role}={value}"]
    if role == "label" and names.label is None and beside is None:
        others = [c for c in table if c not in (time, entity, value) and _is_number(table[c])]
        if others:
            text = ", ".join(others[:5])
            notes.append(f"{what} has several columns of numbers: {value} is taken, not {text}")
    cells = make_cells(table[time], table[entity], table[value], f"{role} {value!r}")
    return cells, notes


def melted(table: Mapping[str, Labels], time: str, role: str, what: str) -> tuple[Cells, list[str]]:
    """The cells of a table with a column for each name, and how they were found.

    Examples
    --------
    >>> days = Labels("date", np.array(["2024-01-02", "2024-01-03"], dtype="M8[us]"))
    >>> table = {"date": days, "A": Labels("A", np.ones(2)), "B": Labels("B", np.zeros(2))}
    >>> cells, notes = melted(table, "date", "score", "wide.csv")
    >>> cells.values.tolist(), notes
    ([1.0, 0.0, 1.0, 0.0], ['wide.csv: time=date, a column for each of 2 names'])
    """
    columns = [name for name in table if name != time and _is_number(table[name])]
    times, size = table[time], len(columns)
    codes = np.arange(len(times)) if times.codes is None else times.codes
    rows = np.tile(np.arange(size), len(times))
    values = np.column_stack([_values(table[name]) for name in columns]).ravel()
    cells = make_cells(
        replace(times, codes=np.repeat(codes, size)),
        Labels("name", np.array(columns, dtype=object), rows),
        Labels(role, values),
        role,
    )
    return cells, [f"{what}: time={time}, a column for each of {size:,} names"]


def forward_returns(prices: Cells, horizon: int) -> Cells:
    """Labels from prices: from each session's price to that of `horizon` sessions later.

    Parameters
    ----------
    prices
        Prices by session and name; a price that is not positive counts as missing.
    horizon
        Sessions of the prices.

    Raises
    ------
    Unusable
        No price is above zero, or the sessions are too few.

    Examples
    --------
    >>> days = np.array(["2024-01-02", "2024-01-03", "2024-01-04"], dtype="M8[D]")
    >>> cells = Cells(days, np.zeros(3, dtype=int), ("A",), np.array([10.0, 11.0, 22.0]))
    >>> forward_returns(cells, 1).values.round(3).tolist()
    [0.1, 1.0, nan]
    """
    if not (prices.values > 0).any():
        raise Unusable("no price is above zero")
    sessions, rows = np.unique(prices.sessions, return_inverse=True)
    if horizon >= len(sessions):
        raise Unusable(
            f"the prices have {len(sessions):,} sessions: returns over {horizon:,} need more"
        )
    columns, names = np.unique(prices.names, return_inverse=True)
    matrix = np.full((len(sessions), len(columns)), np.nan)
    matrix[rows, names] = np.where(prices.values > 0, prices.values, np.nan)
    later = np.full_like(matrix, np.nan)
    later[:-horizon] = matrix[horizon:]
    values: Floats = (later / matrix - 1)[rows, names]
    return replace(prices, values=values)


def _column(
    table: Mapping[str, Labels],
    role: str,
    names: Names,
    what: str,
    taken: set[str],
    *,
    by_kind: bool = True,
) -> str:
    """The name of the column of a role."""
    given = getattr(names, role)
    free = [name for name in table if name not in taken]
    if given is not None:
        if given not in table:
            raise Unusable(f"{what} has no column {given!r}; it has {_listed(table)}")
        if given not in free:
            raise Unusable(
                f"{what}: the column {given!r} of --{role} is taken for another role; it has "
                f"{_listed(table)}"
            )
        return str(given)
    for guess in GUESSES[role]:
        if matching := [name for name in free if _plain(name) == guess]:
            return matching[0]
    if by_kind and (only := _by_kind(table, role, free)) is not None:
        return only
    advice = ""
    if role == "entity" and sum(_is_number(table[name]) for name in free) >= _WIDE:
        advice = " (if it has a column for each name, give --wide)"
    elif role == "label" and not by_kind:
        advice = " (or give --prices)"
    raise Unusable(
        f"{what} has no column that looks like the {role}; name one with --{role}: it has "
        f"{_listed(table)}{advice}"
    )


def _is_wide(table: Mapping[str, Labels], names: Names, time: str) -> bool:
    others = [name for name in table if name != time]
    return names.entity not in table and not any(_is_text(table[name]) for name in others)


def _by_kind(table: Mapping[str, Labels], role: str, free: Sequence[str]) -> str | None:
    """The only column with the data type of a role: times, texts, or numbers."""
    is_kind = {"time": _is_time, "entity": _is_text}.get(role, _is_number)
    matching = [name for name in free if is_kind(table[name])]
    if role == "score" and len(matching) > 1:
        return None
    if role == "label" and matching:  # qlib may write several, named by their expressions
        return matching[0]
    return matching[0] if len(matching) == 1 else None


def _is_time(labels: Labels) -> bool:
    if labels.values.dtype.kind == "M":
        return True
    sample = next((value for value in labels.values.tolist() if value is not None), None)
    return hasattr(sample, "isoformat")


def _is_text(labels: Labels) -> bool:
    return labels.values.dtype.kind == "O" and not _is_time(labels)


def _values(labels: Labels) -> Floats:
    values = labels.values if labels.codes is None else labels.values[labels.codes]
    return values.astype(np.float64)


def _is_number(labels: Labels) -> bool:
    return not labels.unread and labels.values.dtype.kind in "iuf"


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _listed(table: Mapping[str, Labels]) -> str:
    shown = [name or "(no name)" for name in list(table)[:_LISTED]]
    more = f" and {len(table) - _LISTED:,} more" if len(table) > _LISTED else ""
    return f"{', '.join(shown)}{more}" if shown else "no columns"


def _of_pickle(data: bytes, name: str) -> dict[str, Labels]:
    frame = read_pickled_frame(data, name)
    columns: dict[str, Labels] = {}
    for number, labels in enumerate((*frame.index, *frame.columns)):
        label = labels.name or (f"level {number}" if number < len(frame.index) else "value")
        columns[label if label not in columns else f"{label} {number}"] = labels
    return columns


def _of_json(data: bytes, name: str) -> dict[str, list[Any]]:
    """The columns of a table that `mlflow.log_table` wrote."""
    try:
        content = json.loads(data)
        columns, rows = list(content["columns"]), list(content["data"])
        if not all(isinstance(row, list) and len(row) == len(columns) for row in rows):
            raise ValueError("a row has another length")
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise InvalidFrame(f"cannot read {name}: it is no table of mlflow.log_table") from exc
    return {str(column): [row[i] for row in rows] for i, column in enumerate(columns)}


def _of_batch(columns: Batch) -> dict[str, Labels]:
    return {name: _labels(name, column, columns.zone(name)) for name, column in columns.items()}


def _labels(name: str, column: Any, zone: str | None) -> Labels:
    """A column of Arrow, or of Python objects."""
    if isinstance(column, np.ndarray):
        return Labels(name, column)
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = column.dictionary_encode()
    if isinstance(column, pa.DictionaryArray):
        codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        values = np.array([*column.dictionary.to_pylist(), None], dtype=object)[:-1]
        return Labels(name, values, codes)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        moments = column.cast(pa.timestamp("us", kind.tz if pa.types.is_timestamp(kind) else None))
        return Labels(name, moments.to_numpy(zero_copy_only=False).astype("M8[us]"), None, zone)
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return Labels(name, _numeric(column))
    unread = "every value is missing" if pa.types.is_null(kind) else f"{kind} is not read"
    return Labels(name, np.empty(0), unread=unread)


def _numeric(column: pa.Array) -> Any:
    if column.null_count or pa.types.is_boolean(column.type):
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return column.to_numpy(zero_copy_only=False)
