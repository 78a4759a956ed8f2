"""The connection that every part of the package uses."""

from __future__ import annotations

import os
import select
import time
from typing import Any

import psycopg
from psycopg.rows import TupleRow

# How long an answer of the server vouches for a connection whose socket has been silent since.
TRUSTED_SECONDS = 5.0


_process = os.getpid()  # asking the system costs a microsecond for each checkout


def _after_fork() -> None:
    global _process
    _process = os.getpid()


os.register_at_fork(after_in_child=_after_fork)


class Connection(psycopg.Connection[TupleRow]):
    """A psycopg connection that knows which process it belongs to, and whether it still works.

    A child of fork() inherits the socket. Closing the connection there would end the parent's
    session, so `close` does nothing in another process than the one that opened it.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.process = _process
        self.pooled = False  # whether a pooler lies between, see `session.settle`
        self.opened = self.answered = time.monotonic()

    def close(self) -> None:
        """Close the connection, unless it belongs to the parent of a forked process."""
        if self.is_ours:
            super().close()

    @property
    def is_ours(self) -> bool:
        """Whether this process opened the connection."""
        return self.process == _process

    def is_alive(self) -> bool:
        """Whether an idle connection can be used.

        When a server ends a connection, the socket becomes readable. Only a connection that
        has been idle for a while can have been cut off silently; only those cost a round trip.
        """
        if self.closed or self.process != _process or self.has_input():
            return False
        return time.monotonic() - self.answered < TRUSTED_SECONDS or self._answers()

    def has_input(self) -> bool:
        """Whether the server has sent something, or closed; poll() has no limit on descriptors."""
        poll = select.poll()
        poll.register(self.pgconn.socket, select.POLLIN)
        return bool(poll.poll(0))

    def _answers(self) -> bool:
        transactional, self.autocommit = not self.autocommit, True
        try:
            self.execute("", prepare=False)
            self.autocommit = not transactional
        except psycopg.Error:
            return False
        self.answered = time.monotonic()
        return True
