"""Writing to a run: few statements, each over arrays, sent together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from mlflow.entities import LifecycleStage, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_DOES_NOT_EXIST,
)
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

from mlflow_timescale.db.queries import load
from mlflow_timescale.tracking.errors import translated
from mlflow_timescale.tracking.points import COLUMNS, Points, columns, points

Connection = psycopg.Connection[Any]
_queries = load("tracking")


@dataclass(frozen=True)
class OpenRun:
    """A run that may be written to, and the connection of the transaction that found it so."""

    conn: Connection
    run_id: str
    experiment_id: int


def open_run(conn: Connection, run_id: str, workspace: str | None) -> OpenRun:
    """Look a run up for writing; raises as MLflow does if it does not exist or is deleted."""
    with translated():
        found = conn.execute(
            _queries.run_state, {"run_id": run_id, "workspace": workspace}
        ).fetchone()
    if found is None:
        raise MlflowException(f"Run with id={run_id} not found", RESOURCE_DOES_NOT_EXIST)
    stage, experiment_id = found
    if stage != LifecycleStage.ACTIVE:
        raise MlflowException(
            f"The run {run_id} must be in the 'active' state. Current state is {stage}.",
            INVALID_PARAMETER_VALUE,
        )
    return OpenRun(conn, run_id, experiment_id)


def log_metrics(run: OpenRun, batch: Points) -> None:
    """Add points and move the latest metrics on.

    The points go first: their trigger takes the run's lock, which every writer of the run waits
    for before it touches anything else that writers share.
    """
    if not batch.every:
        return
    with translated(), run.conn.pipeline():
        run.conn.execute(_queries.insert_metrics, {"run_id": run.run_id, **columns(batch.every)})
        run.conn.execute(_queries.upsert_latest, {"run_id": run.run_id, **columns(batch.latest)})


def log_model_metrics(
    run: OpenRun, metrics: Sequence[Metric], experiment_id: str, dataset_uuid: str | None
) -> None:
    """Add those metrics that belong to logged models."""
    unique = {
        (metric.model_id, metric.dataset_name, metric.dataset_digest, *item): None
        for metric in metrics
        if metric.model_id is not None
        for item in points([metric]).every
    }
    if not unique:
        return
    names = ("model_ids", "dataset_names", "dataset_digests", *COLUMNS)
    rows = sorted(unique, key=str)
    with translated():
        run.conn.execute(
            _queries.insert_model_metrics,
            {
                **dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)),
                "run_id": run.run_id,
                "experiment_id": experiment_id,
                "dataset_uuid": dataset_uuid,
            },
        )


def log_params(run: OpenRun, params: Sequence[Param]) -> list[tuple[str, str, str]]:
    """Add params; return (key, old value, new value) of those that have another value already."""
    arguments = {"run_id": run.run_id, **_pairs(params)}
    with translated():
        added = run.conn.execute(_queries.insert_params, arguments).rowcount
        if added == len(params):
            return []
        return run.conn.execute(_queries.changed_params, arguments).fetchall()


def set_tags(run: OpenRun, tags: Sequence[RunTag]) -> None:
    """Set tags; of two with one key the later holds. The name tag renames the run."""
    last = {tag.key: tag for tag in tags}
    # MLflow ignores an empty name.
    named = last.get(MLFLOW_RUN_NAME)
    if named is not None and not named.value:
        del last[MLFLOW_RUN_NAME]
        named = None
    if not last:
        return
    with translated(), run.conn.pipeline():
        if named is not None:
            run.conn.execute(_queries.rename_run, {"run_id": run.run_id, "name": named.value})
        run.conn.execute(_queries.upsert_tags, {"run_id": run.run_id, **_pairs(last.values())})


def _pairs(items: Any) -> dict[str, list[str | None]]:
    ordered = sorted(items, key=lambda item: item.key)
    return {
        "keys": [item.key for item in ordered],
        "values": [None if item.value is None else str(item.value) for item in ordered],
    }
