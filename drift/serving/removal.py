"""Retention of what was served: sessions before a date are removed, and this is remembered.

The judged record (mlops.drift_prediction_points) stays: the monitor needs it, and it is small.
"""

from __future__ import annotations

from datetime import date

from mlflow_timescale.common.time import parse_day
from mlflow_timescale.db import Connection, load, rows
from mlflow_timescale.db.migrations import facts

_queries = load("serving")


def count_before(conn: Connection, before: str | date) -> int:
    """How many predictions `remove_before` would remove.

    >>> count_before(conn, "2020-01-01")
    0
    """
    parameters = {"before": parse_day(before, "before")}
    return int(rows.scalar(conn, _queries.measure_served, parameters))


def remove_before(conn: Connection, before: str | date) -> int:
    """Remove what was served in sessions before a date, for good; return how many predictions.

    A question about such a session raises `memory.Removed` afterwards. On TimescaleDB, whole chunks
    are dropped, which frees their disk space at once.

    >>> remove_before(conn, "2020-01-01")
    0
    """
    parameters = {"before": parse_day(before, "before")}
    with conn.transaction():
        count = count_before(conn, before)
        if count:
            if "timescale" in facts(conn):
                conn.execute(_queries.drop_served_chunks, parameters)
            conn.execute(_queries.delete_served, parameters)
            conn.execute(_queries.delete_requests, parameters)
            conn.execute(_queries.add_removal, {**parameters, "predictions": count})
    return count
