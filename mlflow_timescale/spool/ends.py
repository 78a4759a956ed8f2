"""The end of the last append to a spool, noted in the lock file of appends.

The note saves the next append a check of the segment. It is only trusted by a process that has
checked the segment itself, and does not match after a process was killed while it appended.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

_NOTE = struct.Struct("<QQQ")


class End(NamedTuple):
    """The end of the last append.

    Attributes
    ----------
    segment, size
        The number of the segment, and its size in bytes.
    waiting
        An upper bound of the bytes that wait: a drain does not lower it.
    """

    segment: int
    size: int
    waiting: int

    @classmethod
    def read(cls, lock: int) -> End:
        """Read the end from the lock file."""
        content = os.pread(lock, _NOTE.size, 0)
        return cls(*_NOTE.unpack(content)) if len(content) == _NOTE.size else NOT_NOTED

    def write(self, lock: int) -> None:
        """Write the end to the lock file."""
        os.pwrite(lock, _NOTE.pack(*self), 0)

    def after(self, size: int) -> End:
        """The end after an append of some bytes."""
        return End(self.segment, self.size + size, self.waiting + size)


NOT_NOTED = End(0, 0, 0)
