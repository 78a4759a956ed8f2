"""Pickles as plain data, read without unpickling: no object that a file describes is created.

A pickle is a program: `pickle.load` imports and calls the classes and functions that it names. This
reader executes a few opcodes of the pickle format itself. A class or function that a pickled frame
of pandas or numpy needs becomes a `Node`, a description of a call that never happens; any other
name is refused. A hostile file therefore runs nothing, whatever the classes of the installed pandas
would do with its content.

Memory and time are bounded: `pickletools` reads no more bytes of a text or array than the file has,
the number of operations is limited, and only written positions of the memo can be read.

References
----------
.. [1] https://docs.python.org/3/library/pickle.html#restricting-globals
.. [2] The comments of `pickletools` in the standard library, which define the format.
"""

from __future__ import annotations

import pickletools  # nosec B403  # reads the format, runs nothing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mlflow_timescale.common.errors import InvalidFrame
from mlflow_timescale.common.frames.limits import DecodesToTooMuch, decoded_limit
from mlflow_timescale.common.text import one_line, printable

__all__ = ["ADMITTED", "Global", "Node", "RefusedPickle", "read_pickle"]

MOST_OPERATIONS = 5_000_000  # a frame with an object column of a million rows needs fewer


class RefusedPickle(InvalidFrame):
    """A pickle names a function or class that no frame of pandas or numpy needs."""


class Global(NamedTuple):
    """The name of a function or class in a pickle; it is never imported."""

    module: str
    name: str


@dataclass(eq=False, repr=False)
class Node:
    """A call that a pickle describes: the function or class, its arguments, and a later state.

    Nothing is called: all three are data.
    """

    called: Global
    arguments: tuple[Any, ...]
    state: Any = None

    def __repr__(self) -> str:
        return f"<{self.called.module}.{self.called.name}>"


def _pairs(module: str, names: str) -> set[Global]:
    return {Global(module, name) for name in names.split()}


