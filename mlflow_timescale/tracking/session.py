"""From MLflow's stores to the connections below them: one pool, and the read replica."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from psycopg.pq import TransactionStatus

from mlflow_timescale.db import Connection
from mlflow_timescale.tracking.errors import translated

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine
    from sqlalchemy.orm import Session


def driver(session: Session) -> Connection:
    """The psycopg connection that a session holds, in the session's transaction."""
    return cast("Connection", session.connection().connection.driver_connection)


@contextmanager
def autocommit(engine: Engine) -> Iterator[Connection]:
    """A connection of MLflow's pool on which a statement, or a pipeline, is a transaction.

    A session needs three more round trips: a ping, BEGIN and COMMIT.
    """
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
