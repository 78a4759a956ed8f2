"""`Database`: the one way from a URI to connections, pooled and safe for threads and forks."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from typing import Any, cast
from weakref import WeakSet

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout

from mlflow_timescale.db.connection import Connection
from mlflow_timescale.db.connections import connect, connect_driver
from mlflow_timescale.db.errors import ConnectionFailed
from mlflow_timescale.db.migrations import ensure
from mlflow_timescale.db.opening import connection_failed, connection_lost
from mlflow_timescale.db.queries import load
from mlflow_timescale.db.refusals import refused
from mlflow_timescale.db.rehearsal import is_rehearsal, rehearsed
from mlflow_timescale.db.revisions import no_schema, read_state
from mlflow_timescale.db.uri import DatabaseURI

_WAIT_SECONDS = 30.0  # for a connection of a pool that is in full use
_LOOK_SECONDS = 0.1  # between two looks at whether opening a connection has failed
_READER_SECONDS = 1.0  # for a further connection that a read can do without
_CHECK_SECONDS = 4.0
_KEPT = 4  # connections that are used again in the order of a stack: those of one large read
_LIFETIME_SECONDS = 3000.0  # the pool itself replaces connections that are older than an hour
_queries = load("server")
Setup = Callable[[Connection], None]


class Database:
    """Connections to one database: opened when needed, kept, bounded, checked before each use.

    Threads may share it. A child of fork() opens connections of its own, and leaves the parent's
    alone. Before the first connection is handed out, a new database gets its schema, and any other
    is checked (`mlflow_timescale.db.ensure`).

    Parameters
    ----------
    uri
        Any form that names a database; its option `pool_size` bounds the connections (32).
    application
        Begins the name of the connections in `pg_stat_activity`.
    setup
        Called with each new connection, to register adapters; it must not change the session.
    translate
        Whether psycopg's errors leave a block as `Refused`, for those whom people call directly.
    prepare
        Sets up or checks the schema, and remembers that it did; by default our part of the schema.

    Examples
    --------
    >>> database = Database(uri)
    >>> with database.connection() as conn:
    ...     conn.execute("SELECT 1").fetchone()
    (1,)
    >>> database.close()
    """

    def __init__(
        self,
        uri: str | DatabaseURI,
        *,
        application: str = "mlflow-timescale",
        setup: Setup | None = None,
        prepare: Callable[[DatabaseURI], None] | None = None,
        translate: bool = False,
    ) -> None:
        self.uri = DatabaseURI.parse(uri)
        self._prepare = prepare or _ensure
        self._prepared = False
        self._translate = translate
        self.setup = setup
        self._connector = _Connector(self.uri, application, setup)
        self._lock = threading.Lock()
        self._several = threading.Lock()
        self._pool: ConnectionPool[Connection] | None = None
        self._used_last: deque[Connection] = deque()  # pop and append are atomic
        self._waiting = 0
        _databases.add(self)

    def __repr__(self) -> str:
        return f"Database({str(self.uri)!r})"

    @classmethod
    def of(
        cls,
        database: str | DatabaseURI | Database,
        *,
        setup: Setup | None = None,
        **options: Any,
    ) -> Database:
        """A Database as it is, or a new one for a URI, or where its connections lack a setup."""
        if isinstance(database, Database):
            if setup in (None, database.setup):
                return database
            database = database.uri
        return cls(database, setup=setup, **options)

    def connection(self) -> AbstractContextManager[Connection]:
        """An autocommit connection, the caller's alone until the block ends.

        Raises ConnectionFailed if the server does not let us in, if all connections stay in use for
        30 seconds, or if the connection is lost inside the block.
        """
        return self._lent(_WAIT_SECONDS)

    @contextmanager
    def connections(self, count: int) -> Iterator[list[Connection]]:
        """Several autocommit connections for one caller.

        Only one thread at a time collects several: two that held one each and waited for another
        would wait for each other.
        """
        with ExitStack() as stack:
            with self._several:
                conns = [stack.enter_context(self.connection()) for _ in range(count)]
            yield conns

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection in a transaction that commits when the block ends without an exception."""
        with self.connection() as conn, conn.transaction():
            yield conn

    @contextmanager
    def lock(self, query: Any, parameters: dict[str, Any]) -> Iterator[bool]:
        """Hold a lock of the database beside other work; False inside if another session has it.

        `query` takes a transaction's advisory lock and returns whether it did. The lock ends with a
        transaction on a connection of its own, so that it works through a pooler too.
        """
        with self.transaction() as conn:
            [locked] = conn.execute(query, parameters).fetchone() or (False,)
            yield bool(locked)

    @contextmanager
    def readers(self, conn: Connection, count: int) -> Iterator[list[Connection]]:
        """Up to `count` connections that see what the transaction of `conn` sees; `conn` is first.

        Fewer where the pool has no more at hand. The transaction must be REPEATABLE READ.
        """
        [snapshot] = conn.execute(_queries.export_snapshot).fetchone() or ("",)
        with ExitStack() as stack:
            conns = [conn]
            while len(conns) < count:
                try:
                    other = stack.enter_context(self._lent(_READER_SECONDS))
                except ConnectionFailed:
                    break
                stack.enter_context(other.transaction())
                # A utility statement takes no parameters but those that the client writes into it.
                cursor = psycopg.ClientCursor(other)
                cursor.execute(_queries.join_snapshot, {"snapshot": snapshot})
                conns.append(other)
            yield conns

    def prepare(self) -> None:
        """Set up or check the schema, once per process.

        Raises what `db.connect` raises, and MigrationError.
        """
        if not self._prepared:
            self._prepare(self.uri)
            self._prepared = True

    def check(self, timeout: float = _CHECK_SECONDS) -> None:
        """Raise ConnectionFailed now if the server refuses, or is silent for `timeout` seconds.

        Commands call it before anything that would try again for minutes.
        """
        hosts = max(1, self.uri.host.count(",") + 1)
        connect(self.uri, connect_timeout=timeout / hosts).close()

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
            while self._used_last:
                pool.putconn(self._used_last.pop())  # a closed pool closes it

    @contextmanager
    def _lent(self, wait: float) -> Iterator[Connection]:
        if is_rehearsal():
            with rehearsed(self.uri, self._unprepared) as conn:
                self._connector.set_up(conn)
                yield conn
            return
        self.prepare()
        pool = self._pool or self._opened()
        conn = self._take(pool, wait)
        try:
            yield conn
        except psycopg.Error as exc:
            if conn.closed and isinstance(exc, psycopg.OperationalError):
                raise connection_lost(exc, self.uri) from exc
            if self._translate:
                raise refused(exc, self.uri) from exc
            raise
        finally:
            self._give_back(pool, conn)

    def _unprepared(self) -> Connection:
        """A connection to a database that has a schema already: a rehearsal makes none."""
        conn = self._connector.connect("")
        state = read_state(conn)
        if state is None:
            conn.close()
            raise no_schema(str(self.uri))
        state.check(str(self.uri))
        return conn

    def _opened(self) -> ConnectionPool[Connection]:
        with self._lock:
            if self._pool is None:
                self._pool = ConnectionPool(
                    connection_class=cast("type[Connection]", self._connector),
                    min_size=0,
                    max_size=self.uri.pool_size,
                    check=_check,
                    num_workers=1,
                    # A failure is the caller's to see: the pool does not try for minutes.
                    reconnect_timeout=0,
                    open=True,
                )
            return self._pool

    def _take(self, pool: ConnectionPool[Connection], wait: float) -> Connection:
        begin = time.monotonic()
        while True:
            if (conn := self._last(pool)) is not None:
                return conn
            self._count_waiting(1)
            try:
                return pool.getconn(timeout=_LOOK_SECONDS)
            except PoolTimeout:
                if failure := self._connector.failure_since(begin):
                    raise failure from None
                if time.monotonic() - begin > wait:
                    raise _all_in_use(self.uri, wait) from None
            finally:
                self._count_waiting(-1)

    def _count_waiting(self, change: int) -> None:
        with self._lock:
            self._waiting += change

    def _last(self, pool: ConnectionPool[Connection]) -> Connection | None:
        """The connection used last, if it is free: its server process has warm caches.

        The pool itself hands out the connection that has been idle longest, so that calls in a row
        would visit all server processes in turn; that costs `get_latest` a fifth.
        """
        try:
            conn = self._used_last.pop()
        except IndexError:
            return None
        if conn.is_alive():
            return conn
        pool.putconn(conn)  # which replaces it
        return None

    def _give_back(self, pool: ConnectionPool[Connection], conn: Connection) -> None:
        if not conn.is_ours:  # forked inside the block: the connection is the parent's
            return
        status = conn.pgconn.transaction_status
        if status == TransactionStatus.IDLE:
            conn.answered = time.monotonic()
            if self._keeps(pool, conn):
                self._used_last.append(conn)
                return
        elif status == TransactionStatus.ACTIVE:  # interrupted within a result
            conn.close()
        elif status != TransactionStatus.UNKNOWN:
            conn.rollback()
        pool.putconn(conn)

    def _keeps(self, pool: ConnectionPool[Connection], conn: Connection) -> bool:
        """Whether a connection stays out of the pool: a few do, unless old or waited for."""
        young = conn.answered - conn.opened < _LIFETIME_SECONDS
        free = len(self._used_last) < _KEPT and not self._waiting
        return free and young and pool is self._pool

    def _after_fork(self) -> None:
        """Replace the parent's pool: its threads are gone, and its locks may never be released."""
        self._lock, self._several = threading.Lock(), threading.Lock()
        _inherited.extend([self._pool, self._used_last])
        self._pool, self._used_last, self._waiting = None, deque(), 0


