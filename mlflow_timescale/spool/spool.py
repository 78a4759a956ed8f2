"""`Spool`: append-only segment files in one folder, drained in order."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import cast

from mlflow_timescale.common.collection import collection_paused
from mlflow_timescale.db.errors import Error
from mlflow_timescale.spool import folder, segments, state
from mlflow_timescale.spool.ends import NOT_NOTED, End
from mlflow_timescale.spool.records import Frame, Record, encode, file_name
from mlflow_timescale.spool.sending import Drained, Sender, Sending, batches
from mlflow_timescale.spool.state import State
from mlflow_timescale.spool.status import Status

LIMIT = 2**30  # bytes that may wait
SEGMENT = 2**24  # bytes after which a segment is full
POLICIES = ("block", "drop-oldest", "raise")
SYNCS = ("always", "os")
_POLL_SECONDS = 0.05
_APPENDING, _DRAINING = "append.lock", "drain.lock"


class SpoolFull(Error):
    """The spool has reached its limit."""


class SpoolBusy(Error):
    """Another process drains the spool."""


class Change:
    """The content of a file before and after a change."""

    def __init__(self, before: bytes) -> None:
        self.before = self.after = before


class Spool:
    """Records that wait on the local disk for a database that is away.

    Any number of processes and threads may append to one spool, and one at a time drains it. A
    child of fork() may use the object. The folder belongs on a local disk: a lock on a network file
    system may not hold.

    Parameters
    ----------
    path
        The folder. Creating the object does no I/O.
    limit
        How many bytes may wait.
    full
        What an append does beyond the limit: "raise" raises SpoolFull, "block" waits for a drain,
        "drop-oldest" drops the records that wait longest, unless they are to be kept, and counts
        them.
    fsync
        "always": a record is on the disk before `append` returns, and a power failure loses none.
        "os": the operating system chooses the time, usually within 30 seconds; the end of the
        process loses nothing, a power failure loses what was not written.

    Examples
    --------
    >>> import tempfile
    >>> spool = Spool(tempfile.mkdtemp() + "/spool")
    >>> spool.append(Record("demo", "1", b"first"))
    >>> spool.append(Record("demo", "2", b"second"))
    >>> bodies = []
    >>> spool.drain(lambda record: bodies.append(record.body) is None)
    Drained(sent=2, repeated=0, refused=0)
    >>> bodies, spool.is_empty()
    ([b'first', b'second'], True)
    """

    def __init__(
        self, path: str | Path, *, limit: int = LIMIT, full: str = "raise", fsync: str = "always"
    ) -> None:
        if full not in POLICIES or fsync not in SYNCS:
            raise ValueError(
                f"full is {full!r}, of {', '.join(POLICIES)}; fsync is {fsync!r}, of "
                f"{', '.join(SYNCS)}"
            )
        if limit < 1:
            raise ValueError(f"limit is {limit} bytes; it must be at least 1")
        self.path = Path(path).absolute()
        self.limit, self.full, self.fsync = limit, full, fsync
        self._segment_bytes = max(1, min(SEGMENT, limit // 8))
        self._has_appended = False

    def __repr__(self) -> str:
        return f"Spool({str(self.path)!r})"

    def append(self, record: Record) -> None:
        """Add a record, with a copy of its file. Raises SpoolError, SpoolFull."""
        content = encode(record)
        with self._copied(record) as size:
            while not self._append_or_drop(content, size, is_kept=record.is_kept):
                time.sleep(_POLL_SECONDS)

    def _append_or_drop(self, content: bytes, file_size: int, *, is_kept: bool) -> bool:
        """Append a frame; False where there is no room, and the policy is to wait.

        A full disk has no room to drop older records, as the others of their file are written again
        without them: the policy to drop takes the record itself.
        """
        try:
            with folder.named(self.path, "write to"):
                return self._append(content, file_size)
        except folder.DiskFull:
            if self.full == "block":
                return False
            if self.full == "raise" or is_kept:
                raise
        with (
            folder.named(self.path, "write to"),
            folder.opened(self.path) as directory,
            self._appending(directory),
        ):
            State.read(directory).advanced(0, 0, dropped=1).write(directory)
        return True

    def is_empty(self) -> bool:
        """Whether no record waits. Raises SpoolError."""
        if not self.path.exists():
            return True
        with folder.named(self.path, "read"), folder.opened(self.path) as directory:
            now = State.read(directory)
            return _waiting(directory, now) == now.files

    def waiting(self, containing: bytes = b"") -> Iterator[Record]:
        """The waiting records, in order; with `containing`, only those with these bytes."""
        if not self.path.exists():
            return
        with folder.opened(self.path) as directory:
            now = State.read(directory)
            for number in state.segments(directory):
                for frame in segments.frames_of(directory, number, now, containing):
                    yield self._with_file(frame).record

    def drain(
        self, send: Callable[[Record], bool] | Sender, *, seconds: float | None = None
    ) -> Drained:
        """Send the waiting records, in order.

        Parameters
        ----------
        send
            Writes a record and its id in one transaction, and returns whether it was new. Refusal
            moves the record to the list of refused ones, and the drain goes on; any other exception
            ends the drain, and the record keeps waiting. A Sender can write many at once.
        seconds
            The time limit of the drain; records may still wait afterwards.

        Returns
        -------
        Drained

        Raises
        ------
        SpoolBusy
            Another process or thread drains the spool.
        """
        if not self.path.exists():
            return Drained()
        sender = send if isinstance(send, Sender) else Sender(send)
        counts: Counter[str] = Counter()
        with (
            folder.opened(self.path) as directory,
            folder.locked(directory, _DRAINING, wait=False) as is_ours,
        ):
            if not is_ours:
                raise SpoolBusy(f"another process drains the spool {self.path}")
            if _waiting(directory, State.read(directory)):
                sender.probe()
            end = None if seconds is None else time.monotonic() + seconds
            while self._send_segment(directory, sender, counts, end):
                pass
        return Drained(counts["sent"], counts["repeated"], counts["refused"])

    def status(self) -> Status:
        """Counts of waiting records, and the refused ones."""
        kinds: Counter[str] = Counter()
        oldest: datetime | None = None
        if not self.path.exists():
            return Status(0, 0, None, {}, [], [], 0, 0)
        with folder.opened(self.path) as directory, self._appending(directory):
            now = State.read(directory)
            for number in state.segments(directory):
                for frame in segments.frames_of(directory, number, now):
                    kinds[frame.record.kind] += 1
                    oldest = oldest or frame.record.appended_at
            return Status(
                waiting=kinds.total(),
                bytes=_waiting(directory, now),
                oldest=oldest,
                kinds=dict(kinds),
                refused=state.refused(directory),
                damaged=state.damaged_files(directory),
                sent=now.sent,
                dropped=now.dropped,
            )

    def read(self, name: str) -> bytes:
        """The content of a file beside the segments; b"" if it does not exist."""
        if not self.path.exists():
            return b""
        with folder.opened(self.path) as directory:
            return folder.read(directory, name)

    @contextmanager
    def changing(self, name: str) -> Iterator[Change]:
        """Change a file beside the segments; other processes wait until the block ends."""
        with (
            folder.named(self.path, "write to"),
            folder.opened(self.path) as directory,
            self._appending(directory),
        ):
            change = Change(folder.read(directory, name))
            yield change
            if change.after != change.before:
                folder.replace(directory, name, change.after)

    @contextmanager
    def _appending(self, directory: int) -> Iterator[int]:
        with folder.locked(directory, _APPENDING) as lock:
            yield cast("int", lock)

    @contextmanager
    def _copied(self, record: Record) -> Iterator[int]:
        """Copy the file of a record and yield its size; the copy is removed if the block fails."""
        if record.file is None:
            yield 0
            return
        name = file_name(record.record_id)
        with folder.opened(self.path) as directory:
            with folder.named(self.path, f"copy {record.file} to"):
                size = folder.copy(directory, name, record.file, sync=self.fsync == "always")
            try:
                yield size
            except BaseException:
                folder.remove(directory, name)
                raise

    @contextmanager
    def _counted(self, directory: int, file_size: int) -> Iterator[None]:
        """Count the bytes of a file, unless the block that appends its record fails."""
        if not file_size:
            yield
            return
        State.read(directory).advanced(0, 0, freed=-file_size).write(directory)
        try:
            yield
        except BaseException:
            State.read(directory).advanced(0, 0, freed=file_size).write(directory)
            raise

    def _append(self, content: bytes, file_size: int) -> bool:
        """Append a frame; False if the spool is full and its policy is to wait."""
        size = len(content)
        with folder.opened(self.path) as directory, self._appending(directory) as lock:
            noted = End.read(lock)
            end: End | None = noted
            if file_size or not self._can_follow(directory, noted, size):
                end = self._end(directory, noted, size, file_size)
            if end is None:
                return False
            with self._counted(directory, file_size):
                self._write(directory, end.segment, content)
            with suppress(OSError):  # on a full disk: the next append checks the segment
                end.after(size).write(lock)
            self._has_appended = True
        return True

    def _can_follow(self, directory: int, end: End, more: int) -> bool:
        """Whether bytes can follow the last append of any process without another check."""
        return (
            self._has_appended
            and 0 < end.size < self._segment_bytes
            and end.waiting + more <= self.limit
            and state.size(directory, end.segment) == end.size
        )

    def _end(self, directory: int, noted: End, more: int, file_size: int) -> End | None:
        """The end to append to; None if there is no room and the policy is to wait."""
        now = State.read(directory)
        now.reserve(directory)
        numbers = [n for n in state.segments(directory) if n >= now.segment]
        if not self._make_room(directory, now, numbers, more + file_size):
            return None
        number = self._segment(directory, noted, now, numbers)
        waiting = _waiting(directory, State.read(directory)) + file_size
        return End(number, state.size(directory, number), waiting)

    def _segment(self, directory: int, noted: End, now: State, numbers: list[int]) -> int:
        """The segment to append to, checked to its end; a new one if the last one is full."""
        last = numbers[-1] if numbers else max(now.segment, 1)
        size = state.size(directory, last)
        if size and not (self._has_appended and noted[:2] == (last, size)):
            size = segments.repaired(directory, last, now)
        return last + 1 if size >= self._segment_bytes else last

    def _write(self, directory: int, number: int, content: bytes) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        descriptor = folder.open_file(directory, state.segment_name(number), flags)
        before = os.fstat(descriptor).st_size
        try:
            folder.write_all(descriptor, content)
            if self.fsync == "always":
                os.fdatasync(descriptor)
        except OSError:
            os.ftruncate(descriptor, before)  # a full disk must not leave a part of a record
            raise
        finally:
            os.close(descriptor)
        if not before and self.fsync == "always":
            os.fsync(directory)  # the name of a new segment

    def _make_room(self, directory: int, now: State, numbers: list[int], more: int) -> bool:
        excess = segments.waiting_bytes(directory, now, numbers) + more - self.limit
        if excess <= 0:
            return True
        if self.full == "block":
            return False
        if self.full == "drop-oldest" and more <= self.limit:
            excess = self._drop(directory, now, excess)
        if excess > 0:
            raise SpoolFull(
                f"the spool {self.path} has its limit of {self.limit:,} bytes waiting: drain it "
                f"(mlflow-timescale spool drain), or raise the limit"
            )
        return True

    def _drop(self, directory: int, now: State, excess: int) -> int:
        """Drop the oldest records; return the excess that remains."""
        now, excess = segments.skip_oldest(directory, now, excess)
        state.remove_sent(directory, now)
        if excess > 0:
            with folder.locked(directory, _DRAINING, wait=False) as is_still:
                waiting = [n for n in state.segments(directory) if n >= now.segment]
                numbers = waiting if is_still else waiting[1:]
                now, excess = segments.drop_between(directory, now, excess, numbers)
        return excess

    def _send_segment(
        self, directory: int, sender: Sender, counts: Counter[str], end: float | None
    ) -> bool:
        """Send the rest of the first segment; False if nothing waits or the time is over."""
        now = State.read(directory)
        numbers = [n for n in state.segments(directory) if n >= now.segment]
        if not numbers or _is_over(end):
            return False
        number = numbers[0]

        def note(offset: int, sent: int, freed: int) -> None:
            with folder.named(self.path, "note in"), self._appending(directory):
                was = State.read(directory)
                was.advanced(number, offset, sent=sent, freed=freed).write(directory)

        sending = Sending(directory, sender, counts, note, lambda: _is_over(end))
        waiting = batches(map(self._with_file, segments.frames_of(directory, number, now)))
        while batch := _next(waiting):
            sending.send(batch)
            if _is_over(end):
                return False
        return self._finish(directory, number)

    def _with_file(self, frame: Frame) -> Frame:
        """The frame, with the path of its record's file."""
        file = frame.record.file
        if file is None:
            return frame
        return Frame(replace(frame.record, file=self.path / file), frame.end)

    def _finish(self, directory: int, number: int) -> bool:
        """Remove a segment that is sent completely; False if it is the last one, which stays."""
        with self._appending(directory) as lock:
            now = State.read(directory)
            size = segments.repaired(directory, number, now)
            done = now.segment > number or now.offset >= size
            is_last = number == state.segments(directory)[-1]
            if not done:
                return True  # appended meanwhile
            if is_last and size < self._segment_bytes:
                return False
            NOT_NOTED.write(lock)  # before the state: no append may follow in this segment
            now = now.advanced(number + 1, 0)
            now.write(directory)
            state.remove_sent(directory, now)
            return not is_last


def _next(batches: Iterator[list[Frame]]) -> list[Frame]:
    """The next batch, or an empty one at the end.

    Its records all live until it is sent, so that garbage collections during the read free nothing;
    they would take a fifth of the client's processor time.
    """
    with collection_paused():
        return next(batches, [])


def _is_over(end: float | None) -> bool:
    return end is not None and time.monotonic() >= end


def _waiting(directory: int, now: State) -> int:
    return segments.waiting_bytes(directory, now, state.segments(directory))
