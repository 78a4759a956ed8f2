"""No text of a CSV file runs as a formula in a spreadsheet."""

from __future__ import annotations

import pyarrow as pa
import pytest

from mlflow_timescale.common.frames import without_formulas

FORMULAS = [
    "=1+1",
    "=cmd|' /C calc'!A0",
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1",
    "-",
    "+1e5x",
    "-1\n=2",
]
HARMLESS = ["AAPL", "", "'=1", " =1", "-1", "+1.5e-7", "-.5", "a=b", "株式", "x\n=1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_gets_an_apostrophe(text: str) -> None:
    table, count = without_formulas(pa.table({"entity": [text, None], text: [1.0, -2.0]}))
    assert table.to_pydict() == {"entity": [f"'{text}", None], f"'{text}": [1.0, -2.0]}
    assert count == 2


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_and_numbers_stay(text: str) -> None:
    table, count = without_formulas(pa.table({"entity": [text], "x": [-1.0]}))
    assert (table.to_pydict(), count) == ({"entity": [text], "x": [-1.0]}, 0)


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.dictionary(pa.int8(), pa.string()), pa.string()]
)
def test_texts_of_every_arrow_type(kind: pa.DataType) -> None:
    column = pa.array(["=1", None, "A"]).cast(kind)
    table, count = without_formulas(pa.table({"e": pa.chunked_array([column, column])}))
    assert table["e"].to_pylist() == ["'=1", None, "A"] * 2
    assert count == 2


def test_an_empty_table_stays() -> None:
    table, count = without_formulas(pa.table({"e": pa.array([], pa.string())}))
    assert (table.num_rows, count) == (0, 0)
