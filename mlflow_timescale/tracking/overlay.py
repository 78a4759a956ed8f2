"""Reads of a run while writes to it wait in a spool: the stored state plus the waiting calls.

Pure functions. A waiting call may be stored already; applying it twice gives the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mlflow.entities import (
    LoggedModel,
    LoggedModelParameter,
    LoggedModelTag,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunStatus,
    RunTag,
)
from mlflow.entities.run_outputs import RunOutputs
from mlflow.store.entities.paged_list import PagedList
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from mlflow.utils.search_utils import SearchUtils

from mlflow_timescale.tracking.points import Point
from mlflow_timescale.tracking.spooled import Call, new_run

_NAN = float("nan")


def created(calls: Iterable[Call]) -> Run | None:
    """The run that one of the calls creates; None if none does."""
    for call in calls:
        if call.method == "create_run":
            new, artifact_uri = new_run(call)
            run = new.entity("")
            return Run(_info(run.info, artifact_uri=artifact_uri), run.data, run.inputs)
    return None


def changes(call: Call) -> bool:
    """Whether a call creates or changes a run."""
    return call.method in _CHANGES or call.method in ("create_run", "log_points")


def run(stored: Run, calls: Iterable[Call]) -> Run:
    """A run after some calls."""
    changing = _Changing(stored)
    for call in calls:
        for point in call.points.points():
            changing.log_metric(_metric(point))
        change = _CHANGES.get(call.method)
        if change is not None:
            change(changing, *call.arguments)
    return changing.run()


def history(stored: Sequence[Metric], calls: Iterable[Call], key: str) -> list[Metric]:
    """The points of a series after some calls, in MLflow's order: timestamp, step, value."""
    points = {(m.timestamp, m.step, str(m.value)): m for m in stored}
    for call in calls:
        of_models = call.arguments[0] if call.method == "log_batch" else ()
        for metric in (*map(_metric, call.points.points()), *of_models):
            if metric.key == key:
                points.setdefault((metric.timestamp, metric.step, str(metric.value)), metric)
    return sorted(points.values(), key=lambda m: (m.timestamp, m.step, m.value))


def page(
    points: Sequence[Metric], max_results: int | None, page_token: str | None
) -> PagedList[Metric]:
    """A page of a history; without `max_results` all points from the token on."""
    offset = SearchUtils.parse_start_offset_from_page_token(page_token)
    end = len(points) if max_results is None else offset + max_results
    token = SearchUtils.create_page_token(end) if end < len(points) else None
    return PagedList(points[offset:end], token)


def model(stored: LoggedModel, calls: Iterable[Call]) -> LoggedModel:
    """A model after some calls."""
    tags, params, status = dict(stored.tags), dict(stored.params), stored.status
    for call in calls:
        if call.method == "finalize_logged_model":
            [status] = call.arguments
        elif call.method == "log_logged_model_params":
            params |= {param.key: param.value for param in call.arguments[0]}
        elif call.method == "set_logged_model_tags":
            tags |= {tag.key: tag.value for tag in call.arguments[0]}
        elif call.method == "delete_logged_model_tag":
            tags.pop(call.arguments[0], None)
    return LoggedModel(
        stored.experiment_id,
        stored.model_id,
        stored.name,
        stored.artifact_location,
        stored.creation_timestamp,
        stored.last_updated_timestamp,
        stored.model_type,
        stored.source_run_id,
        status,
        stored.status_message,
        [LoggedModelTag(key, value) for key, value in tags.items()],
        [LoggedModelParameter(key, value) for key, value in params.items()],
        stored.metrics,
    )


class _Changing:
    """A run while calls change it."""

    def __init__(self, stored: Run) -> None:
        self.info = stored.info
        self.metrics = {metric.key: metric for metric in stored.data._metric_objs}
        self.params = dict(stored.data.params)
        self.tags = dict(stored.data.tags)
        self.datasets = list(stored.inputs.dataset_inputs if stored.inputs else [])
        self.models = list(stored.inputs.model_inputs if stored.inputs else [])
        self.outputs = list(stored.outputs.model_outputs if stored.outputs else [])

    def run(self) -> Run:
        data = RunData(
            list(self.metrics.values()),
            [Param(key, value) for key, value in self.params.items()],
            [RunTag(key, value) for key, value in self.tags.items()],
        )
        inputs = RunInputs(dataset_inputs=self.datasets, model_inputs=self.models)
        return Run(self.info, data, inputs, RunOutputs(self.outputs))

    def log_metric(self, metric: Metric) -> None:
        latest = self.metrics.get(metric.key)
        if latest is None or _position(metric) > _position(latest):
            self.metrics[metric.key] = metric

    def log_batch(self, metrics: list[Metric], params: list[Param], tags: list[RunTag]) -> None:
        for metric in metrics:
            self.log_metric(metric)
        for param in params:
            self.params.setdefault(param.key, param.value)
        for tag in tags:
            self.tags[tag.key] = tag.value
            if tag.key == MLFLOW_RUN_NAME:
                self.info = _info(self.info, run_name=tag.value)

    def update_run_info(
        self, status: int | None, end_time: int | None, run_name: str | None
    ) -> None:
        if status is not None:
            self.info = _info(self.info, status=RunStatus.to_string(status))
        if end_time is not None:
            self.info = _info(self.info, end_time=end_time)
        if run_name:
            self.log_batch([], [], [RunTag(MLFLOW_RUN_NAME, run_name)])

    def delete_tag(self, key: str) -> None:
        self.tags.pop(key, None)

    def log_inputs(self, datasets: list[Any] | None, models: list[Any] | None) -> None:
        self.datasets += [item for item in datasets or [] if item not in self.datasets]
        self.models += [item for item in models or [] if item not in self.models]

    def log_outputs(self, models: list[Any]) -> None:
        self.outputs += [item for item in models if item not in self.outputs]


_CHANGES: Mapping[str, Callable[..., None]] = {
    "log_batch": _Changing.log_batch,
    "update_run_info": _Changing.update_run_info,
    "delete_tag": _Changing.delete_tag,
    "log_inputs": _Changing.log_inputs,
    "log_outputs": _Changing.log_outputs,
}


def _metric(point: Point) -> Metric:
    key, step, timestamp, value, is_nan = point
    return Metric(key, _NAN if is_nan else value, timestamp, step)


def _position(metric: Metric) -> tuple[int, int, float]:
    """The order of points, of which the last is the latest; NaN is stored as 0."""
    value = metric.value
    return metric.step, metric.timestamp, 0.0 if value != value else value


def _info(info: RunInfo, **changed: Any) -> RunInfo:
    fields = {
        "run_id": info.run_id,
        "experiment_id": info.experiment_id,
        "user_id": info.user_id,
        "status": info.status,
        "start_time": info.start_time,
        "end_time": info.end_time,
        "lifecycle_stage": info.lifecycle_stage,
        "artifact_uri": info.artifact_uri,
        "run_name": info.run_name,
    }
    return RunInfo(**fields | changed)
