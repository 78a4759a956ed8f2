"""CSV files that people open in spreadsheets: no text in them runs as a formula."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

# What OWASP lists under "CSV Injection". Numbers stay: -1.5 is no formula.
_FORMULA = r"^[=+\-@\t\r\n\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}]"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


def without_formulas(table: pa.Table) -> tuple[pa.Table, int]:
    """A table whose texts a spreadsheet shows and does not run, and how many were changed.

    Each text that begins with =, +, -, @, a tab or an end of a line, and is no number, gets a
    leading apostrophe; so do names of columns.

    Examples
    --------
    >>> table, count = without_formulas(pa.table({"=a": ["=1+1", "-2", "AAPL"]}))
    >>> table.to_pydict(), count
    ({"'=a": ["'=1+1", '-2', 'AAPL']}, 2)
    """
    columns, count = [], 0
    for column in table.columns:
        if _is_text(column.type):
            column, changed = _escaped(column)
            count += changed
        columns.append(column)
    names, changed = _escaped(pa.chunked_array([table.column_names], pa.string()))
    return pa.table(columns, names=names.to_pylist()), count + changed


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _escaped(column: Any) -> tuple[Any, int]:
    column = column.cast(pa.large_string())
    is_formula = pc.and_(
        pc.match_substring_regex(column, _FORMULA),
        pc.invert(pc.match_substring_regex(column, _NUMBER)),
    )
    is_formula = pc.fill_null(is_formula, False)
    # Made here: the first scalar of a process imports pandas.
    apostrophe, nothing = (pa.scalar(text, pa.large_string()) for text in ("'", ""))
    quoted = pc.binary_join_element_wise(apostrophe, column, nothing)
    return pc.if_else(is_formula, quoted, column), int(pc.sum(is_formula).as_py() or 0)
