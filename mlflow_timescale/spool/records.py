"""Records in a file, each with its length and a CRC, which reveal torn and damaged ones.

A frame is `length` and `crc32` of the payload (big-endian, 32 bits each), then the payload: a line
of JSON (the header), then the body.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

_FRAME = struct.Struct(">II")
_json = json.JSONDecoder()  # of a line without spaces around: half the time of json.loads
LARGEST = 2**31 - 1  # bytes of a payload


@dataclass(frozen=True)
class Record:
    """One write that waits.

    Attributes
    ----------
    kind
        The kind of its sender, such as "serving".
    record_id
        The id of the write; a write that is sent twice has its effect once.
    body
        The write itself, in a format of its sender.
    appended_at
        When it was appended (UTC, this machine's clock).
    note
        A description for the list of refused records, or the reason of the refusal.
    is_kept
        Whether a full spool keeps it even if its policy is to drop the oldest records.
    file
        A file that waits with the record: the source before the append, its copy afterwards.

    Examples
    --------
    >>> record = Record("serving", "4f2a", b"...")
    >>> next(frames(encode(record))).record.body
    b'...'
    """

    kind: str
    record_id: str
    body: bytes
    appended_at: datetime | None = None
    note: str = ""
    is_kept: bool = False
    file: Path | None = None


class Frame(NamedTuple):
    """A record of a file, and the offset at which its frame ends."""

    record: Record
    end: int


class Damaged(Exception):
    """The bytes from `start` on are not a frame; `is_torn` if the file ends within a frame."""

    def __init__(self, start: int, *, is_torn: bool) -> None:
        super().__init__(start, is_torn)
        self.start, self.is_torn = start, is_torn


def file_name(record_id: str) -> str:
    """The name of the file that waits with a record. Raises ValueError for an id with slashes."""
    if "/" in record_id or "\0" in record_id:
        raise ValueError(f"the id {record_id!r} of a record with a file has a slash or NUL")
    return f"file-{record_id}"


def encode(record: Record) -> bytes:
    """The frame of a record. Raises ValueError for a body of more than 2 GB."""
    moment = record.appended_at or datetime.now(timezone.utc)
    header: dict[str, Any] = {"kind": record.kind, "id": record.record_id}
    header["at"] = moment.isoformat()
    if record.note:
        header["note"] = record.note
    if record.is_kept:
        header["kept"] = True
    if record.file is not None:
        header["file"] = True
    payload = json.dumps(header).encode() + b"\n" + record.body
    if len(payload) > LARGEST:
        raise ValueError(f"a record of {len(payload)} bytes; a spool takes up to {LARGEST}")
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def frames(data: bytes, start: int = 0, containing: bytes = b"") -> Iterator[Frame]:
    """The records in the bytes of a file from an offset on. Raises Damaged at other bytes.

    With `containing`, only records with these bytes; the other records are not decoded.

    >>> [frame.record.record_id for frame in frames(encode(Record("k", "a", b"")) * 2)]
    ['a', 'a']
    """
    hit = data.find(containing, start) if containing else start
    while start < len(data):
        end = _end(data, start)
        if containing and hit < start:
            hit = data.find(containing, start)
        if containing and hit < 0:
            return
        if not containing or hit < end:
            yield Frame(_record(data, start, end), end)
        start = end


def checked_end(data: bytes) -> int:
    """The end of the last frame, without decoding records. Raises Damaged as `frames` does."""
    start = 0
    while start < len(data):
        end = _end(data, start)
        _payload(data, start, end)
        start = end
    return start


def _end(data: bytes, start: int) -> int:
    if len(data) < start + _FRAME.size:
        raise Damaged(start, is_torn=True)
    end: int = start + _FRAME.size + _FRAME.unpack_from(data, start)[0]
    if len(data) < end:
        raise Damaged(start, is_torn=True)
    return end


def _payload(data: bytes, start: int, end: int) -> bytes:
    payload = data[start + _FRAME.size : end]
    if not payload or zlib.crc32(payload) != _FRAME.unpack_from(data, start)[1]:
        raise Damaged(start, is_torn=False)
    return payload


def _record(data: bytes, start: int, end: int) -> Record:
    header, _, body = _payload(data, start, end).partition(b"\n")
    try:
        fields, _ = _json.raw_decode(header.decode())
        moment = datetime.fromisoformat(fields["at"])
        return Record(
            fields["kind"],
            fields["id"],
            body,
            moment,
            fields.get("note", ""),
            fields.get("kept", False),
            Path(file_name(fields["id"])) if fields.get("file") else None,
        )
    except (ValueError, KeyError, TypeError) as exc:
        raise Damaged(start, is_torn=False) from exc
