"""`Spool`: append-only segment files in one folder, drained in order."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mlflow_timescale.db.errors import Error
from mlflow_timescale.spool import folder, state
from mlflow_timescale.spool.folder import SpoolError
from mlflow_timescale.spool.records import Damaged, Frame, Record, encode, frames
from mlflow_timescale.spool.state import State
from mlflow_timescale.spool.status import Status

LIMIT = 2**30  # bytes that may wait
SEGMENT = 2**24  # bytes after which a segment is full
POLICIES = ("block", "drop-oldest", "raise")
SYNCS = ("always", "os")
_BATCH = 64  # records between two notes of how far a drain is
_POLL_SECONDS = 0.05
_APPENDING, _DRAINING = "append.lock", "drain.lock"


class SpoolFull(Error):
    """The spool holds as much as its limit allows."""


class SpoolBusy(Error):
    """Another process drains the spool."""


class Refusal(Exception):
    """Raised by a sender for a record that the database will never take; its text is the reason."""


@dataclass(frozen=True)
class Drained:
    """What a drain did: `sent` were new to the database, `repeated` were there already.

    >>> Drained(3, 1, 0).total
    4
    """

    sent: int = 0
    repeated: int = 0
    refused: int = 0

    @property
    def total(self) -> int:
        """The records that no longer wait."""
        return self.sent + self.repeated + self.refused


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
        "drop-oldest" drops the records that wait longest, and counts them.
    fsync
        "always": a record is on the disk before `append` returns, and a power failure loses none
        of them. "os": the operating system writes when it likes, usually within 30 seconds; the
        death of the process loses nothing, a power failure what was not written.

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
        # The segment that this process appended to last, and its size then: unless another process
        # has appended since, its end needs no check.
        self._checked: tuple[int, int] | None = None

    def __repr__(self) -> str:
        return f"Spool({str(self.path)!r})"

    def append(self, record: Record) -> None:
        """Add a record at the end. Raises SpoolError, SpoolFull, OSError."""
        content = encode(record)
        while not self._append(content):
            time.sleep(_POLL_SECONDS)

    def is_empty(self) -> bool:
        """Whether no record waits."""
        if not self.path.exists():
            return True
        with folder.opened(self.path) as directory:
            return _waiting_bytes(directory, State.read(directory)) == 0

    def drain(self, send: Callable[[Record], bool], *, seconds: float | None = None) -> Drained:
        """Send what waits, in order.

        Parameters
        ----------
        send
            Writes a record, with its id in the same transaction, and returns whether it was new.
            Refusal moves the record to the list of the refused, and the next one follows; any other
            exception ends the drain, and the record keeps waiting.
        seconds
            After which the drain ends, with records that still wait.

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
        end = None if seconds is None else time.monotonic() + seconds
        counts: Counter[str] = Counter()
        with (
            folder.opened(self.path) as directory,
            folder.locked(directory, _DRAINING, wait=False) as is_ours,
        ):
            if not is_ours:
                raise SpoolBusy(f"another process drains the spool {self.path}")
            while self._send_segment(directory, send, counts, end):
                pass
        return Drained(counts["sent"], counts["repeated"], counts["refused"])

    def status(self) -> Status:
        """What waits, and what was refused."""
        kinds: Counter[str] = Counter()
        oldest: datetime | None = None
        if not self.path.exists():
            return Status(0, 0, None, {}, [], [], 0, 0)
        with folder.opened(self.path) as directory, self._appending(directory):
            now = State.read(directory)
            for number in state.segments(directory):
                for frame in _frames(directory, number, now):
                    kinds[frame.record.kind] += 1
                    oldest = oldest or frame.record.appended_at
            return Status(
                waiting=kinds.total(),
                bytes=_waiting_bytes(directory, now),
                oldest=oldest,
                kinds=dict(kinds),
                refused=state.refused(directory),
                damaged=state.damaged_files(directory),
                sent=now.sent,
                dropped=now.dropped,
            )

    @contextmanager
    def _appending(self, directory: int) -> Iterator[None]:
        with folder.locked(directory, _APPENDING):
            yield

    def _append(self, content: bytes) -> bool:
        """Append a frame; False where the spool is full, and its policy is to wait."""
        with folder.opened(self.path) as directory, self._appending(directory):
            if not self._make_room(directory, len(content)):
                return False
            number = self._segment(directory)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            descriptor = folder.open_file(directory, state.segment_name(number), flags)
            try:
                before = os.fstat(descriptor).st_size
                self._write(descriptor, content, before)
            finally:
                os.close(descriptor)
            if not before and self.fsync == "always":
                os.fsync(directory)  # the name of a new segment
            self._checked = (number, before + len(content))
        return True

    def _write(self, descriptor: int, content: bytes, before: int) -> None:
        try:
            folder.write_all(descriptor, content)
            if self.fsync == "always":
                os.fdatasync(descriptor)
        except OSError as exc:
            os.ftruncate(descriptor, before)  # a full disk: no half of a record stays
            raise SpoolError(f"cannot write to the spool {self.path}: {exc.strerror}") from exc

    def _segment(self, directory: int) -> int:
        """The segment to append to, checked to its end; a new one after a full or damaged one."""
        numbers = state.segments(directory)
        now = State.read(directory)
        last = numbers[-1] if numbers else max(now.segment, 1)
        size = state.size(directory, last)
        if size and self._checked != (last, size):
            number, checked = self._checked or (0, 0)
            size = _repaired(directory, last, now, checked if number == last else 0)
        return last + 1 if size >= self._segment_bytes else last

    def _make_room(self, directory: int, more: int) -> bool:
        now = State.read(directory)
        excess = _waiting_bytes(directory, now) + more - self.limit
        if excess <= 0:
            return True
        if self.full == "raise" or more > self.limit:
            raise SpoolFull(
                f"the spool {self.path} has its limit of {self.limit:,} bytes waiting: drain it "
                f"(mlflow-timescale spool drain), or raise the limit"
            )
        if self.full == "block":
            return False
        state.remove_sent(directory, _drop(directory, now, excess))
        return True

    def _send_segment(
        self,
        directory: int,
        send: Callable[[Record], bool],
        counts: Counter[str],
        end: float | None,
    ) -> bool:
        """Send the rest of the first segment; False where nothing waits or the time is over."""
        now = State.read(directory)
        numbers = [n for n in state.segments(directory) if n >= now.segment]
        if not numbers or _is_over(end):
            return False
        number = numbers[0]
        sending = _Sending(self, directory, number, counts)
        try:
            for frame in _frames(directory, number, now):
                sending.send(frame, send)
                if _is_over(end):
                    return False
        finally:
            sending.note()
        return self._finish(directory, number)

    def _finish(self, directory: int, number: int) -> bool:
        """Remove a segment that is sent to its end; False where it is the last, and stays."""
        with self._appending(directory):
            now = State.read(directory)
            size = _repaired(directory, number, now)
            done = now.segment > number or now.offset >= size
            is_last = number == state.segments(directory)[-1]
            if not done:
                return True  # appended meanwhile
            if is_last and size < self._segment_bytes:
                return False
            now = now.advanced(number + 1, 0)
            now.write(directory)
            state.remove_sent(directory, now)
            return not is_last


