"""The newest calls of this process, which complete reads of its runs during an outage."""

from __future__ import annotations

from collections import deque
from contextlib import suppress

from mlflow_timescale.tracking.spooled import Call

LIMIT = 2**24  # bytes
_CALL_BYTES, _ENTITY_BYTES = 600, 200  # estimates: a call without points; a param or tag


class RecentCalls:
    """The newest calls, up to a number of bytes.

    There is no lock, because a fork could leave it locked; a race makes only the limit inexact.

    Examples
    --------
    >>> recent = RecentCalls()
    >>> recent.add(Call("delete_tag", "4f", ["a"]))
    >>> [call.method for call in recent.of("4f")], recent.of("4f", after=1)
    (['delete_tag'], [])
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit, self._bytes = limit, 0
        self._calls: deque[tuple[int, Call]] = deque()
        self.count = 0

    def add(self, call: Call) -> None:
        """Keep a call, and drop the oldest ones beyond the limit."""
        self.count += 1
        self._calls.append((self.count, call))
        self._bytes += _size(call)
        with suppress(IndexError):  # another thread has dropped the last one
            while self._bytes > self._limit:
                self._bytes -= _size(self._calls.popleft()[1])

    def of(self, run_id: str, after: int = 0) -> list[Call]:
        """The calls for a run, in order; with `after`, those after that value of `count`."""
        calls = self._calls.copy()
        return [call for number, call in calls if number > after and call.run_id == run_id]


def _size(call: Call) -> int:
    # Calls share the key strings, so that a key counts as a reference of 8 bytes.
    size = _CALL_BYTES + len(call.points.columns) + 8 * len(call.points.keys)
    if call.method == "log_batch":
        _, params, tags = call.arguments
        size += sum(_ENTITY_BYTES + len(str(entity.value)) for entity in (*params, *tags))
    return size
