"""A database that plain MLflow filled with something of everything, and what clients read of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    Feedback,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelParameter,
    LoggedModelTag,
    Metric,
    Param,
    RunTag,
    TraceInfo,
    TraceLocation,
    TraceState,
    ViewType,
)
from mlflow.entities.assessment_source import AssessmentSource
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from support.entities import plain

DAY = 86_400_000
START = 1_600_000_000_000


def _points(number: int) -> list[Metric]:
    """A run's points: none, one, the values that have no number, or a series of some length."""
    kind = number % 5
    if kind == 0:
        return []
    if kind == 1:
        return [Metric("loss", 0.5, START, 0)]
    if kind == 2:
        values = [math.nan, math.inf, -math.inf, -0.0, 5e-324]
        return [Metric("größe/Σ", value, START + i, i - 2) for i, value in enumerate(values)]
    length = 300 if kind == 3 else 40
    return [
        Metric(f"m{i % 2}", i / 3, START + (i * 7 % 90) * DAY, i // 2 - 3) for i in range(length)
    ]


def fill(url: str, runs: int) -> list[str]:
    """Fill a database through MLflow's own stores; return the ids of the runs."""
    store, registry = SqlAlchemyStore(url, "/artifacts"), Registry(url)
    experiment = store.create_experiment("plain ü")
    ids: list[str] = []
    for number in range(runs):
        tags = [RunTag("kind", str(number % 5))]
        if number % 7 == 6:
            tags.append(RunTag("mlflow.parentRunId", ids[number - 1]))
        run_id = store.create_run(
            experiment, "me", START + number, tags, f"run {number}"
        ).info.run_id
        params = [Param("p", "ß" * (number % 3))] if number % 3 else []
        store.log_batch(run_id, _points(number), params, [])
        _end(store, run_id, number)
        ids.append(run_id)
    _inputs_and_models(store, experiment, ids)
    _versions(registry, ids)
    _trace(store, experiment)
    return ids


def _end(store: SqlAlchemyStore, run_id: str, number: int) -> None:
    status = ("FINISHED", "FAILED", "KILLED", None)[number % 4]
    if status is not None:
        store.update_run_info(run_id, _status(status), START + number + 1000, None)
    if number % 11 == 10:
        store.delete_run(run_id)


def _status(name: str) -> int:
    from mlflow.entities import RunStatus

    return RunStatus.from_string(name)


def _inputs_and_models(store: SqlAlchemyStore, experiment: str, ids: list[str]) -> None:
    dataset = Dataset("data", "digest", "local", "here", '{"schema": 1}', "profile")
    model = store.create_logged_model(
        experiment, "model", ids[1], [LoggedModelTag("a", "b")], [LoggedModelParameter("c", "d")]
    )
    store.log_inputs(
        ids[1], [DatasetInput(dataset, [InputTag("k", "v")])], [LoggedModelInput(model.model_id)]
    )
    store.log_outputs(ids[1], [LoggedModelOutput(model.model_id, 3)])
    store.log_metric(ids[1], Metric("of model", 0.5, START, 1, model.model_id, "data", "digest"))


def _versions(registry: Registry, ids: list[str]) -> None:
    for name in ("momentum", "value"):
        registry.create_registered_model(name, [], "described")
        for number in (1, 2):
            registry.create_model_version(name, f"runs:/{ids[number]}/model", ids[number], [])
        registry.set_registered_model_alias(name, "champion", 2)


def _trace(store: SqlAlchemyStore, experiment: str) -> None:
    info = TraceInfo(
        trace_id="tr-1",
        trace_location=TraceLocation.from_experiment_id(experiment),
        request_time=1,
        state=TraceState.OK,
        tags={"k": "ü"},
        trace_metadata={"m": "v"},
    )
    store.start_trace(info)
    source = AssessmentSource("HUMAN", "me")
    store.create_assessment(Feedback("good", 1.5, source=source, trace_id="tr-1"))


def answers(url: str) -> dict[str, Any]:
    """Every entity of a database, through MLflow's client."""
    client = MlflowClient(url, url)
    experiments = client.search_experiments(ViewType.ALL)
    ids = [experiment.experiment_id for experiment in experiments]
    runs = _all(lambda token: client.search_runs(ids, "", ViewType.ALL, 500, page_token=token))
    read = {
        "experiments": experiments,
        "runs": runs,
        "each run": [client.get_run(run.info.run_id) for run in runs],
        "histories": [
            client.get_metric_history(run.info.run_id, key)
            for run in runs
            for key in sorted(run.data.metrics)
        ],
        "models": list(client.search_logged_models(ids)),
        "traces": list(client.search_traces(ids, include_spans=False)),
        "registered": [
            client.get_registered_model(m.name) for m in client.search_registered_models()
        ],
        "versions": [
            client.get_model_version(v.name, v.version) for v in client.search_model_versions()
        ],
    }
    return {name: plain(list(value), {}) for name, value in read.items()}


def _all(page: Callable[[str | None], Any]) -> list[Any]:
    found, token = [], None
    while True:
        answer = page(token)
        found += answer
        token = answer.token
        if not token:
            return found
