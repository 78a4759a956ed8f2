"""The segments of a spool: their waiting bytes, their damaged ends, and records to drop.

Callers hold the lock of appends, except those of `frames_of`, which only reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from mlflow_timescale.spool import folder, state
from mlflow_timescale.spool.records import Damaged, Frame, checked_end, frames
from mlflow_timescale.spool.state import State


def frames_of(directory: int, number: int, now: State, containing: bytes = b"") -> Iterator[Frame]:
    """The waiting frames of a segment, up to bytes that are not a frame."""
    if number < now.segment:
        return
    data = folder.read(directory, state.segment_name(number))
    try:
        yield from frames(data, now.offset if number == now.segment else 0, containing)
    except Damaged:  # the end is still being written, or `repaired` sets it aside
        return


def repaired(directory: int, number: int, now: State) -> int:
    """Remove bytes at the end of a segment that are not frames; return the new size.

    Torn bytes are dropped: `append` never returned for them. Bytes with a wrong checksum are set
    aside in a file, because they may hold records.
    """
    start = min(now.offset if number == now.segment else 0, state.size(directory, number))
    data = folder.read(directory, state.segment_name(number), start)
    try:
        return start + checked_end(data)
    except Damaged as exc:
        if not exc.is_torn:
            state.set_aside(directory, number, data[exc.start :])
        descriptor = folder.open_file(directory, state.segment_name(number), os.O_WRONLY)
        try:
            os.ftruncate(descriptor, start + exc.start)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return start + exc.start


def waiting_bytes(directory: int, now: State, numbers: Sequence[int]) -> int:
    """The waiting bytes of all segments and files."""
    waiting = [n for n in numbers if n >= now.segment]
    total = sum(state.size(directory, number) for number in waiting)
    return total - (now.offset if now.segment in waiting else 0) + now.files


def skip_oldest(directory: int, now: State, excess: int) -> tuple[State, int]:
    """Skip the oldest records until `excess` bytes are free or a record must be kept.

    Returns the state, which is stored, and the excess that remains.
    """
    for number in [n for n in state.segments(directory) if n >= now.segment]:
        for frame in list(frames_of(directory, number, now)):
            if excess <= 0 or frame.record.is_kept:
                now.write(directory)
                return now, excess
            excess -= frame.end - (now.offset if number == now.segment else 0)
            now = now.advanced(number, frame.end, dropped=1)
    now.write(directory)
    return now, excess


def drop_between(
    directory: int, now: State, excess: int, numbers: Sequence[int]
) -> tuple[State, int]:
    """Rewrite segments without records that may be dropped, until `excess` bytes are free.

    `numbers` must not include a segment that a drain reads, because its offsets would change.
    """
    for number in numbers:
        if excess <= 0:
            break
        data = folder.read(directory, state.segment_name(number))
        start = now.offset if number == now.segment else 0
        kept, dropped = [data[:start]], 0
        for frame in frames_of(directory, number, now):
            if frame.record.is_kept:
                kept.append(data[start : frame.end])
            else:
                dropped += 1
            start = frame.end
        content = b"".join(kept)
        folder.replace(directory, state.segment_name(number), content)
        excess -= len(data) - len(content)
        now = now.advanced(now.segment, now.offset, dropped=dropped)
    now.write(directory)
    return now, excess
