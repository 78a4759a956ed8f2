"""Reads of runs: one statement for each kind of child, all in one round trip, without the ORM."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import starmap
from typing import Any

from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunOutputs,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.utils.mlflow_tags import _get_run_name_from_tags

from mlflow_timescale.common.collection import collection_paused
from mlflow_timescale.db import Connection
from mlflow_timescale.db.queries import load
from mlflow_timescale.tracking.errors import translated

_queries = load("tracking")
Row = tuple[Any, ...]


def get_run(conn: Connection, run_id: str, workspace: str | None) -> Run:
    """One run with everything that belongs to it."""
    with translated(), conn.pipeline():
        cursor = conn.execute(
            _queries.run_info, {"run_id": run_id, "workspace": workspace}, binary=True
        )
        children = _Children(conn, [run_id])
        info = cursor.fetchone()
        if info is None:
            raise MlflowException(f"Run with id={run_id} not found", RESOURCE_DOES_NOT_EXIST)
        return children.collect().run(info, model_inputs=True)


def load_runs(conn: Connection, infos: Sequence[Row]) -> list[Run]:
    """The runs of rows of attributes, without model inputs, as in MLflow's search."""
    if not infos:
        return []
    with collection_paused():
        with translated(), conn.pipeline():
            children = _Children(conn, [info[0] for info in infos]).collect()
        return [children.run(info) for info in infos]


class _Children:
    """Metrics, params, tags, datasets and models of runs, by run."""

    def __init__(self, conn: Connection, run_ids: list[str]) -> None:
        # Sent at once in a pipeline; `collect` reads the results.
        def send(query: Any) -> Any:
            return conn.execute(query, {"run_ids": run_ids}, binary=True)

        self._metrics = send(_queries.run_metrics)
        self._params = send(_queries.run_params)
        self._tags = send(_queries.run_tags)
        self._datasets = send(_queries.run_datasets)
        self._models = send(_queries.run_models)

    def collect(self) -> _Children:
        """Make the entities of each result, while the server works on the next one."""
        self.metrics = _by_run(Metric, self._metrics)
        self.params = _by_run(Param, self._params)
        self.tags = _by_run(RunTag, self._tags)
        self.datasets = _datasets(self._datasets)
        self.models = defaultdict(list)
        for run_id, source_type, model_id, step in self._models:
            self.models[run_id, source_type].append((model_id, step))
        return self

    def run(self, info: Row, *, model_inputs: bool = False) -> Run:
        """The entity, from its row of attributes."""
        run_id = info[0]
        tags = self.tags.get(run_id, [])
        data = RunData(self.metrics.get(run_id, []), self.params.get(run_id, []), tags)
        datasets = list(self.datasets[run_id].values()) if run_id in self.datasets else []
        outputs = list(starmap(LoggedModelOutput, self.models.get((run_id, "RUN_OUTPUT"), ())))
        if not model_inputs:
            return Run(_info(info, tags), data, RunInputs(datasets), RunOutputs(outputs))
        models = [LoggedModelInput(key) for key, _ in self.models.get((run_id, "RUN_INPUT"), ())]
        return Run(
            _info(info, tags),
            data,
            RunInputs(dataset_inputs=datasets, model_inputs=models),
            RunOutputs(outputs),
        )


def _info(row: Row, tags: list[RunTag]) -> RunInfo:
    run_id, name, experiment_id, user_id, status, start, end, stage, artifact_uri = row
    return RunInfo(
        run_id=run_id,
        # Runs of MLflow <= 1.29 have their name in a tag only.
        run_name=name or _get_run_name_from_tags(tags) or name,
        experiment_id=experiment_id,
        user_id=user_id,
        status=status,
        start_time=start,
        end_time=end,
        lifecycle_stage=stage,
        artifact_uri=artifact_uri,
    )


def _by_run(entity: Any, rows: Any) -> dict[str, list[Any]]:
    """The entities of each run, from rows of a run's id and a column for each field."""
    return {run_id: list(map(entity, *columns)) for run_id, *columns in rows}


def _datasets(rows: Any) -> dict[str, dict[str, DatasetInput]]:
    """By run and dataset; a dataset that was logged with several tags is one input."""
    inputs: dict[str, dict[str, DatasetInput]] = defaultdict(dict)
    for run_id, dataset_id, name, digest, kind, source, schema, profile, tag, value in rows:
        if dataset_id not in inputs[run_id]:
            dataset = Dataset(name, digest, kind, source, schema, profile)
            inputs[run_id][dataset_id] = DatasetInput(dataset=dataset, tags=[])
        if tag is not None:
            inputs[run_id][dataset_id].tags.append(InputTag(key=tag, value=value))
    return inputs
