"""Starting a run: one look at the experiment, then everything at once."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from mlflow.entities import (
    LifecycleStage,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunStatus,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME, _get_run_name_from_tags
from mlflow.utils.name_utils import _generate_random_name
from mlflow.utils.uri import append_to_uri_path

from mlflow_timescale.db.queries import load
from mlflow_timescale.tracking.errors import translated
from mlflow_timescale.tracking.writes import Connection

_queries = load("tracking")


def artifact_root(conn: Connection, experiment_id: int, workspace: str | None) -> str:
    """Where the runs of an active experiment keep their artifacts."""
    with translated():
        found = conn.execute(
            _queries.experiment, {"experiment_id": experiment_id, "workspace": workspace}
        ).fetchone()
    if found is None:
        raise MlflowException(
            f"No Experiment with id={experiment_id} exists", RESOURCE_DOES_NOT_EXIST
        )
    _, location, stage = found
    if stage != LifecycleStage.ACTIVE:
        raise MlflowException(
            f"The experiment {experiment_id} must be in the 'active' state. "
            f"Current state is {stage}.",
            INVALID_PARAMETER_VALUE,
        )
    return str(location)


def name_and_tags(run_name: str | None, tags: Sequence[RunTag] | None) -> tuple[str, list[RunTag]]:
    """MLflow's rule: the argument, else the name tag, else an invented name; always a name tag."""
    tags = list(tags or [])
    tagged = _get_run_name_from_tags(tags)
    if run_name and tagged and run_name != tagged:
        raise MlflowException(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with "
            f"different values (run_name='{run_name}', mlflow.runName='{tagged}').",
            INVALID_PARAMETER_VALUE,
        )
    name = run_name or tagged or _generate_random_name()
    if not tagged:
        tags.append(RunTag(key=MLFLOW_RUN_NAME, value=name))
    return name, tags


def create_run(
    conn: Connection,
    *,
    experiment_id: str,
    user_id: str,
    start_time: int,
    name: str,
    tags: Sequence[RunTag],
    artifact_root: str,
) -> Run:
    """Insert a run with its tags, and return it as MLflow does."""
    run_id = uuid.uuid4().hex
    info = RunInfo(
        run_id=run_id,
        run_name=name,
        experiment_id=str(experiment_id),
        user_id=user_id,
        status=RunStatus.to_string(RunStatus.RUNNING),
        start_time=start_time,
        end_time=None,
        lifecycle_stage=LifecycleStage.ACTIVE,
        artifact_uri=append_to_uri_path(artifact_root, run_id, "artifacts"),
    )
    with translated(), conn.pipeline():
        conn.execute(_queries.insert_run, _row(info))
        conn.execute(
            _queries.insert_tags,
            {
                "run_id": run_id,
                "keys": [tag.key for tag in tags],
                "values": [None if tag.value is None else str(tag.value) for tag in tags],
            },
        )
    return Run(info, RunData(metrics=[], params=[], tags=list(tags)), RunInputs(dataset_inputs=[]))


def _row(info: RunInfo) -> dict[str, Any]:
    return {
        "run_id": info.run_id,
        "name": info.run_name,
        "user_id": info.user_id,
        "status": info.status,
        "start_time": info.start_time,
        "stage": info.lifecycle_stage,
        "artifact_uri": info.artifact_uri,
        "experiment_id": int(info.experiment_id),
    }
