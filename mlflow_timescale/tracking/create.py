"""Creating a run: one statement inserts run and tags, and checks the experiment."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
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
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME, _get_run_name_from_tags
from mlflow.utils.name_utils import _generate_random_name
from mlflow.utils.uri import append_to_uri_path

from mlflow_timescale.db import Connection
from mlflow_timescale.db.queries import load
from mlflow_timescale.tracking.writes import attributed

_queries = load("tracking")
_PLAIN_ID = re.compile("0|[1-9][0-9]{0,8}")


def is_plain(experiment_id: Any) -> bool:
    """Whether an experiment id is written as MLflow writes it, and fits into its column.

    >>> [is_plain(text) for text in ("0", "17", "", "+1", "00", "3000000000", 1, None)]
    [True, True, False, False, False, False, False, False]
    """
    return isinstance(experiment_id, str) and bool(_PLAIN_ID.fullmatch(experiment_id))


def contradicts(run_name: str | None, tags: Sequence[RunTag] | None) -> bool:
    """Whether the name of a new run differs from its name tag, which MLflow refuses."""
    tagged = _get_run_name_from_tags(list(tags or []))
    return bool(run_name and tagged and run_name != tagged)


def name_and_tags(run_name: str | None, tags: Sequence[RunTag] | None) -> tuple[str, list[RunTag]]:
    """The name and tags of a new run, by MLflow's rule: argument, else name tag, else random."""
    tags = list(tags or [])
    tagged = _get_run_name_from_tags(tags)
    name = run_name or tagged or _generate_random_name()
    if not tagged:
        tags.append(RunTag(key=MLFLOW_RUN_NAME, value=name))
    return name, tags


def all_locations(conn: Connection) -> list[str]:
    """Where all experiments have their artifacts."""
    return [location for (location,) in conn.execute(_queries.artifact_locations)]


@dataclass(frozen=True)
class NewRun:
    """A run that is to be inserted. Its artifacts go below those of its experiment."""

    experiment_id: str
    user_id: str
    start_time: int
    name: str
    tags: list[RunTag]
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def entity(self, root: str) -> Run:
        """The entity that MLflow returns, in an experiment with this artifact root."""
        info = RunInfo(
            run_id=self.run_id,
            run_name=self.name,
            experiment_id=self.experiment_id,
            user_id=self.user_id,
            status=RunStatus.to_string(RunStatus.RUNNING),
            start_time=self.start_time,
            end_time=None,
            lifecycle_stage=LifecycleStage.ACTIVE,
            artifact_uri=append_to_uri_path(root, self.run_id, "artifacts"),
        )
        data = RunData(metrics=[], params=[], tags=list(self.tags))
        return Run(info, data, RunInputs(dataset_inputs=[]))


def create_run(conn: Connection, roots: dict[int, str], new: NewRun, workspace: str | None) -> Run:
    """Insert a run with its tags; return the entity that MLflow returns.

    `roots` caches the artifact root of each experiment, from which the run's artifact URI is
    built. The statement returns the present root: if the cached one is missing or outdated, the
    run is inserted again with the right one.
    """
    experiment_id = int(new.experiment_id)
    cached_root, root = None, roots.get(experiment_id, "")
    while root != cached_root:
        cached_root = root
        run = new.entity(cached_root)
        root = insert(conn, new, cached_root, workspace)
    roots[experiment_id] = root
    return run


def insert(
    conn: Connection,
    new: NewRun,
    root: str,
    workspace: str | None,
    artifact_uri: str | None = None,
) -> str:
    """Insert a run if `root` is the artifact root of its experiment; return the present root.

    `artifact_uri` is where its artifacts are, unless below that root.
    """
    info = new.entity(root).info
    arguments = {
        "workspace": workspace,
        "root": root,
        **_row(info),
        **_columns(new.tags),
        **attributed(),
        "artifact_uri": artifact_uri or info.artifact_uri,
    }
    [(*_, present)] = conn.execute(_queries.create_run, arguments, prepare=True)
    return str(present)


def _row(info: RunInfo) -> dict[str, Any]:
    return {
        "run_id": info.run_id,
        "name": info.run_name,
        "user_id": info.user_id,
        "status": info.status,
        "start_time": info.start_time,
        "artifact_uri": info.artifact_uri,
        "experiment_id": int(info.experiment_id),
    }


def _columns(tags: Sequence[RunTag]) -> dict[str, list[str | None]]:
    return {
        "keys": [tag.key for tag in tags],
        "values": [None if tag.value is None else str(tag.value) for tag in tags],
    }
