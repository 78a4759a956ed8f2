"""Reading on several connections at once, all from one snapshot of the database."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, islice
from queue import SimpleQueue
from typing import TypeVar

from mlflow_timescale.db import Connection, Database

Part = TypeVar("Part")
Result = TypeVar("Result")


class Readers:
    """A connection in a transaction, and others of the database that see what it sees.

    The others are taken when there is something to share, and given back at the end of the block.
    """

    def __init__(self, conn: Connection, database: Database | None = None, number: int = 1) -> None:
        self.conn = conn
        self.number = number if database else 1
        self._database = database
        self._conns: list[Connection] = []
        self._exits = ExitStack()

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *error: object) -> None:
        self._exits.close()

    def share(self, amount: int, at_least: int, at_most: int) -> int:
        """The size of a part with which every reader has work to do."""
        return max(at_least, min(at_most, -(-amount // (2 * self.number))))

    def map(
        self, read: Callable[[Connection, Part], Result], parts: Iterable[Part]
    ) -> Iterator[Result]:
        """The results for all parts, in their order; a few are under way at once."""
        rest = iter(parts)
        first = list(islice(rest, 2))
        if self.number == 1 or len(first) < 2:
            yield from (read(self.conn, part) for part in chain(first, rest))
            return
        idle: SimpleQueue[Connection] = SimpleQueue()
        for conn in self._connections():
            idle.put(conn)

        def work(part: Part) -> Result:
            conn = idle.get()
            try:
                return read(conn, part)
            finally:
                idle.put(conn)

        with ThreadPoolExecutor(self.number) as threads:
            under_way: deque[Future[Result]] = deque()
            for part in chain(first, rest):
                under_way.append(threads.submit(work, part))
                if len(under_way) > 2 * self.number:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()

    def _connections(self) -> list[Connection]:
        if not self._conns and self._database:
            readers = self._database.readers(self.conn, self.number)
            self._conns = self._exits.enter_context(readers)
        return self._conns
