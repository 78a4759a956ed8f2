"""Reading on several connections at once, all from one snapshot of the database."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, islice
from queue import SimpleQueue
from typing import TypeVar

import psycopg

from mlflow_timescale import db

from ..pool import Pool

_queries = db.load("features")
Part = TypeVar("Part")
Answer = TypeVar("Answer")


class Readers:
    """A connection in a transaction, and others of a pool that see what it sees.

    The others are taken when there is something to share, and given back at the end of the block.
    """

    def __init__(self, conn: db.Connection, pool: Pool | None = None) -> None:
        self.conn = conn
        self.number = pool.readers if pool else 1
        self._pool = pool
        self._others: list[db.Connection] = []
        self._open = ExitStack()

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def share(self, amount: int, at_least: int, at_most: int) -> int:
        """How large a part should be, so that all have something to do."""
        return max(at_least, min(at_most, -(-amount // (2 * self.number))))

    def map(
        self, ask: Callable[[db.Connection, Part], Answer], parts: Iterable[Part]
    ) -> Iterator[Answer]:
        """The answers to all parts, in their order; a few are under way at once."""
        rest = iter(parts)
        first = list(islice(rest, 2))
        if self.number == 1 or len(first) < 2:
            yield from (ask(self.conn, part) for part in chain(first, rest))
            return
        idle: SimpleQueue[db.Connection] = SimpleQueue()
        for conn in (self.conn, *self._helpers()):
            idle.put(conn)

        def work(part: Part) -> Answer:
            conn = idle.get()
            try:
                return ask(conn, part)
            finally:
                idle.put(conn)

        with ThreadPoolExecutor(self.number) as threads:
            under_way: deque[Future[Answer]] = deque()
            for part in chain(first, rest):
                under_way.append(threads.submit(work, part))
                if len(under_way) > 2 * self.number:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()

    def _helpers(self) -> list[db.Connection]:
        if self._pool and not self._others:
            [snapshot] = self.conn.execute(_queries.export_snapshot).fetchone() or ("",)
            for _ in range(self.number - 1):
                conn = self._open.enter_context(self._pool.connection())
                self._open.enter_context(conn.transaction())
                # A utility statement takes no parameters but those that the client writes into it.
                psycopg.ClientCursor(conn).execute(_queries.join_snapshot, {"snapshot": snapshot})
                self._others.append(conn)
        return self._others
