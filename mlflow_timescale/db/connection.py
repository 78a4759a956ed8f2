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


class Connection(psycopg.Connection[TupleRow]):
    """A psycopg connection that knows which process it belongs to, and whether it still works.

    A child of fork() inherits the socket. Closing the connection there would end the parent's
    session, so `close` does nothing in another process than the one that opened it.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.process = os.getpid()
        self.pooled = False  # whether a pooler lies between, see `session.settle`
        self.answered = time.monotonic()

    def close(self) -> None:
        """Close the connection, unless it belongs to the parent of a forked process."""
        if self.is_ours:
            super().close()

    @property
    def is_ours(self) -> bool:
        """Whether this process opened the connection."""
        return self.process == os.getpid()

    def is_alive(self) -> bool:
        """Whether an idle connection can be used.

        A server that ends a connection says so: its socket becomes readable. Only a connection that
        has been idle for a while can have been cut off silently; only those cost a round trip.
        """
        if self.closed or not self.is_ours or self.has_input():
            return False
        if time.monotonic() - self.answered < TRUSTED_SECONDS:
            return True
        return self._answers()

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
