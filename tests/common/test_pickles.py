"""Pickled frames are read without unpickling: those of three pandas, and nothing of an attack."""

from __future__ import annotations

import builtins
import functools
import io
import os
import pickle
import pickletools
import re
import subprocess
import zoneinfo
from collections.abc import Callable
from datetime import date, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlflow_timescale.common.errors import InvalidFrame
from mlflow_timescale.common.frames import (
    DecodesToTooMuch,
    Labels,
    RefusedPickle,
    pickles,
    read_pickled_frame,
)

FOLDER = Path(__file__).parent / "pickles"
VERSIONS = ("1.5", "2.2", "3.1")
DAYS = pd.bdate_range("2020-01-01", periods=4)
INDEX = pd.MultiIndex.from_product([DAYS, ["N0", "N1", "N2"]], names=["datetime", "instrument"])
VALUES = np.random.default_rng(0).normal(size=12)
FRAME = pd.DataFrame({"score": VALUES}, index=INDEX)


def plain(labels: Labels) -> list[Any]:
    """A value for each row."""
    values = labels.values
    if values.dtype.kind == "M":
        values = values.astype("M8[us]").astype(object)
    listed = values.tolist()
    if labels.codes is None:
        return listed
    return [None if code < 0 else listed[code] for code in labels.codes]


def of_version(version: str, what: str) -> Any:
    name = f"pandas-{version}-{what}.pkl"
    return read_pickled_frame((FOLDER / name).read_bytes(), name)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", ["frame", "protocol-2", "series"])
def test_frames_of_every_pandas_are_read(version: str, what: str) -> None:
    frame = of_version(version, what)
    assert frame.names == ("score",)
    np.testing.assert_array_equal(frame.columns[0].values, VALUES)
    assert [level.name for level in frame.index] == ["datetime", "instrument"]
    assert plain(frame.index[0]) == [day.to_pydatetime() for day in DAYS for _ in range(3)]
    assert plain(frame.index[1]) == ["N0", "N1", "N2"] * 4


@pytest.mark.parametrize("version", VERSIONS)
def test_categories_zones_and_columns_of_every_pandas_are_read(version: str) -> None:
    categories = of_version(version, "categories")
    assert plain(categories.index[1]) == [n for n in ("N0", "N1", "N2") for _ in range(4)]
    zone = of_version(version, "zone").index[0]
    assert zone.zone == "Europe/Berlin"
    assert str(zone.values[0].astype("M8[s]")) == "2019-12-31T23:00:00"
    columns = {column.name: column for column in of_version(version, "columns").columns}
    assert plain(columns["instrument"])[:5] == ["N0"] * 4 + ["N1"]
    assert plain(columns["b"]) == [True] * 12
    assert columns["td"].unread
    assert not columns["datetime"].unread
    nullable = of_version(version, "nullable").columns
    assert [plain(column)[0] for column in nullable] == [1.0, 1.0, 1.0, "a"]
    assert np.isnan([column.values[1] for column in nullable[:3]]).all()


WRITTEN_HERE: dict[str, Any] = {
    "sliced": FRAME.iloc[2:9],
    "other order": FRAME.swaplevel(),
    "missing codes": FRAME.reindex(pd.MultiIndex.from_tuples([(DAYS[0], "N1"), (pd.NaT, "N2")])),
    "float32": FRAME.astype("float32"),
    "big endian": FRAME.astype(">f8"),
    "fixed offset": FRAME["score"].unstack().tz_localize(timezone(timedelta(hours=8))),
    "zoneinfo": FRAME["score"].unstack().tz_localize(zoneinfo.ZoneInfo("Asia/Shanghai")),
    "flat": FRAME.reset_index(),
    "dates": pd.Series([1.0, 2.0], index=[date(2020, 1, 2), date(2020, 1, 3)]),
    "timestamps": pd.Series([1.0, 2.0], index=pd.Index([DAYS[0], pd.NaT], dtype=object)),
    "python strings": pd.Series([1.0], index=pd.Index(["a"], dtype="object")),
    "attributes": FRAME.copy().set_flags(allows_duplicate_labels=False),
    "columns by level": pd.DataFrame({("a", "b"): [1.0]}),
    "numbers as names": pd.DataFrame([[1.0, 2.0]]),
    "empty": FRAME.iloc[:0],
}


