"""The progress of a drain, and the list of refused records."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace

from mlflow_timescale.spool import folder
from mlflow_timescale.spool.folder import SpoolError
from mlflow_timescale.spool.records import Damaged, Record, encode, frames

_STATE, _REFUSED = "state.json", "refused.spool"
_SEGMENT, _DAMAGED = "segment-", "damaged-"


@dataclass(frozen=True, order=True)
class State:
    """The progress: all segments before `segment` are sent, and `offset` bytes of that one.

    `sent` counts the records that the database has, `dropped` those that a full spool dropped;
    `files` are the bytes of waiting files.
    """

    segment: int = 0
    offset: int = 0
    sent: int = 0
    dropped: int = 0
    files: int = 0

    @classmethod
    def read(cls, directory: int) -> State:
        """The stored state, or the state of a new spool. Raises SpoolError."""
        content = folder.read(directory, _STATE)
        try:
            return cls(**json.loads(content)) if content else cls()
        except (ValueError, TypeError) as exc:
            raise SpoolError(
                f"{_STATE} of the spool is damaged ({content[:60]!r}): remove it, and everything "
                f"that is still in the segments is sent again, which changes nothing"
            ) from exc

    def write(self, directory: int) -> None:
        """Store the state; on a full disk too, or nothing could be drained to make room."""
        folder.overwrite(directory, _STATE, json.dumps(asdict(self)).encode())

    def reserve(self, directory: int) -> None:
        """Store the state where there is none, while the disk has room for it."""
        if not folder.read(directory, _STATE):
            self.write(directory)

    def advanced(
        self, segment: int, offset: int, *, sent: int = 0, dropped: int = 0, freed: int = 0
    ) -> State:
        """The state after more records; it never moves back behind records that were dropped."""
        place = max((self.segment, self.offset), (segment, offset))
        return replace(
            self,
            segment=place[0],
            offset=place[1],
            sent=self.sent + sent,
            dropped=self.dropped + dropped,
            files=max(0, self.files - freed),
        )


@dataclass(frozen=True)
class Refused:
    """A record that the database refused, and the reason."""

    record: Record
    reason: str


def segment_name(number: int) -> str:
    """The name of a segment; names sort like numbers.

    >>> segment_name(7)
    'segment-0000000007'
    """
    return f"{_SEGMENT}{number:010}"


def segments(directory: int) -> list[int]:
    """The numbers of the segments in the folder, increasing."""
    return [
        int(name.removeprefix(_SEGMENT))
        for name in folder.names(directory)
        if name.startswith(_SEGMENT) and name.removeprefix(_SEGMENT).isdigit()
    ]


def size(directory: int, number: int) -> int:
    """The size of a segment in bytes; 0 if it is gone."""
    try:
        status = os.stat(segment_name(number), dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    return status.st_size


def remove_sent(directory: int, now: State) -> None:
    """Remove the segments that are sent, also those that a killed process left."""
    for number in segments(directory):
        if number < now.segment:
            os.unlink(segment_name(number), dir_fd=directory)


def damaged_files(directory: int) -> list[str]:
    """The files with damaged bytes, which are kept for a person to examine."""
    return [name for name in folder.names(directory) if name.startswith(_DAMAGED)]


def set_aside(directory: int, number: int, content: bytes) -> str:
    """Keep damaged bytes of a segment in a file of their own; return its name."""
    name = f"{_DAMAGED}{number:010}-{len(damaged_files(directory))}"
    folder.replace(directory, name, content)
    return name


def refuse(directory: int, record: Record, reason: str, *, is_first: bool = True) -> None:
    """Add a record to the list of refused records, durably.

    A drain that was killed before it noted its progress reaches the same record again: the first
    refused record of a drain is not added twice.
    """
    descriptor = folder.open_file(directory, _REFUSED, os.O_RDWR | os.O_CREAT)
    try:
        if is_first:
            listed, end = _readable(folder.read(directory, _REFUSED))
            if listed and listed[-1].record_id == record.record_id:
                return
            os.ftruncate(descriptor, end)  # a crash may have left a part of a record
        os.lseek(descriptor, 0, os.SEEK_END)
        folder.write_all(descriptor, encode(replace(record, note=reason)))
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    if is_first:
        os.fsync(directory)


def refused(directory: int) -> list[Refused]:
    """The records that the database refused, in order; their files stay."""
    records, _ = _readable(folder.read(directory, _REFUSED))
    return [Refused(record, record.note) for record in records]


def _readable(data: bytes) -> tuple[list[Record], int]:
    """The records of a file, and the end of the last complete one."""
    records: list[Record] = []
    end = 0
    try:
        for record, frame_end in frames(data):
            records.append(record)
            end = frame_end
    except Damaged:
        pass
    return records, end
