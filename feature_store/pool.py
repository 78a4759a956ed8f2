"""Connections that a feature store keeps: a call takes an idle one, and gives it back."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from psycopg.pq import TransactionStatus

from mlflow_timescale import db
from mlflow_timescale.db import arrays
from mlflow_timescale.db.uri import DatabaseURI

_queries = db.load("features")
_MOST_READERS = 4  # more wait for each other in the database


class Pool:
    """Connections to one database, opened when needed; safe for threads and after a fork.

    `readers` is how many of them one large read may use: the machine's cores, and not too many.
    """

    def __init__(self, uri: DatabaseURI, readers: int | None = None) -> None:
        self.uri = uri
        self.readers = readers or min(_MOST_READERS, os.cpu_count() or 1)
        self._idle: list[db.Connection] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()

    @contextmanager
    def connection(self) -> Iterator[db.Connection]:
        """An autocommit connection, the caller's alone until the block ends."""
        conn = self._take()
        try:
            yield conn
        finally:
            self._give_back(conn)

    def close(self) -> None:
        """Close the idle connections; the next call opens a new one."""
        with self._lock:
            idle, self._idle = self._idle, []
        for conn in idle:
            conn.close()

    def _take(self) -> db.Connection:
        with self._lock:
            if self._pid != os.getpid():  # the parent's sockets: leave them alone, unclosed
                self._inherited, self._idle, self._pid = self._idle, [], os.getpid()
            while self._idle:
                conn = self._idle.pop()
                if _is_alive(conn):
                    return conn
                conn.close()
        return self._open()

    def _open(self) -> db.Connection:
        _prepare(self.uri)
        conn = db.connect(self.uri, autocommit=True, application_name="feature_store")
        conn.execute(_queries.session_settings)
        arrays.register(conn)
        return conn

    def _give_back(self, conn: db.Connection) -> None:
        usable = not conn.closed and conn.info.transaction_status == TransactionStatus.IDLE
        if not usable or self._pid != os.getpid():
            conn.close()
            return
        with self._lock:
            self._idle.append(conn)


def _is_alive(conn: db.Connection) -> bool:
    """Whether an idle connection can be used: a server that closed it has made it readable."""
    return not conn.closed and not select.select([conn.fileno()], [], [], 0)[0]


@cache
def _prepare(uri: DatabaseURI) -> None:
    """Check the schema, or set up a new database, once a process."""
    with db.connect(uri, autocommit=True) as conn:
        db.ensure(conn, uri)
