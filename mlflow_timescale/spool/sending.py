"""Sending the records of a spool, many of one kind at once if their sender supports it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mlflow_timescale.spool import folder, state
from mlflow_timescale.spool.records import Frame, Record

_RECORDS, _BYTES = 16384, 2**23  # of one batch


class Refusal(Exception):
    """A sender raises it for a record that the database never accepts; the text is the reason."""


@dataclass(frozen=True)
class Drained:
    """The counts of a drain: `sent` records were new to the database, `repeated` ones were not.

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


@dataclass(frozen=True)
class Sender:
    """Sends the records of one kind.

    Attributes
    ----------
    one
        Sends a record; see `Spool.drain`.
    many
        Sends records at once, and returns how many were new, or None if this sender sends them one
        by one. Raises Refusal if one of them is refused; then none of them is sent.
    probe
        Raises the exception of an outage. A drain calls it first, because reading records takes
        time.
    """

    one: Callable[[Record], bool]
    many: Callable[[list[Record]], int | None] = lambda records: None
    probe: Callable[[], object] = lambda: None


def batches(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    """Frames in batches of one kind and a bounded size, in order.

    >>> kinds = [Frame(Record(kind, "", b""), 0) for kind in "aab"]
    >>> [len(batch) for batch in batches(kinds)]
    [2, 1]
    """
    batch: list[Frame] = []
    size = 0
    for frame in frames:
        is_other = bool(batch) and batch[0].record.kind != frame.record.kind
        if is_other or len(batch) >= _RECORDS or size >= _BYTES:
            yield batch
            batch, size = [], 0
        batch.append(frame)
        size += len(frame.record.body)
    if batch:
        yield batch


class Sending:
    """One pass over a segment: sends batches, and notes the progress after each.

    `note` stores an offset, with the number of records that were sent and the bytes of files that
    were freed since the last note. `is_over` ends a batch whose records are sent one by one.
    """

    def __init__(
        self,
        directory: int,
        sender: Sender,
        counts: Counter[str],
        note: Callable[[int, int, int], None],
        is_over: Callable[[], bool],
    ) -> None:
        self._directory, self._sender, self._note = directory, sender, note
        self._counts, self._is_over = counts, is_over

    def send(self, batch: list[Frame]) -> None:
        """Send a batch. Raises the exceptions of the sender; earlier records are noted as sent."""
        try:
            new = self._sender.many([frame.record for frame in batch])
        except Refusal:
            self._send_parts(batch)
            return
        if new is None:
            self._send_each(batch)
            return
        self._counts["sent"] += new
        self._counts["repeated"] += len(batch) - new
        self._note(batch[-1].end, new, sum(map(self._free, batch)))

    def _send_parts(self, batch: list[Frame]) -> None:
        """Send the halves of a batch, so that a refused record adds few calls for the others."""
        if len(batch) == 1:
            self._send_each(batch)
            return
        middle = len(batch) // 2
        self.send(batch[:middle])
        if not self._is_over():
            self.send(batch[middle:])

    def _send_each(self, batch: list[Frame]) -> None:
        end = sent = freed = 0
        try:
            for frame in batch:
                try:
                    is_new = self._sender.one(frame.record)
                except Refusal as exc:
                    # Noted at once: the list of refused records does not recognise a repetition.
                    is_first = not self._counts["refused"]
                    state.refuse(self._directory, frame.record, str(exc), is_first=is_first)
                    self._counts["refused"] += 1
                    self._note(frame.end, sent, freed + self._size(frame))
                    end = sent = freed = 0
                    continue
                self._counts["sent" if is_new else "repeated"] += 1
                end, sent, freed = frame.end, sent + is_new, freed + self._free(frame)
                if self._is_over():
                    break
        finally:
            if end:
                self._note(end, sent, freed)

    def _size(self, frame: Frame) -> int:
        """The size of the file of a refused record; the file stays, and no longer waits."""
        file = frame.record.file
        return 0 if file is None or not file.exists() else file.stat().st_size

    def _free(self, frame: Frame) -> int:
        """Remove the file of a sent record; return its size."""
        file = frame.record.file
        return 0 if file is None else folder.remove(self._directory, file.name)
