"""Where the last append to a spool ended, in the file of the lock of appends.

A process that was killed while it appended has not noted an end, and one that starts after a power
failure has checked nothing: the note only saves what another append did a moment ago.
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
        The segment, and its bytes.
    waiting
        At most how many bytes wait in the spool: a drain makes it less.
    """

    segment: int
    size: int
    waiting: int

    @classmethod
    def read(cls, lock: int) -> End:
        """The end that the file of the lock holds."""
        content = os.pread(lock, _NOTE.size, 0)
        return cls(*_NOTE.unpack(content)) if len(content) == _NOTE.size else NOT_NOTED

    def write(self, lock: int) -> None:
        """Note the end."""
        os.pwrite(lock, _NOTE.pack(*self), 0)

    def after(self, size: int) -> End:
        """The end after an append of some bytes."""
        return End(self.segment, self.size + size, self.waiting + size)


NOT_NOTED = End(0, 0, 0)