_ARRAYS = (
    "ArrowExtensionArray ArrowStringArray BooleanArray DatetimeArray FloatingArray IntegerArray "
    "NumpyExtensionArray PeriodArray SparseArray StringArray TimedeltaArray"
)
_DTYPES = (
    "ArrowDtype BooleanDtype CategoricalDtype DatetimeTZDtype Float32Dtype Float64Dtype Int16Dtype "
    "Int32Dtype Int64Dtype Int8Dtype IntervalDtype PeriodDtype SparseDtype StringDtype UInt16Dtype "
    "UInt32Dtype UInt64Dtype UInt8Dtype"
)
_INDEXES = (
    "CategoricalIndex DatetimeIndex Index IntervalIndex MultiIndex PeriodIndex RangeIndex "
    "TimedeltaIndex"
)
_OFFSETS = (
    "BDay BMonthBegin BMonthEnd BQuarterBegin BQuarterEnd BYearBegin BYearEnd BusinessDay "
    "BusinessHour BusinessMonthBegin BusinessMonthEnd CustomBusinessDay Day FY5253 Hour Micro "
    "Milli Minute MonthBegin MonthEnd Nano QuarterBegin QuarterEnd Second SemiMonthBegin "
    "SemiMonthEnd Week YearBegin YearEnd"
)
# What frames of pandas 1, 2 and 3 and arrays of numpy 1 and 2 name in their pickles, exactly.
ADMITTED: frozenset[Global] = frozenset().union(
    _pairs("pandas", f"Categorical DataFrame NA NaT Series Timestamp {_DTYPES} {_INDEXES}"),
    _pairs("pandas.arrays", _ARRAYS),
    _pairs("pandas.core.frame", "DataFrame"),
    _pairs("pandas.core.series", "Series"),
    _pairs("pandas.core.internals.managers", "BlockManager SingleBlockManager"),
    _pairs("pandas._libs.internals", "_unpickle_block"),
    _pairs("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"),
    _pairs("pandas._libs.missing", "NA NAType C_NA"),
    _pairs("pandas._libs.tslibs.nattype", "NaT NaTType __nat_unpickle _nat_unpickle"),
    _pairs("pandas._libs.tslibs.timestamps", "Timestamp _unpickle_timestamp"),
    _pairs("pandas._libs.tslibs.timedeltas", "Timedelta _timedelta_unpickle"),
    _pairs("pandas._libs.tslibs.offsets", _OFFSETS),
    _pairs("pandas._libs.sparse", "IntIndex"),
    _pairs("pandas.core.indexes.base", "Index _new_Index"),
    _pairs("pandas.core.indexes.category", "CategoricalIndex"),
    _pairs("pandas.core.indexes.datetimes", "DatetimeIndex _new_DatetimeIndex"),
    _pairs("pandas.core.indexes.frozen", "FrozenList"),
    _pairs("pandas.core.indexes.interval", "IntervalIndex _new_IntervalIndex"),
    _pairs("pandas.core.indexes.multi", "MultiIndex"),
    _pairs("pandas.core.indexes.numeric", "Float64Index Int64Index UInt64Index"),
    _pairs("pandas.core.indexes.period", "PeriodIndex _new_PeriodIndex"),
    _pairs("pandas.core.indexes.range", "RangeIndex"),
    _pairs("pandas.core.indexes.timedeltas", "TimedeltaIndex _new_TimedeltaIndex"),
    _pairs("pandas.core.arrays.arrow.array", "ArrowExtensionArray"),
    _pairs("pandas.core.arrays.boolean", "BooleanArray BooleanDtype"),
    _pairs("pandas.core.arrays.categorical", "Categorical"),
    _pairs("pandas.core.arrays.datetimes", "DatetimeArray"),
    _pairs("pandas.core.arrays.floating", "FloatingArray Float32Dtype Float64Dtype"),
    _pairs("pandas.core.arrays.integer", f"IntegerArray {_DTYPES}"),
    _pairs("pandas.core.arrays.numpy_", "PandasArray NumpyExtensionArray"),
    _pairs("pandas.core.arrays.period", "PeriodArray"),
    _pairs("pandas.core.arrays.sparse.array", "SparseArray"),
    _pairs("pandas.core.arrays.sparse.dtype", "SparseDtype"),
    _pairs("pandas.core.arrays.string_", "StringArray StringDtype"),
    _pairs("pandas.core.arrays.string_arrow", "ArrowStringArray"),
    _pairs("pandas.core.arrays.timedeltas", "TimedeltaArray"),
    _pairs("pandas.core.dtypes.dtypes", _DTYPES),
    _pairs("numpy", "dtype ndarray"),
    *(
        _pairs(f"numpy.{core}.multiarray", "_reconstruct scalar")
        | _pairs(f"numpy.{core}.numeric", "_frombuffer")
        for core in ("core", "_core")
    ),
    _pairs("pyarrow.lib", "_restore_array chunked_array py_buffer type_for_alias"),
    _pairs("builtins", "bytearray bytes slice"),
    _pairs("__builtin__", "bytearray bytes slice"),
    _pairs("_codecs", "encode"),
    _pairs("datetime", "date datetime timedelta timezone"),
    _pairs("pytz", "_UTC _p"),
    _pairs("zoneinfo", "ZoneInfo"),
)
_GETATTR = {Global("builtins", "getattr"), Global("__builtin__", "getattr")}
_ZONE = Global("zoneinfo", "ZoneInfo")
_MARK = object()
_LITERALS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: Mapping[str, Callable[[], Any]] = {
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_VALUES = frozenset(
    [
        "BINBYTES",
        "BINBYTES8",
        "BINFLOAT",
        "BININT",
        "BININT1",
        "BININT2",
        "BINUNICODE",
        "BINUNICODE8",
        "BYTEARRAY8",
        "FLOAT",
        "INT",
        "LONG",
        "LONG1",
        "LONG4",
        "SHORT_BINBYTES",
        "SHORT_BINUNICODE",
        "UNICODE",
    ]
)


def read_pickle(data: bytes, name: str) -> Any:
    """The content of a pickle: numbers, texts, bytes, lists, dicts, tuples, `Global`s, `Node`s.

    Parameters
    ----------
    data
        The content of the file.
    name
        The name of the file, for errors.

    Raises
    ------
    RefusedPickle
        It names a class or function that is not in `ADMITTED`, or uses one as no frame does.
    InvalidFrame
        The data is not a pickle, is damaged, or exceeds the limit of size.

    Examples
    --------
    >>> import pickle, os
    >>> read_pickle(pickle.dumps({"ic": [0.1, None]}), "ic.pkl")
    {'ic': [0.1, None]}
    >>> read_pickle(pickle.dumps(os.system), "pred.pkl")
    Traceback (most recent call last):
        ...
    mlflow_timescale.common.frames.pickles.RefusedPickle: pred.pkl is refused: it names
    posix.system, which no frame of pandas or numpy needs; nothing of it was run
    """
    if len(data) > decoded_limit(len(data)):
        raise DecodesToTooMuch(f"{name} has {len(data):,} bytes: more than is read")
    if not data:
        raise InvalidFrame(f"cannot read {name}: the file is empty")
    machine = _Machine(name)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MOST_OPERATIONS:
                raise DecodesToTooMuch(f"{name} has more than {MOST_OPERATIONS:,} operations")
            machine.run(opcode.name, argument)
    except InvalidFrame:
        raise
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError) as exc:
        # A KeyError has only the position in the memo.
        missing = isinstance(exc, KeyError)
        reason = "it refers to a missing part" if missing else one_line(exc, 200)
        raise InvalidFrame(f"cannot read {name}: it is no pickle, or damaged ({reason})") from exc
    return machine.result()


