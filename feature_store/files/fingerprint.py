"""One hash for the content of a frame, whatever holds it and in whatever order.

The rows are a multiset: each is written down in one canonical form and hashed with SHA-256, and the
sorted hashes are hashed again. So the order of rows and columns, the library, the machine, the
layout of files, the width of a number, the payload of a NaN and the sign of a zero make no
difference, and one changed, lost or repeated row does. A missing number and NaN count as the same,
because pandas cannot tell them apart; a snapshot's manifest counts them separately.

Structures count by content: a mapping is the same as a pandas object, an Arrow struct, an Arrow map
or the JSON text that stands for it in polars, and a null field of a struct is the same as none.
Manifests that were written before this rule have `fingerprint_version` 1, which compares text as
text, and null fields as fields.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_timescale.common.frames import Column, Columns, Frame, dump_json, load_json
from mlflow_timescale.common.micros import MISSING, column_micros

from ..errors import InvalidFrame

VERSION = 2
_HEADER = 1  # the header stays, so that frames without structures keep their fingerprint
_EXACT = 2**53
_EXPONENT = 10**16  # from here on Python writes a float with an exponent
_ROWS = 65_536
_VALUES = 2_000_000  # read at once from a file or a stream
_WIDTH = 17  # of a cell: its kind, and a number or half of a SHA-256
(
    _NOTHING,
    _NUMBER,
    _INTEGER,
    _BOOLEAN,
    _MOMENT,
    _NAIVE,
    _DATE,
    _DURATION,
    _TEXT,
    _BYTES,
    _JSON,
    _CLOCK,
) = range(12)
Bytes = npt.NDArray[np.uint8]


def fingerprint(frame: Any) -> str:
    """The fingerprint of a frame of any kind, as 64 hexadecimal digits.

    Raises InvalidFrame for columns of types that have no canonical form.

    >>> import pandas as pd
    >>> one = pd.DataFrame({"entity": ["a", "b"], "x": [1.0, float("nan")]})
    >>> fingerprint(one) == fingerprint(pa.table({"x": [None, 1], "entity": ["b", "a"]}))
    True
    """
    builder = Fingerprint()
    for batch in Frame(frame).batches(_VALUES):
        builder.add(Columns({name: _read_json(column) for name, column in batch.items()}))
    return builder.hexdigest()


class Fingerprint:
    """A fingerprint of rows that come in parts; 32 bytes of memory a row."""

    def __init__(self, version: int = VERSION) -> None:
        self._version = version
        self._names: list[str] | None = None
        self._digests: list[bytes] = []
        self.rows = 0

    def add(self, part: Columns) -> None:
        """Add rows; every part must have the same columns, in any order."""
        names = sorted(part)
        if self._names not in (None, names):
            raise InvalidFrame(f"one part has the columns {self._names}, another {names}")
        self._names = names
        count = len(part[names[0]]) if names else 0
        for first in range(0, count, _ROWS):
            rows = [
                _canonical(part[name][first : first + _ROWS], name, self._version) for name in names
            ]
            self._digests.append(_row_digests(np.concatenate(rows, axis=1)))
        self.rows += count

    def hexdigest(self) -> str:
        """The hash of all rows so far."""
        header = {"fingerprint": _HEADER, "columns": self._names or [], "rows": self.rows}
        digest = hashlib.sha256(json.dumps(header).encode())
        digest.update(np.sort(np.frombuffer(b"".join(self._digests), dtype="S32")).tobytes())
        return digest.hexdigest()


def canonical_json(value: Any, version: int = VERSION) -> str:
    """JSON text with sorted keys and one form for each number; null fields are left out.

    >>> canonical_json({"b": 1.0, "a": [2, -0.0, None], "c": None})
    '{"a":[2,0,null],"b":1}'
    """
    plain = _plain(value, version)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _plain(value: Any, version: int) -> Any:
    if isinstance(value, Mapping):
        items = ((str(key), _plain(item, version)) for key, item in value.items())
        return {key: item for key, item in items if item is not None or version == 1}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item, version) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item(), version)
    return _plain_float(value, version) if isinstance(value, float) else value


def _plain_float(value: float, version: int) -> float | int | None:
    """A whole float as the integer of the digits that Python writes: 1e+20 has 21 of them."""
    if not value.is_integer():
        return None if value != value and version > 1 else value
    if version == 1 and _EXACT <= abs(value) < _EXPONENT:
        return value
    return int(Decimal(repr(value)))


def _row_digests(rows: Bytes) -> bytes:
    view, width = memoryview(rows.tobytes()), rows.shape[1]
    sha256 = hashlib.sha256
    return b"".join(sha256(view[at : at + width]).digest() for at in range(0, len(view), width))


def _canonical(column: Column, name: str, version: int) -> Bytes:
    """A column as (rows, _WIDTH) bytes: what kind each value is, and the value."""
    if isinstance(column, np.ndarray):
        return _canonical_objects(column, name, version)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_nested(column.type):
        return _canonical_objects(_as_objects(column, version), name, version)
    if _is_text(column.type):
        return _texts(column, version)
    if version > 1 and (pa.types.is_decimal(column.type) or column.type == pa.uint64()):
        return _exact(column, name)
    for is_kind, encode in _ENCODERS:
        if is_kind(column.type):
            return encode(column, name)
    raise InvalidFrame(f"column {name!r} holds {column.type}, which has no fingerprint")


def _fixed(tags: npt.ArrayLike, values: npt.NDArray[Any]) -> Bytes:
    """Cells of a tag and eight bytes, little-endian; where there is nothing, zeros."""
    tag = np.broadcast_to(np.asarray(tags, dtype=np.uint8), values.shape)
    cells = np.zeros((len(values), _WIDTH), dtype=np.uint8)
    cells[:, 0] = tag
    cells[:, 1:9] = values.astype(values.dtype.newbyteorder("<")).view(np.uint8).reshape(-1, 8)
    cells[tag == _NOTHING] = 0
    return cells


def _present(column: pa.Array, tag: int) -> npt.NDArray[Any]:
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    return np.where(valid, tag, _NOTHING).astype(np.uint8)


def _nothing(column: pa.Array, name: str) -> Bytes:
    return np.zeros((len(column), _WIDTH), dtype=np.uint8)


def _floats(column: pa.Array, name: str) -> Bytes:
    numbers = column.cast(pa.float64(), safe=False).fill_null(np.nan)
    return _encode_floats(np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float64))


def _encode_floats(numbers: npt.NDArray[np.float64]) -> Bytes:
    tags = np.where(np.isnan(numbers), _NOTHING, _NUMBER)
    return _fixed(tags, numbers + 0.0)  # adding zero turns -0.0 into 0.0


def _integers(column: pa.Array, name: str) -> Bytes:
    """As floats where a float is exact, so that 1 and 1.0 are the same."""
    signed = column if column.type != pa.uint64() else column.cast(pa.int64(), safe=False)
    whole = np.asarray(signed.fill_null(0).cast(pa.int64()).to_numpy(zero_copy_only=False))
    exact = np.abs(whole) <= _EXACT
    tags = np.where(_present(column, 1) > 0, np.where(exact, _NUMBER, _INTEGER), _NOTHING)
    bits = np.where(exact, whole.astype(np.float64).view(np.int64), whole)
    return _fixed(tags, bits)


def _exact(column: pa.Array, name: str) -> Bytes:
    """Decimals and unsigned integers; those beyond 2**53 by their digits."""
    cells = _floats(column, name)
    ends = pc.min_max(column).as_py()
    if ends["min"] is None or max(-ends["min"], ends["max"]) <= _EXACT:
        return cells
    for row, value in enumerate(column.to_pylist()):
        if value is not None and abs(value) > _EXACT:
            cells[row] = _digits(value, name)
    return cells


def _digits(value: int | Decimal, name: str) -> Bytes:
    whole = int(value)
    if whole == value and -(2**63) <= whole < 2**63:
        cell: Bytes = _integers(pa.array([whole], pa.int64()), name)[0]
        return cell
    return _hashed(_INTEGER, str(whole) if whole == value else str(Decimal(value).normalize()))


def _booleans(column: pa.Array, name: str) -> Bytes:
    values = column.cast(pa.uint8()).cast(pa.int64())
    return _fixed(_present(column, _BOOLEAN), _int64(values))


def _moments(column: pa.Array, name: str) -> Bytes:
    tag = _MOMENT
    if column.type.tz is None:  # a label of the user's; it is not compared with anything
        column, tag = column.cast(pa.timestamp(column.type.unit, "UTC")), _NAIVE
    micros = column_micros(column, name, missing=True)
    return _fixed(np.where(micros == MISSING, _NOTHING, tag), micros)


def _dates(column: pa.Array, name: str) -> Bytes:
    days = column.cast(pa.date32()).cast(pa.int32()).cast(pa.int64())
    return _fixed(_present(column, _DATE), _int64(days))


def _durations(column: pa.Array, name: str) -> Bytes:
    micros = column.cast(pa.duration("us")).cast(pa.int64())
    return _fixed(_present(column, _DURATION), _int64(micros))


def _clock_times(column: pa.Array, name: str) -> Bytes:
    return _fixed(_present(column, _CLOCK), _int64(column.cast(pa.time64("us")).cast(pa.int64())))


def _int64(column: pa.Array) -> npt.NDArray[np.int64]:
    return np.asarray(column.fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)


def _texts(column: pa.Array, version: int) -> Bytes:
    tag = _BYTES if _is_binary(column.type) else _TEXT
    codes = column.cast(_plain_text(column.type)).dictionary_encode()
    hashes = [_hashed_text(tag, value, version) for value in codes.dictionary.to_pylist()]
    table = np.stack([*hashes, np.zeros(_WIDTH, dtype=np.uint8)])
    indices = np.asarray(pc.fill_null(codes.indices, len(hashes)).to_numpy(zero_copy_only=False))
    cells: Bytes = table[indices]
    return cells


def _plain_text(kind: pa.DataType) -> pa.DataType:
    return pa.large_binary() if _is_binary(kind) else pa.large_string()


def _hashed(tag: int, value: str | bytes) -> Bytes:
    body = value.encode() if isinstance(value, str) else value
    digest = hashlib.sha256(body).digest()[: _WIDTH - 1]
    return np.frombuffer(bytes([tag]) + digest, dtype=np.uint8)


def _hashed_text(tag: int, value: str | bytes, version: int) -> Bytes:
    """A text, or the structure for which it stands."""
    if version > 1 and isinstance(value, str) and value[:1] in ("{", "["):
        structure = _structure_of(value)
        if structure is not None:
            return _hashed(_JSON, canonical_json(structure, version))
    return _hashed(tag, value)


def _structure_of(text: str) -> Any:
    """The value of a JSON text as `dump_json` writes it; None for any other text."""
    try:
        value = load_json(text)
        return value if dump_json(value) == text else None
    except (ValueError, RecursionError):
        return None


def _read_json(column: Column) -> Column:
    """A column of JSON text with a structure in it as values, so that its numbers are numbers."""
    if isinstance(column, np.ndarray) or not _is_text(column.type) or not _has_structure(column):
        return column
    texts = column.to_pylist()
    values = [None if text is None else _structure_of(text) for text in texts]
    if any(v is None for v, text in zip(values, texts, strict=True) if text is not None):
        return column
    objects = np.empty(len(values), dtype=object)
    objects[:] = values
    return objects


def _has_structure(column: pa.Array) -> bool:
    return not _is_binary(column.type) and any(
        pc.any(pc.starts_with(column.cast(pa.large_string()), start)).as_py() for start in "{["
    )


def _as_objects(column: pa.Array, version: int) -> npt.NDArray[np.object_]:
    values = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist(maps_as_pydicts=None if version == 1 else "lossy")
    return values


def _canonical_objects(values: npt.NDArray[np.object_], name: str, version: int) -> Bytes:
    if not len(values):
        return np.zeros((0, _WIDTH), dtype=np.uint8)
    return np.stack([_object(value, name, version) for value in values])


def _object(value: Any, name: str, version: int) -> Bytes:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return np.zeros(_WIDTH, dtype=np.uint8)
    try:
        if isinstance(value, (Mapping, list, tuple, np.ndarray)):
            return _hashed(_JSON, canonical_json(value, version))
        if isinstance(value, str):
            return _hashed_text(_TEXT, value, version)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            return _digits(value, name)
        cell: Bytes = _canonical(pa.array([value]), name, version)[0]
        return cell
    except (TypeError, ValueError, pa.ArrowInvalid) as exc:
        raise InvalidFrame(f"column {name!r} holds {value!r}, which has no fingerprint") from exc


def _is_binary(kind: pa.DataType) -> bool:
    return any(is_kind(kind) for is_kind in _BINARIES)


def _is_text(kind: pa.DataType) -> bool:
    return any(is_kind(kind) for is_kind in _TEXTS)


_BINARIES: tuple[Callable[[Any], bool], ...] = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
)
_TEXTS: tuple[Callable[[Any], bool], ...] = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    *_BINARIES,
)
_ENCODERS: tuple[tuple[Callable[[Any], bool], Callable[[Any, str], Bytes]], ...] = (
    (pa.types.is_null, _nothing),
    (pa.types.is_floating, _floats),
    (pa.types.is_decimal, _floats),
    (pa.types.is_integer, _integers),
    (pa.types.is_boolean, _booleans),
    (pa.types.is_timestamp, _moments),
    (pa.types.is_date, _dates),
    (pa.types.is_duration, _durations),
    (pa.types.is_time, _clock_times),
)


def parts(table: pa.Table) -> Iterator[Columns]:
    """A table in slices, for `Fingerprint.add`."""
    yield from Frame(table).batches(_ROWS * len(table.schema.names))
