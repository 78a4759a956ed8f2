"""From MLflow's session to the connection below it: one pool, one transaction, the read replica."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from mlflow_timescale.tracking.writes import Connection


def driver(session: Session) -> Connection:
    """The psycopg connection that a session holds."""
    return cast("Connection", session.connection().connection.driver_connection)
