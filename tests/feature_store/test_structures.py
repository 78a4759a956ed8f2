"""Vectors, mappings and large numbers: every library writes and reads the same content."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.databases import cloned

from feature_store import FeatureStore, InvalidValue, Lake
from feature_store.files.fingerprint import fingerprint
from feature_store.files.snapshots import load_snapshot, rebuild
from feature_store.values.encoding import column_values, to_json
from feature_store.values.points import one_row
from mlflow_timescale.common.frames import Frame, is_structure, load_json, make_frame
from mlflow_timescale.common.frames.columns import objects
from mlflow_timescale.db.uri import DatabaseURI

START = datetime(2024, 1, 2, 21, tzinfo=timezone.utc)
NOW = timedelta(0)
OUTPUTS = ("pandas", "arrow", "polars")

COLUMNS: dict[str, list[Any]] = {
    "large floats": [[1e20, 0.5], [1e22], [1e300, -1e16]],
    "floats between 2**53 and 1e16": [[9.1e15], [2.0**53], [-9.9e15]],
    "whole and other floats": [[1.0, 2.0], [0.5], [-0.0]],
    "small floats": [[1e-7], [5e-324], [1.7976931348623157e308]],
    "vectors of integers and of floats": [[1, 2], [0.5], [2**53]],
    "vectors with nulls": [[1.0, None], [None], []],
    "vectors of booleans": [[True, False], [], [True]],
    "vectors of texts": [["a", "ü"], [], [""]],
    "matrices": [[[1.0, 2.0], [3.0]], [[0.5]], []],
    "vectors of several depths": [[1.0], [[1.0]], [[[1.0]]]],
    "vectors of several kinds": [[1, "a"], [True], [0.5]],
    "mappings with other keys": [{"a": 1}, {"b": 2}, {}],
    "mappings with other kinds": [{"a": 1.0}, {"a": "x"}, {"a": [1e20, {"b": None}]}],
    "mappings that hold nulls": [{"a": None}, {"a": 1}, {"b": [None, 1]}],
    "numbers and vectors": [1.0, [1, 2], 0.5],
    "numbers and mappings": [float("nan"), {"a": 1.5}, 1e20],
    "vectors and mappings": [[1.0], {"a": 1.0}, [{"a": 1}, {"b": 2}]],
}


def rows(values: list[Any]) -> dict[str, list[Any]]:
    times = [START + timedelta(days=i) for i in range(len(values))]
    return {"entity_key": ["A"] * len(values), "event_time": times, "x": values}


def plain(frame: Any, name: str) -> list[Any]:
    """The values of a column as Python objects; JSON text is parsed, NaN is None."""
    column = frame[name]
    items = column.to_pylist() if isinstance(frame, pa.Table) else column.to_list()
    parsed = [load_json(item) if isinstance(item, str) else item for item in items]
    return [None if isinstance(item, float) and item != item else _listed(item) for item in parsed]


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, (list, pl.Series)) else value


def spine(count: int) -> list[tuple[str, datetime]]:
    return [("A", START + timedelta(days=i)) for i in range(count)]


@pytest.fixture(scope="module")
def filled(server: DatabaseURI, template: str) -> Iterator[FeatureStore]:
    """A store that has every kind of structure, each as a feature of that name."""
    with cloned(server, template) as database, FeatureStore(database) as store:
        for kind, values in COLUMNS.items():
            frame = {kind if name == "x" else name: v for name, v in rows(values).items()}
            assert store.write_frame(frame, availability_lag=NOW) == len(values)
        yield store


@pytest.mark.parametrize("kind", COLUMNS)
def test_every_output_has_the_content_that_was_written(filled: FeatureStore, kind: str) -> None:
    expected = [None if isinstance(v, float) and v != v else v for v in COLUMNS[kind]]
    frames = {o: filled.training_frame(spine(3), [kind], output=o) for o in OUTPUTS}
    for output, frame in frames.items():
        assert plain(frame, kind) == expected, output
    assert len({fingerprint(frame) for frame in frames.values()}) == 1
    assert plain(filled.history("A", kind, output="arrow"), "value") == expected
    assert plain(filled.explain(spine(3), [kind], output="polars"), "value") == expected
    now = filled.get_latest("A", [kind])[kind].value
    assert (now != now or now) == (expected[-1] is None or expected[-1])


def test_a_snapshot_and_a_lake_have_the_content_and_one_fingerprint(
    filled: FeatureStore, tmp_path: Path
) -> None:
    written = filled.snapshot(spine(3), list(COLUMNS), tmp_path / "snapshot")
    read = load_snapshot(tmp_path / "snapshot")
    live = filled.training_frame(spine(3), list(COLUMNS))
    filled.export(tmp_path / "lake")
    lake = Lake(tmp_path / "lake").training_frame(spine(3), list(COLUMNS))
    for kind in COLUMNS:
        assert plain(read.to_pandas(), kind) == plain(live, kind) == plain(lake, kind)
    same = [read.to_pandas(), read.to_arrow(), read.to_polars(), live, lake]
    assert {fingerprint(frame) for frame in same} == {written.fingerprint}
    assert rebuild(filled.database, read) == written.fingerprint


def libraries(values: list[Any]) -> dict[str, Any]:
    """One frame in each library that holds the values unchanged."""
    frames: dict[str, Any] = {"mapping": rows(values)}
    builders = {"pandas": pd.DataFrame, "arrow": pa.table, "polars": pl.DataFrame}
    for name, build in builders.items():
        try:
            frame = build(rows(values))
        except (Exception, pl.exceptions.PanicException):
            continue
        if repr(_absent(plain(frame, "x"))) == repr(_absent(_listed(values))):
            frames[name] = frame
    return frames


def _absent(value: Any) -> Any:
    """A value without null fields, which Arrow and polars add to mappings."""
    if isinstance(value, dict):
        return {key: _absent(item) for key, item in value.items() if item is not None}
    return [_absent(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kind", COLUMNS)
def test_every_library_gives_the_same_points(kind: str) -> None:
    for name, frame in libraries(COLUMNS[kind]).items():
        values = column_values(Frame(frame).column("x"), "x")
        texts = [None] * 3 if values.json is None else values.json
        numbers = [None if number != number else number for number in values.number]
        stored = [
            number if text is None else load_json(text)
            for text, number in zip(texts, numbers, strict=True)
        ]
        expected = _absent([None if v != v else v for v in COLUMNS[kind]])
        assert _absent(stored) == expected, name


def test_an_arrow_map_is_a_mapping(store: FeatureStore) -> None:
    kind = pa.map_(pa.string(), pa.float64())
    frame = pa.table(rows([None] * 2)).set_column(
        2, "x", pa.array([[("a", 1.0)], [("b", None)]], kind)
    )
    store.write_frame(frame, availability_lag=NOW)
    answer = store.training_frame(spine(2), ["x"])
    assert answer["x"].tolist() == [{"a": 1.0}, {"b": None}]
    twice = frame.set_column(2, "x", pa.array([[("a", 1.0), ("a", 2.0)], None], kind))
    with pytest.raises(InvalidValue, match="repeated key"):
        store.write_frame(twice, availability_lag=NOW)


def test_an_arrow_training_set_can_be_written_again(store: FeatureStore) -> None:
    store.write_frame(rows([{"a": 1}, {"b": 1e20}, {}]), availability_lag=NOW)
    frame = store.training_frame(spine(3), ["x"], output="arrow")
    again = frame.rename_columns(["entity_key", "event_time", "x"])
    assert store.write_frame(again, availability_lag=NOW) == 0


BIG = 2**53 + 1
REFUSED: dict[str, Any] = {
    "complex": 1 + 2j,
    "complex of numpy": np.complex128(1 + 2j),
    "integer": BIG,
    "integer of numpy": np.int64(-BIG),
    "unsigned": np.uint64(2**64 - 1),
    "decimal": Decimal(BIG),
    "decimal with a fraction": Decimal("-9007199254740993.5"),
    "large decimal": Decimal("1E+400"),
    "long double": np.longdouble(2**53) + 1,
    "infinite decimal": Decimal("Infinity"),
    "infinity": float("inf"),
    "duration": timedelta(days=1),
    "duration of numpy": np.timedelta64(1, "ns"),
    "duration of pandas": pd.Timedelta(1, "D"),
    "time": START,
    "time of numpy": np.datetime64("2024-01-02"),
    "integer in a vector": [1, BIG],
    "integer in a mapping": {"a": {"b": BIG}},
    "complex in a vector": np.array([1 + 2j]),
    "durations in a vector": np.array([1], dtype="m8[ns]"),
    "times in a vector": np.array(["2024-01-02"], dtype="M8[ns]"),
    "duration in a mapping": {"a": np.timedelta64(1, "ns")},
    "NaN in a vector": [float("nan")],
    "infinity in a vector": np.array([np.inf]),
    "keys that become one": {1: "a", "1": "b"},
    "keys of other types": {1.5: "a"},
    "set": {1, 2},
    "object": object(),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_neither_a_double_nor_json_can_hold_is_refused(kind: str) -> None:
    value = REFUSED[kind]
    with pytest.raises(InvalidValue):
        one_row("A", START, {"x": value}, None)
    for frame in [*libraries([value]).values(), *libraries([value, 1.0]).values()]:
        with pytest.raises(InvalidValue):
            column_values(Frame(frame).column("x"), "x")


def test_typed_columns_refuse_what_a_double_cannot_hold() -> None:
    decimals = [pa.decimal128(20, 0), pa.decimal128(20, 2), pa.decimal256(40, 3)]
    columns = [pa.array([Decimal(BIG)], kind) for kind in decimals]
    columns += [
        pa.array([BIG], pa.uint64()),
        pa.array([timedelta(1)], pa.duration("us")),
        pd.Series([1 + 2j]),
        pd.Series(np.array([2**53], dtype=np.longdouble) + 1),
        pd.Series(pd.arrays.SparseArray([BIG])),
        pd.Series([BIG], dtype="Int64"),
        pd.Series([Decimal(BIG)], dtype=pd.ArrowDtype(pa.decimal128(20, 0))),
        pd.Series([pd.Timedelta(1, "D")]),
        pd.Series(pd.period_range("2024-01", periods=1, freq="M")),
        pl.Series([BIG], dtype=pl.Int128),
        pl.Series([Decimal(BIG)], dtype=pl.Decimal(20, 0)),
        pl.Series([timedelta(1)]),
        pl.Series([object()], dtype=pl.Object),
    ]
    for column in columns:
        with pytest.raises(InvalidValue):
            column_values(Frame({"x": column}).column("x"), "x")


ACCEPTED: dict[str, Any] = {
    "decimal": pa.array([Decimal("0.25")]),
    "half": np.array([0.25], dtype=np.float16),
    "long double": np.array([0.25], dtype=np.longdouble),
    "array without dimensions": [np.array(0.25)],
    "dictionary": pa.array([0.25]).dictionary_encode(),
    "runs": pa.compute.run_end_encode(pa.array([0.25])),
    "sparse": pd.Series(pd.arrays.SparseArray([0.25])),
    "masked": np.ma.masked_array([0.25], mask=[False]),
    "nullable": pd.Series([0.25], dtype="Float64"),
    "on Arrow": pd.Series([Decimal("0.25")], dtype=pd.ArrowDtype(pa.decimal128(5, 2))),
    "decimal of polars": pl.Series([Decimal("0.25")]),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_a_number_is_read_from_every_type_that_holds_one(kind: str) -> None:
    assert column_values(Frame({"x": ACCEPTED[kind]}).column("x"), "x").number.tolist() == [0.25]


def test_a_decimal_that_is_no_number_is_undefined() -> None:
    points = one_row("A", START, {"x": Decimal("NaN"), "y": Decimal("sNaN")}, None)
    assert np.isnan(points.value).all()


def test_vectors_of_every_arrow_list_type_are_vectors() -> None:
    kinds = [pa.list_(pa.float32()), pa.large_list(pa.int16()), pa.list_(pa.float64(), 2),
             pa.list_view(pa.float64()), pa.large_list_view(pa.float64())]  # fmt: skip
    for kind in kinds:
        values = column_values(pa.array([[1, 2]], kind), "x")
        assert values.json is not None
        assert load_json(values.json[0]) == [1, 2]


def test_a_structure_that_contains_itself_is_refused() -> None:
    endless: list[Any] = [1.0]
    endless.append(endless)
    with pytest.raises(InvalidValue, match="contains itself"):
        one_row("A", START, {"x": endless}, None)


NUMBER = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**53), 2**53),
    st.booleans(),
)
TEXT = st.text(max_size=3, alphabet='aü{[" \\')
PART = st.recursive(
    st.one_of(NUMBER, st.none(), TEXT),
    lambda part: st.one_of(st.lists(part, max_size=3), st.dictionaries(TEXT, part, max_size=3)),
    max_leaves=6,
)
VALUE = st.one_of(
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(NUMBER, max_size=3),
    st.lists(st.lists(NUMBER, max_size=2), max_size=2),
    st.lists(PART, max_size=3),
    st.dictionaries(TEXT, PART, max_size=3),
)


@settings(max_examples=200, deadline=None)
@example([[[], ""]])
@example([["", None], [True]])
@given(st.lists(VALUE, min_size=1, max_size=4))
def test_any_content_is_the_same_in_every_library(values: list[Any]) -> None:
    """As the store reads it: floats from 1e16 on come from PostgreSQL as digits."""
    read = [v if not is_structure(v) else load_json(to_json(v, "x")) for v in values]
    has_structure = any(is_structure(value) for value in read)
    frames = {output: make_frame({"x": objects(read)}, output) for output in OUTPUTS}
    for frame in frames.values():
        column = frame["x"]
        items = column.to_pylist() if isinstance(frame, pa.Table) else column.to_list()
        back = [load_json(v) if isinstance(v, str) and has_structure else v for v in items]
        back = [None if isinstance(v, float) and v != v else _listed(v) for v in back]
        assert repr(_floats(back)) == repr(_floats(read))
    assert len({fingerprint(frame) for frame in frames.values()}) == 1


def _floats(value: Any) -> Any:
    """A value with floats for its integers, which vectors in Arrow have."""
    if isinstance(value, dict):
        return {key: _floats(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [_floats(item) for item in value]
    return float(value) + 0.0 if type(value) in (int, float) else value
