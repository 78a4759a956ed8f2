"""Permanent deletion of runs and traces, in sets, with everything that refers to them."""

from __future__ import annotations

from mlflow.store.tracking.dbmodels.models import SqlRun
from mlflow.store.tracking.sqlalchemy_store import _RUN_DELETE_CASCADE_MODELS
from psycopg import sql

from mlflow_timescale.db import Connection
from mlflow_timescale.db.queries import load
from mlflow_timescale.tracking.errors import translated

_queries = load("deletion")
_RUNS_AT_ONCE = 1000
_DELETE = [
    _queries.delete_of_runs.format(table=sql.Identifier(model.__tablename__))
    for model in (*_RUN_DELETE_CASCADE_MODELS, SqlRun)
]


def empty_experiment(conn: Connection, experiment_id: int, workspace: str | None) -> None:
    """Delete the runs and traces of an experiment, if it is in the deleted stage."""
    deleted = {"experiment_id": experiment_id, "workspace": workspace}
    with translated():
        # In batches: one statement over all runs of an experiment could lock millions of rows.
        while run_ids := _runs(conn, deleted):
            for statement in _DELETE:
                conn.execute(statement, {"run_ids": run_ids})
        conn.execute(_queries.delete_traces, deleted)


def _runs(conn: Connection, deleted: dict[str, int | str | None]) -> list[str]:
    rows = conn.execute(_queries.runs_of_deleted_experiment, {**deleted, "limit": _RUNS_AT_ONCE})
    return [run_id for (run_id,) in rows]