class _Sending:
    """One pass over a segment: sends frames, and now and then notes how far it is."""

    def __init__(self, spool: Spool, directory: int, number: int, counts: Counter[str]) -> None:
        self._spool, self._directory, self._number = spool, directory, number
        self._counts = counts
        self._end = self._noted = self._sent = 0

    def send(self, frame: Frame, send: Callable[[Record], bool]) -> None:
        try:
            self._counts["sent" if send(frame.record) else "repeated"] += 1
            self._sent += 1
        except Refusal as exc:
            state.refuse(self._directory, frame.record, str(exc))
            self._counts["refused"] += 1
            self._end = frame.end
            self.note()  # the database would repeat what it has; the list of the refused would not
            return
        self._end = frame.end
        if self._sent >= _BATCH:
            self.note()

    def note(self) -> None:
        if self._end == self._noted:
            return
        with self._spool._appending(self._directory):
            now = State.read(self._directory)
            now.advanced(self._number, self._end, sent=self._sent).write(self._directory)
        self._noted, self._sent = self._end, 0


def _frames(directory: int, number: int, now: State) -> Iterator[Frame]:
    """The frames of a segment that wait, up to bytes that are none."""
    if number < now.segment:
        return
    data = folder.read(directory, state.segment_name(number))
    try:
        yield from frames(data, now.offset if number == now.segment else 0)
    except Damaged:  # the end is still being written, or `_repaired` sets it aside
        return


def _repaired(directory: int, number: int, now: State, checked: int = 0) -> int:
    """The size of a segment after bytes at its end that are no frames are gone.

    Nothing that `append` has returned for is torn, so such bytes are dropped. Bytes with a wrong
    checksum are set aside in a file: they may hold records. The caller holds the lock of appends,
    and has checked the segment up to an offset.
    """
    start = max(checked, now.offset if number == now.segment else 0)
    data = folder.read(directory, state.segment_name(number))
    try:
        for _ in frames(data, min(start, len(data))):
            pass
    except Damaged as exc:
        if not exc.is_torn:
            state.set_aside(directory, number, data[exc.start :])
        descriptor = folder.open_file(directory, state.segment_name(number), os.O_WRONLY)
        try:
            os.ftruncate(descriptor, exc.start)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return exc.start
    return len(data)


def _waiting_bytes(directory: int, now: State) -> int:
    waiting = [n for n in state.segments(directory) if n >= now.segment]
    total = sum(state.size(directory, number) for number in waiting)
    return total - (now.offset if now.segment in waiting else 0)


def _drop(directory: int, now: State, excess: int) -> State:
    """Drop the records that wait longest, until `excess` bytes are free."""
    for number in [n for n in state.segments(directory) if n >= now.segment]:
        for frame in list(_frames(directory, number, now)):
            if excess <= 0:
                break
            start = now.offset if number == now.segment else 0
            excess -= frame.end - start
            now = now.advanced(number, frame.end, dropped=1)
    now.write(directory)
    return now


def _is_over(end: float | None) -> bool:
    return end is not None and time.monotonic() >= end