class _Connector:
    """Opens the connections of a pool, in the pool's thread, and keeps the last failure.

    The pool knows it as a connection class, of which it calls nothing but `connect`: the public
    parameters of the pool do not tell a caller why a connection could not be opened.
    """

    def __init__(self, uri: DatabaseURI, application: str, setup: Setup | None) -> None:
        self._uri, self._application, self._setup = uri, application, setup
        self._failure: tuple[float, Exception] | None = None

    def connect(self, conninfo: str, **keywords: Any) -> Connection:
        try:
            conn = connect_driver(self._uri, self._application, autocommit=True)
            self.set_up(conn)
        except Exception as exc:
            self._failure = (time.monotonic(), exc)
            raise
        return conn

    def set_up(self, conn: Connection) -> None:
        if self._setup is not None:
            self._setup(conn)

    def failure_since(self, begin: float) -> Exception | None:
        moment, exc = self._failure or (0.0, None)
        if exc is None or moment < begin:
            return None
        if isinstance(exc, psycopg.OperationalError):
            return connection_failed(exc, self._uri)
        return exc


def _check(conn: Connection) -> None:
    if not conn.is_alive():
        conn.close()  # by its state the pool sees that it has to open another
        raise psycopg.OperationalError("the connection was closed while it was idle")


def _all_in_use(uri: DatabaseURI, seconds: float) -> ConnectionFailed:
    return ConnectionFailed(
        f"all {uri.pool_size} connections of this pool to {uri} stayed in use for {seconds:.0f} s: "
        f"raise pool_size in the URI, or run fewer calls at once"
    )


@cache
def _ensure(uri: DatabaseURI) -> None:
    with connect(uri, autocommit=True) as conn:
        ensure(conn, uri)


_databases: WeakSet[Database] = WeakSet()
_inherited: list[object] = []  # pools of the parent: never closed, never collected


def _after_fork() -> None:
    for database in list(_databases):
        database._after_fork()


def _at_exit() -> None:
    for database in list(_databases):
        database.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
