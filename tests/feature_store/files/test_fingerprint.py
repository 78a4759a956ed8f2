"""One fingerprint for one content, whatever holds it."""

from __future__ import annotations

import math
import struct
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.errors import InvalidFrame
from feature_store.files.fingerprint import Fingerprint, fingerprint, parts

UTC = timezone.utc


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    return pd.DataFrame(
        {
            "entity_key": [f"E{i % 7}" for i in range(300)],
            "as_of": pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(range(300), "h"),
            "x": np.where(rng.random(300) < 0.1, np.nan, rng.normal(size=300)),
            "n": rng.integers(-5, 5, 300),
            "flag": rng.random(300) < 0.5,
        }
    )


def test_the_order_of_rows_and_columns_makes_no_difference():
    shuffled = frame().sample(frac=1, random_state=1)[["flag", "x", "as_of", "n", "entity_key"]]
    assert fingerprint(shuffled) == fingerprint(frame())


def test_the_library_makes_no_difference():
    expected = fingerprint(frame())
    assert fingerprint(pl.from_pandas(frame())) == expected
    assert fingerprint(pa.Table.from_pandas(frame())) == expected
    assert fingerprint(frame().convert_dtypes()) == expected
    assert fingerprint(frame().convert_dtypes(dtype_backend="pyarrow")) == expected


def test_the_type_that_holds_a_value_makes_no_difference():
    other = frame().astype({"entity_key": "category", "n": "int16"})
    other["as_of"] = other["as_of"].dt.tz_convert("America/New_York").dt.as_unit("ns")
    assert fingerprint(other) == fingerprint(frame())
    assert fingerprint(frame().astype({"entity_key": object, "n": "float64"})) == fingerprint(
        frame()
    )


def test_the_layout_of_a_parquet_file_makes_no_difference(tmp_path):
    table = pa.Table.from_pandas(frame())
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=17, compression="snappy")
    pl.from_pandas(frame()).write_parquet(tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() != (tmp_path / "b.parquet").read_bytes()
    assert fingerprint(pq.read_table(tmp_path / "a.parquet")) == fingerprint(frame())
    assert fingerprint(pl.read_parquet(tmp_path / "b.parquet")) == fingerprint(frame())


def test_the_payload_of_a_nan_and_the_sign_of_a_zero_make_no_difference():
    odd = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_DEAD_BEEF))[0]
    assert math.isnan(odd)
    assert fingerprint({"x": np.array([odd, -0.0])}) == fingerprint({"x": np.array([0.0, np.nan])})
    assert fingerprint({"x": pa.array([None, 0.0])}) == fingerprint({"x": pa.array([math.nan, 0])})


def test_rows_that_come_in_parts_make_no_difference():
    builder = Fingerprint()
    table = pa.Table.from_pandas(frame())
    for first in (200, 0, 100):
        for part in parts(table.slice(first, 100)):
            builder.add(part)
    assert builder.hexdigest() == fingerprint(frame())
    with pytest.raises(InvalidFrame, match="another"):
        builder.add({"y": pa.array([1.0])})


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.iloc[1:],
        lambda f: pd.concat([f, f.iloc[:1]]),
        lambda f: f.assign(x=f["x"].where(f.index != 5, np.nextafter(f["x"][5], np.inf))),
        lambda f: f.assign(x=f["x"].to_numpy()[::-1]),
        lambda f: f.assign(entity_key=f["entity_key"].where(f.index != 9, "E2 ")),
        lambda f: f.assign(as_of=f["as_of"] + pd.Timedelta(microseconds=1)),
        lambda f: f.assign(flag=~f["flag"]),
        lambda f: f.rename(columns={"x": "y"}),
        lambda f: f.drop(columns="n"),
        lambda f: f.rename(columns={"x": "n", "n": "x"}),
    ],
)
def test_any_change_of_content_makes_a_difference(change):
    assert fingerprint(change(frame())) != fingerprint(frame())


