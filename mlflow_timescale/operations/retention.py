"""Removing old points of metrics."""

from __future__ import annotations

from datetime import datetime

from mlflow_timescale import db
from mlflow_timescale.common.time import require_zone

_queries = db.load("tracking")


def drop_points(conn: db.Connection, before: datetime) -> int:
    """Remove the points that were logged before a time, for good; return how many runs had some.

    Runs, params, tags and the latest value of each metric stay. On TimescaleDB whole chunks are
    dropped, which frees their disk space at once.

    Parameters
    ----------
    conn
        A connection in autocommit mode.
    before
        An aware datetime. Raises InvalidTime.
    """
    milliseconds = int(require_zone(before, "before").timestamp() * 1000)
    row = conn.execute(_queries.drop_points, {"before_ms": milliseconds}).fetchone()
    return int(row[0]) if row else 0