@pytest.mark.parametrize("what", WRITTEN_HERE)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_what_pandas_writes_is_what_is_read(what: str, protocol: int) -> None:
    frame = WRITTEN_HERE[what]
    read = read_pickled_frame(pickle.dumps(frame, protocol), what)
    table = frame.to_frame() if isinstance(frame, pd.Series) else frame
    for position, column in enumerate(read.columns):
        if column.values.dtype.kind != "M":
            assert plain(column) == pytest.approx(table.iloc[:, position].tolist(), nan_ok=True)
    levels = range(table.index.nlevels) if read.index else ()
    for position, level in zip(levels, read.index, strict=True):
        values = table.index.get_level_values(position)
        if getattr(values, "tz", None) is not None:
            values = values.tz_convert(None)
        expected = [None if pd.isna(v) else v for v in values]
        read_values = [None if pd.isna(v) else v for v in plain(level)]
        assert [pd.Timestamp(v) if isinstance(v, date) else v for v in read_values] == [
            pd.Timestamp(v) if isinstance(v, date) else v for v in expected
        ]


def test_the_layout_of_pandas_1_0_is_read() -> None:
    class Manager:
        def __reduce__(self) -> Any:
            from pandas.core.internals.managers import BlockManager

            axes = [pd.Index(["score"], dtype=object), INDEX]
            blocks = [{"values": VALUES[None, :], "mgr_locs": slice(0, 1, 1)}]
            return BlockManager, (), (axes, [], [], {"0.14.1": {"axes": axes, "blocks": blocks}})

    class Frame:
        def __reduce__(self) -> Any:
            return pd.DataFrame, (), {"_data": Manager(), "_typ": "dataframe"}

    read = read_pickled_frame(pickle.dumps(Frame()), "old.pkl")
    np.testing.assert_array_equal(read.columns[0].values, VALUES)
    assert plain(read.index[1])[:3] == ["N0", "N1", "N2"]


