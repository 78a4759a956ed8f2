"""From MLflow's stores to the connections below them: one pool, and the read replica."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, cast

from mlflow.store.db.db_types import POSTGRES
from mlflow.store.db.utils import _get_managed_session_maker
from psycopg.pq import TransactionStatus
from sqlalchemy.orm import sessionmaker

from mlflow_timescale.db import Connection
from mlflow_timescale.tracking.errors import translated

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine
    from sqlalchemy.orm import Session

Sessions = Callable[..., AbstractContextManager[Any]]


def driver(session: Session) -> Connection:
    """The psycopg connection that a session holds, in the session's transaction."""
    return cast("Connection", session.connection().connection.driver_connection)


@contextmanager
def autocommit(engine: Engine) -> Iterator[Connection]:
    """A connection of MLflow's pool on which a statement, or a pipeline, is a transaction.

    A session needs three more round trips: a ping, BEGIN and COMMIT. Inside a session of this
    thread it is a savepoint of that one's transaction, on its connection.
    """
    outer = _outer(engine)
    if outer is not None:
        with translated(), driver(outer).transaction():
            yield driver(outer)
        return
    with translated():
        pooled = engine.raw_connection()
        conn = cast("Connection", pooled.driver_connection)
        try:
            conn.autocommit = True
            yield conn
        finally:
            if conn.info.transaction_status == TransactionStatus.IDLE:
                conn.autocommit = False
                pooled.close()
            else:  # broken, or interrupted
                pooled.invalidate()


class _Open(threading.local):
    """The outermost session of this thread, by engine."""

    def __init__(self) -> None:
        self.sessions: dict[Engine, Session] = {}


_open = _Open()


def joined(sessions: Sessions, engine: Engine, replica: Engine | None) -> Sessions:
    """The sessions of a store, of which one inside another is a savepoint of its transaction.

    MLflow's calls open sessions inside of sessions (log_inputs, start_trace, create_logged_model,
    ...), each with a connection of its own. As many threads as the pool has connections then wait
    for one another until the pool's timeout, and what the inner session wrote stays if the outer
    one fails.
    """

    @contextmanager
    def make(read_only: bool = True) -> Iterator[Session]:
        outer = _outer(engine, replica if read_only else None)
        if outer is None:
            with sessions(read_only=read_only) as session, _remembered(session):
                yield session
        else:
            with _savepoints(outer)(read_only=read_only) as session:
                yield session

    return make


def _outer(*engines: Engine | None) -> Session | None:
    sessions = (_open.sessions.get(engine) for engine in engines if engine is not None)
    return next((session for session in sessions if session is not None), None)


@contextmanager
def _remembered(session: Session) -> Iterator[None]:
    engine = cast("Engine", session.get_bind())
    _open.sessions[engine] = session
    try:
        yield
    finally:
        del _open.sessions[engine]


def _savepoints(outer: Session) -> Sessions:
    if not outer.is_active:
        # After a failed flush, MLflow reads through a second session (create_registered_model).
        # The transaction is rolled back already; this frees its connection for that read.
        outer.rollback()
    within = sessionmaker(bind=outer.connection(), join_transaction_mode="create_savepoint")
    return cast("Sessions", _get_managed_session_maker(within, POSTGRES))