@dataclass
class _Machine:
    """The stack and the memo while a pickle is read."""

    name: str
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def result(self) -> Any:
        if len(self.stack) != 1:
            raise InvalidFrame(f"cannot read {self.name}: its stack holds {len(self.stack)} values")
        return self.stack[0]

    def run(self, opcode: str, argument: Any) -> None:
        """Run one operation. Raises RefusedPickle for an operation that frames do not need."""
        if opcode in _VALUES:
            self.stack.append(argument)
        elif opcode in _LITERALS:
            self.stack.append(_LITERALS[opcode])
        elif opcode in _EMPTY:
            self.stack.append(_EMPTY[opcode]())
        elif opcode in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self.memo[argument])
        elif opcode in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[argument] = self.stack[-1]
        elif (operation := _OPERATIONS.get(opcode)) is not None:
            operation(self, argument)
        elif opcode not in ("PROTO", "FRAME", "STOP"):
            raise RefusedPickle(
                f"{self.name} is refused: it uses {opcode}, which no frame of pandas or numpy needs"
            )

    def pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("the stack is empty")
        taken = self.stack[-count:]
        del self.stack[-count:]
        if any(value is _MARK for value in taken):
            raise ValueError("a mark is no value")
        return taken

    def pop_to_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                taken = self.stack[index + 1 :]
                del self.stack[index:]
                return taken
        raise ValueError("there is no mark")

    def mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def tuple_of_marked(self, _: Any) -> None:
        self.stack.append(tuple(self.pop_to_mark()))

    def list_of_marked(self, _: Any) -> None:
        self.stack.append(self.pop_to_mark())

    def dict_of_marked(self, _: Any) -> None:
        items = self.pop_to_mark()
        self.stack.append({})
        self._set(items)

    def append(self, _: Any) -> None:
        self._extend(self.pop(1))

    def extend(self, _: Any) -> None:
        self._extend(self.pop_to_mark())

    def set_item(self, _: Any) -> None:
        self._set(self.pop(2))

    def set_items(self, _: Any) -> None:
        self._set(self.pop_to_mark())

    def _extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise self._refused(f"appends to {type(target).__name__}")
        target.extend(values)

    def _set(self, items: list[Any]) -> None:
        target, keys = self.stack[-1], items[::2]
        if not isinstance(target, dict) or not all(isinstance(key, (str, int)) for key in keys):
            raise self._refused("sets items of what is no mapping with names as keys")
        target.update(zip(keys, items[1::2], strict=True))

    def import_name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._push_global(module, name)

    def import_from_stack(self, _: Any) -> None:
        module, name = self.pop(2)
        self._push_global(module, name)

    def _push_global(self, module: Any, name: Any) -> None:
        imported = Global(str(module), str(name))
        if imported not in ADMITTED and imported not in _GETATTR:
            raise self._foreign(imported)
        self.stack.append(imported)

    def call(self, _: Any) -> None:
        """Push a `Node` for the call of a function or class."""
        called, arguments = self.pop(2)
        if not isinstance(called, Global):
            raise self._refused(f"calls {type(called).__name__}, no function by its name")
        if called in _GETATTR:
            # A time zone is pickled as `getattr(ZoneInfo, "_unpickle")(key, from_cache)`.
            if arguments != (_ZONE, "_unpickle"):
                raise self._foreign(called)
            self.stack.append(_ZONE)
            return
        if not isinstance(arguments, tuple):
            raise ValueError(f"{called.name} has no tuple of arguments")
        self.stack.append(Node(called, arguments))

    def set_state(self, _: Any) -> None:
        [state] = self.pop(1)
        target = self.stack[-1]
        if not isinstance(target, Node):
            raise self._refused(f"sets the state of {type(target).__name__}")
        target.state = state

    def _foreign(self, imported: Global) -> RefusedPickle:
        return self._refused(f"names {printable('.'.join(imported))}")

    def _refused(self, reason: str) -> RefusedPickle:
        return RefusedPickle(
            f"{self.name} is refused: it {reason}, which no frame of pandas or numpy needs; "
            "nothing of it was run"
        )


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    def operation(machine: _Machine, _: Any) -> None:
        machine.stack.append(tuple(machine.pop(count)))

    return operation


_OPERATIONS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "MEMOIZE": _Machine.memoize,
    "TUPLE": _Machine.tuple_of_marked,
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "LIST": _Machine.list_of_marked,
    "DICT": _Machine.dict_of_marked,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.extend,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.import_name,
    "STACK_GLOBAL": _Machine.import_from_stack,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.set_state,
}