class Call:
    """An object whose pickle calls a function."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.parts


MARKER = "/nowhere/marker"
ATTACKS: dict[str, tuple[Any, str]] = {
    "os.system": (Call(os.system, f"touch {MARKER}"), "posix.system"),
    "eval": (Call(builtins.eval, "1"), "builtins.eval"),
    "exec": (Call(builtins.exec, ""), "builtins.exec"),
    "import": (Call(builtins.__import__, "os"), "builtins.__import__"),
    "open": (Call(builtins.open, MARKER, "w"), "_?io.open"),
    "getattr": (Call(builtins.getattr, 1, "real"), "builtins.getattr"),
    "getattr of a frame": (Call(builtins.getattr, pd.DataFrame, "to_pickle"), "builtins.getattr"),
    "partial": (functools.partial(print, "x"), "functools.partial"),
    "popen": (Call(subprocess.Popen, "true"), "(subprocess|commands).Popen"),
    "pandas.eval": (Call(pd.eval, "1"), "pandas.*eval"),
    "pandas.read_pickle": (Call(pd.read_pickle, MARKER), "pandas.*read_pickle"),
    "pandas.read_csv": (Call(pd.read_csv, MARKER), "pandas.*read_csv"),
    "numpy.load": (Call(np.load, MARKER), "numpy.*load"),
    "numpy.memmap": (Call(np.memmap, MARKER), "numpy.*memmap"),
    "a method": (Call(FRAME.to_pickle, MARKER), "builtins.getattr"),
    "a class of ours": (Call(Path, MARKER), r"pathlib\w*\._?\w*Path|pathlib.Path"),
    "in an object array": (np.array([Call(os.system, "true")], dtype=object), "posix.system"),
    "in a frame": (pd.DataFrame({"a": [Call(os.system, "true")]}), "posix.system"),
    "in the attributes": (Call(pd.DataFrame, state={"_mgr": Call(os.system, "x")}), "posix.system"),
    "as the state": (Call(np.dtype, "f8", state=Call(os.system, "true")), "posix.system"),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_an_attack_is_refused_with_its_name_and_that_of_the_file(
    attack: str, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, named = ATTACKS[attack]
    data = pickle.dumps(content, protocol)
    imported: list[str] = []
    original = builtins.__import__

    def record(name: str, *arguments: Any, **keywords: Any) -> Any:
        imported.append(name)
        return original(name, *arguments, **keywords)

    with monkeypatch.context() as watched:
        watched.setattr(builtins, "__import__", record)
        error: InvalidFrame | None = None
        try:
            read_pickled_frame(data, "pred.pkl")
        except InvalidFrame as exc:
            error = exc
    assert not imported
    assert isinstance(error, RefusedPickle)
    named = named.replace("builtins", "(builtins|__builtin__)")  # protocol 2 has the older name
    assert re.match(rf"pred\.pkl is refused: it names {named}, which no frame", str(error))
    assert not Path(MARKER).exists()


def opcodes(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"."


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


FRAME_CLASS = name("pandas", "DataFrame")
CRAFTED: dict[str, bytes] = {
    "f2py": opcodes(name("numpy.f2py", "compile"), b"(tR"),
    "an attribute of an admitted class": opcodes(name("pandas", "DataFrame.eval"), b"(tR"),
    "a module beside an admitted one": opcodes(name("pandas.io.common", "os"), b"(tR"),
    "a call of what a call returned": opcodes(FRAME_CLASS, b")R", b")R"),
    "state on a class": opcodes(FRAME_CLASS, b"}b"),
    "state on a dict": opcodes(b"}}b"),
    "items on a class": opcodes(FRAME_CLASS, b"K\x01K\x01s"),
    "items on a node": opcodes(FRAME_CLASS, b")R", b"K\x01K\x01s"),
    "an append to a node": opcodes(FRAME_CLASS, b")R", b"K\x01a"),
    "keys that are tuples": opcodes(b"}", b")K\x01s"),
    "getattr of the zone's other names": opcodes(
        name("builtins", "getattr"), name("zoneinfo", "ZoneInfo"), b"\x8c\x05cache\x86R"
    ),
    "a persistent id": opcodes(b"K\x01Q"),
    "an extension": opcodes(b"\x82\x01"),
    "an instance": opcodes(b"(cos\nsystem\no"),
    "a buffer outside": opcodes(b"\x97"),
    "a copy of the top": opcodes(b"K\x012\x86"),
    "a new object with keywords": opcodes(FRAME_CLASS, b")}\x92"),
}


@pytest.mark.parametrize("what", CRAFTED)
def test_a_crafted_pickle_is_refused(what: str) -> None:
    with pytest.raises(RefusedPickle, match=r"^pred\.pkl is refused: it "):
        read_pickled_frame(CRAFTED[what], "pred.pkl")


def test_no_admitted_name_is_one_that_runs_code_or_opens_files() -> None:
    words = ("eval", "exec", "open", "read", "load", "import", "system", "getattr", "call", "apply")
    assert not [n for n in pickles.ADMITTED if any(word in n.name.lower() for word in words)]
    assert all("*" not in n.module + n.name for n in pickles.ADMITTED)


def array(shape: tuple[int, ...], data: bytes, dtype: str = "f8") -> Any:
    from numpy._core.multiarray import _reconstruct

    fields = (1, shape, np.dtype(dtype), False, data)
    return Call(_reconstruct, np.ndarray, (0,), b"b", state=fields)


def frame_of(values: Any, places: Any = slice(0, 1, 1), codes: Any = None) -> bytes:
    """The pickle of a frame with a block that may not fit."""
    from pandas._libs.internals import _unpickle_block
    from pandas.core.indexes.base import _new_Index
    from pandas.core.internals.managers import BlockManager

    if codes is None:
        codes = [np.array([0, 1], "i1"), np.array([0, 0], "i1")]
    levels = [pd.Index(DAYS[:2]), pd.Index(["A"], dtype=object)]
    fields = {"levels": levels, "codes": codes, "names": ["d", "i"], "sortorder": None}
    axes = [pd.Index(["score"], dtype=object), Call(_new_Index, pd.MultiIndex, fields)]
    manager = Call(BlockManager, (Call(_unpickle_block, values, places, 2),), axes)
    return pickle.dumps(Call(pd.DataFrame, state={"_mgr": manager}), 4)


DAMAGED: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "text": lambda: b"not a pickle",
    "cut off": lambda: pickle.dumps(FRAME, 4)[:-40],
    "cut in a length": lambda: b"\x80\x04\x8e" + (2**60).to_bytes(8, "little") + b"x.",
    "a number too long": lambda: b"\x80\x04\x8b" + (2**30).to_bytes(4, "little") + b"x.",
    "a place that was not written": lambda: b"\x80\x04h\x05.",
    "an empty stack": lambda: b"\x80\x04\x86.",
    "two results": lambda: b"\x80\x04K\x01K\x02.",
    "a dict": lambda: pickle.dumps({"score": FRAME}),
    "an array": lambda: pickle.dumps(VALUES),
    "nothing in a frame": lambda: pickle.dumps(Call(pd.DataFrame, state={})),
    "more rows than bytes": lambda: frame_of(array((1, 2**40), b"x" * 16)),
    "fewer rows than the index": lambda: frame_of(array((1, 1), b"x" * 8)),
    "a negative shape": lambda: frame_of(array((-1, -2), b"x" * 16)),
    "three dimensions": lambda: frame_of(array((1, 2, 1), b"x" * 16)),
    "more columns than names": lambda: frame_of(np.zeros((2, 2)), slice(0, 2, 1)),
    "a place beyond the frame": lambda: frame_of(np.zeros((1, 2)), np.array([7])),
    "a code beyond its level": lambda: frame_of(
        np.zeros((1, 2)), codes=[np.array([0, 9], "i1"), np.array([0, 0], "i1")]
    ),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_pickle_is_one_line_with_the_name_of_the_file(what: str) -> None:
    with pytest.raises(InvalidFrame, match=r"^cannot read pred\.pkl: ") as caught:
        read_pickled_frame(DAMAGED[what](), "pred.pkl")
    assert "\n" not in str(caught.value)


def test_a_whole_frame_of_the_same_kind_is_read() -> None:
    """The frames of the tests above differ from it in one place each."""
    read = read_pickled_frame(frame_of(np.array([[1.0, 2.0]])), "pred.pkl")
    assert plain(read.columns[0]) == [1.0, 2.0]


def test_offsets_of_arrow_texts_stay_inside_their_buffers() -> None:
    data = pickle.dumps(pd.Series([1.0], index=pd.Index(["AB"])), 4)
    offsets = (0).to_bytes(8, "little") + (2).to_bytes(8, "little")
    assert data.count(offsets)
    beyond = data.replace(offsets, (0).to_bytes(8, "little") + (2**40).to_bytes(8, "little"))
    with pytest.raises(InvalidFrame, match=r"cannot read pred\.pkl"):
        read_pickled_frame(beyond, "pred.pkl")


@pytest.mark.parametrize(
    ("alias", "length", "offset"),
    [("double", 10**12, 0), ("double", 1, -5), ("double", -1, 0), ("double", 1, 10**12),
     ("null", 10**12, 0), ("bool", 10**12, 0), ("string", 1, 0), ("large_string", 10**6, 0)],
)  # fmt: skip
def test_columns_of_arrow_stay_inside_their_buffers(alias: str, length: int, offset: int) -> None:
    import pyarrow as pa

    parts = (Call(pa.type_for_alias, alias), length, 0, offset, [None, b"12345678"], [], None)
    column = Call(pa.lib._restore_array, parts)
    values = Call(pd.arrays.ArrowExtensionArray, state={"_pa_array": column})
    with pytest.raises(InvalidFrame, match=r"cannot read pred\.pkl"):
        read_pickled_frame(frame_of(values), "pred.pkl")


def test_a_range_of_any_length_costs_nothing() -> None:
    from pandas.core.indexes.base import _new_Index

    fields = {"start": -(10**15), "stop": 10**15, "step": 1, "name": None}
    manager = Call(
        pd.core.internals.managers.BlockManager, (), [Call(_new_Index, pd.RangeIndex, fields)] * 2
    )
    with pytest.raises(InvalidFrame, match="no values of"):
        read_pickled_frame(pickle.dumps(Call(pd.DataFrame, state={"_mgr": manager})), "pred.pkl")


def test_a_memo_of_any_number_and_a_tower_of_tuples_cost_nothing() -> None:
    memo = b"\x80\x04N" + b"r" + (2**32 - 1).to_bytes(4, "little") + b"."
    assert pickles.read_pickle(memo, "memo.pkl") is None
    tower = io.BytesIO()
    tower.write(b"\x80\x04)\x94")
    for level in range(100):  # each holds the one below twice
        tower.write(b"h" + bytes([level]) + b"h" + bytes([level]) + b"\x86\x94")
    with pytest.raises(InvalidFrame, match=r"cannot read tower\.pkl"):
        read_pickled_frame(tower.getvalue() + b".", "tower.pkl")


def test_too_many_operations_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MOST_OPERATIONS", 100)
    data = pickle.dumps(list(range(200)))
    assert sum(1 for _ in pickletools.genops(data)) > 100
    with pytest.raises(DecodesToTooMuch, match="operations"):
        pickles.read_pickle(data, "pred.pkl")


def test_a_file_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TIMESCALE_DECODED_LIMIT", "1")
    with pytest.raises(DecodesToTooMuch, match="more than is read"):
        pickles.read_pickle(pickle.dumps(b"x" * (2 << 20)), "pred.pkl")