def test_values_of_different_kinds_differ():
    kinds = [
        pa.array([1]), pa.array([True]), pa.array(["1"]), pa.array([b"1"]), pa.array([[1]]),
        pa.array([date(1970, 1, 2)]), pa.array([timedelta(microseconds=1)]),
        pa.array([datetime(1970, 1, 1, 0, 0, 0, 1, UTC)], pa.timestamp("us", "UTC")),
        pa.array([datetime(1970, 1, 1, 0, 0, 0, 1)], pa.timestamp("us")),  # noqa: DTZ001
        pa.array([None]), pa.array([2**53 + 1]), pa.array([float(2**53)]),
    ]  # fmt: skip
    assert len({fingerprint({"x": kind}) for kind in kinds}) == len(kinds)


def test_structures_are_compared_by_content_not_by_text():
    one = {"x": np.array([{"b": 1.0, "a": [1, 2]}, 3.0, "text", None], dtype=object)}
    two = {"x": np.array([None, "text", {"a": [1.0, 2.0], "b": 1}, 3], dtype=object)}
    three = {"x": np.array([None, "text", {"a": [2, 1], "b": 1}, 3], dtype=object)}
    assert fingerprint(one) == fingerprint(two) != fingerprint(three)
    vectors = [[1.0, 2.0], [3.0]]
    assert fingerprint(pd.DataFrame({"v": vectors})) == fingerprint(pa.table({"v": vectors}))


def test_a_kind_without_a_canonical_form_is_refused():
    with pytest.raises(InvalidFrame, match=r"'x' holds .* no fingerprint"):
        fingerprint({"x": np.array([object()], dtype=object)})


def test_frames_without_rows_differ_by_their_columns():
    empty = frame().iloc[:0]
    assert fingerprint(empty) == fingerprint(pl.from_pandas(empty))
    assert fingerprint(empty) != fingerprint(empty.drop(columns="x"))


ROWS = st.lists(
    st.tuples(st.sampled_from(["a", "ab", "b", ""]), st.sampled_from(["b", "", "a", "bb"]),
              st.sampled_from([0.0, -0.0, 1.0, math.nan, None])),
    max_size=6,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS)
def test_fingerprints_are_equal_exactly_if_the_rows_are_the_same_multiset(left, right):
    def canonical(rows):
        return sorted(
            (a, b, "" if x is None or math.isnan(x) else str(x + 0.0)) for a, b, x in rows
        )

    def table(rows):
        a, b, x = zip(*rows, strict=True) if rows else ((), (), ())
        return pa.table({"a": pa.array(a, pa.string()), "b": pa.array(b, pa.string()),
                         "x": pa.array(x, pa.float64(), from_pandas=False)})  # fmt: skip

    same = fingerprint(table(left)) == fingerprint(table(right))
    assert same == (canonical(left) == canonical(right))


def test_numbers_beyond_a_double_count_by_their_digits():
    big = 2**53 + 1
    columns = [
        pa.array([Decimal(big)]), pa.array([Decimal(big)], pa.decimal256(40, 2)), pa.array([big]),
        pa.array([big], pa.uint64()), pl.Series([big], dtype=pl.Int128), [big],
    ]  # fmt: skip
    assert len({fingerprint({"x": column}) for column in columns}) == 1
    others = [[Decimal(2**53)], [Decimal(big) + Decimal("0.5")], [2**64 - 1], [2**70], [-1], [big]]
    assert len({fingerprint({"x": pd.Series(values, dtype=object)}) for values in others}) == 6
    assert fingerprint({"x": pa.array([Decimal("0.1")])}) == fingerprint({"x": pa.array([0.1])})


def test_texts_bytes_and_times_of_day_are_the_same_in_every_library():
    for values in (["a", None], [b"a", None], [time(16, 30), None], [timedelta(1), None]):
        frames = [pd.DataFrame({"x": values}), pa.table({"x": values}), pl.DataFrame({"x": values})]
        assert len({fingerprint(frame) for frame in frames}) == 1
