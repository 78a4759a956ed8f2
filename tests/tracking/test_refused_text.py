"""NUL and lone surrogates in any text of a call of the tracking store are the caller's mistake."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mlflow.entities import (
    AssessmentSource,
    Dataset,
    DatasetInput,
    ExperimentTag,
    Feedback,
    InputTag,
    LoggedModelParameter,
    LoggedModelTag,
    Metric,
    Param,
    RunTag,
    TraceInfo,
    TraceLocation,
    TraceState,
)
from mlflow.exceptions import MlflowException
from mlflow.server import app, handlers
from support.mutations import with_character

from mlflow_timescale.tracking.store import TimescaleTrackingStore

RUN = "0" * 32
CHARACTERS = pytest.mark.parametrize("character", ["\0", "\ud83d"], ids=["NUL", "surrogate"])
# Each call takes these arguments; the test changes one text of one argument at a time.
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("create_experiment", {"name": "e", "artifact_location": "s3://bucket/x"}),
    ("create_experiment", {"name": "e", "artifact_location": "/tmp/x", "tags": []}),
    ("create_experiment", {"name": "e", "tags": [ExperimentTag("k", "v")]}),
    ("rename_experiment", {"experiment_id": "1", "new_name": "e2"}),
    ("get_experiment", {"experiment_id": "1"}),
    ("get_experiment_by_name", {"experiment_name": "e"}),
    ("set_experiment_tag", {"experiment_id": "1", "tag": ExperimentTag("k", "v")}),
    ("delete_experiment_tag", {"experiment_id": "1", "key": "k"}),
    ("search_experiments", {"filter_string": "name = 'e'"}),
    ("search_experiments", {"filter_string": "tags.k = 'v'", "order_by": ["name"]}),
    (
        "create_run",
        {
            "experiment_id": "1",
            "user_id": "me",
            "start_time": 1,
            "tags": [RunTag("k", "v")],
            "run_name": "r",
        },
    ),
    ("update_run_info", {"run_id": RUN, "run_status": None, "end_time": None, "run_name": "r"}),
    ("get_run", {"run_id": RUN}),
    ("delete_run", {"run_id": RUN}),
    ("log_metric", {"run_id": RUN, "metric": Metric("m", 1.0, 1, 1)}),
    ("log_param", {"run_id": RUN, "param": Param("p", "v")}),
    ("set_tag", {"run_id": RUN, "tag": RunTag("k", "v")}),
    ("delete_tag", {"run_id": RUN, "key": "k"}),
    (
        "log_batch",
        {
            "run_id": RUN,
            "metrics": [Metric("m", 1.0, 1, 1, "{model}", "dataset", "digest")],
            "params": [Param("p", "v")],
            "tags": [RunTag("k", "v")],
        },
    ),
    (
        "log_inputs",
        {
            "run_id": RUN,
            "datasets": [
                DatasetInput(
                    Dataset("name", "digest", "local", "{}", "{}", "{}"), [InputTag("k", "v")]
                )
            ],
        },
    ),
    (
        "search_runs",
        {
            "experiment_ids": ["1"],
            "filter_string": "params.p = 'v'",
            "run_view_type": 1,
            "order_by": ["tags.k"],
        },
    ),
    ("get_metric_history", {"run_id": RUN, "metric_key": "m"}),
    ("get_metric_history_bulk", {"run_ids": [RUN], "metric_key": "m", "max_results": 1}),
    (
        "get_metric_history_bulk_interval",
        {
            "run_ids": [RUN],
            "metric_key": "m",
            "max_results": 1,
            "start_step": None,
            "end_step": None,
        },
    ),
    (
        "create_logged_model",
        {
            "experiment_id": "1",
            "name": "m",
            "source_run_id": RUN,
            "tags": [LoggedModelTag("k", "v")],
            "params": [LoggedModelParameter("k", "v")],
            "model_type": "Agent",
        },
    ),
    ("set_logged_model_tags", {"model_id": "{model}", "tags": [LoggedModelTag("k", "v")]}),
    (
        "log_logged_model_params",
        {"model_id": "{model}", "params": [LoggedModelParameter("q", "v")]},
    ),
    ("search_logged_models", {"experiment_ids": ["1"], "filter_string": "params.k = 'v'"}),
    (
        "start_trace",
        {
            "trace_info": TraceInfo(
                "tr-2",
                TraceLocation.from_experiment_id("1"),
                request_time=1,
                state=TraceState.OK,
                request_preview="q",
                response_preview="a",
                client_request_id="c",
                trace_metadata={"k": "v"},
                tags={"k": "v"},
            )
        },
    ),
    ("get_trace_info", {"trace_id": "tr-1"}),
    ("set_trace_tag", {"trace_id": "tr-1", "key": "k", "value": "v"}),
    ("delete_trace_tag", {"trace_id": "tr-1", "key": "k"}),
    ("search_traces", {"experiment_ids": ["1"], "filter_string": "tags.k = 'v'"}),
    ("delete_traces", {"experiment_id": "1", "trace_ids": ["tr-9"]}),
    ("link_traces_to_run", {"trace_ids": ["tr-1"], "run_id": RUN}),
    ("create_dataset", {"name": "d", "tags": {"k": "v"}, "experiment_ids": ["1"]}),
    ("search_datasets", {"experiment_ids": ["1"], "filter_string": "name = 'd'"}),
    ("create_issue", {"experiment_id": "1", "name": "i", "description": "d"}),
    ("register_scorer", {"experiment_id": "1", "name": "s", "serialized_scorer": '{"a": 1}'}),
]


@pytest.fixture(scope="module")
def store(new_database: Any) -> Iterator[TimescaleTrackingStore]:
    with new_database() as uri:
        store = TimescaleTrackingStore(uri.url, "/artifacts")
        assert store.create_experiment("first") == "1"
        location = TraceLocation.from_experiment_id("1")
        store.start_trace(TraceInfo("tr-1", location, request_time=1, state=TraceState.OK))
        yield store


@pytest.fixture(scope="module")
def ids(store: TimescaleTrackingStore) -> dict[str, str]:
    run = store.create_run("1", "me", 1, [], None)
    return {RUN: run.info.run_id, "{model}": store.create_logged_model("1").model_id}


def resolved(value: Any, ids: dict[str, str]) -> Any:
    """An argument with the ids of this database."""
    if isinstance(value, list):
        return [resolved(item, ids) for item in value]
    if isinstance(value, Metric):
        return Metric("m", 1.0, 1, 1, ids["{model}"], value.dataset_name, value.dataset_digest)
    return ids.get(value, value) if isinstance(value, str) else value


@CHARACTERS
@pytest.mark.parametrize(("method", "arguments"), CALLS)
def test_each_text_of_each_argument_is_refused_by_name(
    store: TimescaleTrackingStore,
    ids: dict[str, str],
    method: str,
    arguments: dict[str, Any],
    character: str,
) -> None:
    arguments = {name: resolved(value, ids) for name, value in arguments.items()}
    for name, value in arguments.items():
        for changed in with_character(value, character):
            with pytest.raises(MlflowException) as error:
                getattr(store, method)(**{**arguments, name: changed})
            # MLflow's own check refuses some of them, and names the field too.
            assert error.value.error_code == "INVALID_PARAMETER_VALUE", (name, changed)
            error.value.message.encode()


def test_the_error_names_argument_and_position(
    store: TimescaleTrackingStore, ids: dict[str, str]
) -> None:
    with pytest.raises(
        MlflowException, match=r"^tags\[1\].value holds NUL at character 1: 'a\\x00b'"
    ):
        store.log_batch(ids[RUN], [], [], [RunTag("k", "v"), RunTag("l", "a\0b")])


def test_a_refused_call_writes_nothing(store: TimescaleTrackingStore) -> None:
    run_id = store.create_run("1", "me", 1, [], None).info.run_id
    with pytest.raises(MlflowException):
        store.log_batch(run_id, [Metric("m", 1.0, 1, 1)], [Param("p", "v")], [RunTag("k", "\0")])
    with pytest.raises(MlflowException):
        store.create_experiment("half", tags=[ExperimentTag("k", "v"), ExperimentTag("l", "\0")])
    data = store.get_run(run_id).data
    assert (data.metrics, data.params, "k" in data.tags) == ({}, {}, False)
    assert store.get_experiment_by_name("half") is None


def test_text_in_json_is_refused_where_no_answer_could_hold_it(
    store: TimescaleTrackingStore,
) -> None:
    def assess(text: str) -> Any:
        source = AssessmentSource("HUMAN", "me")
        return store.create_assessment(
            Feedback(name="f", value=text, source=source, trace_id="tr-1", metadata={"k": text})
        )

    with pytest.raises(MlflowException, match="lone surrogate") as error:
        assess("cut \ud83d")
    assert error.value.error_code == "INVALID_PARAMETER_VALUE"
    # As in MLflow: JSON holds NUL as an escape.
    assert store.get_assessment("tr-1", assess("a\0b").assessment_id).feedback.value == "a\0b"


@pytest.fixture
def post(
    store: TimescaleTrackingStore, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], Any]:
    """Send a body to the handlers of `mlflow server`, which use the store."""
    monkeypatch.setattr(handlers, "_get_tracking_store", lambda: store)

    def send(path: str, body: str) -> Any:
        url, kind = f"/api/2.0/mlflow/{path}", "application/json"
        return app.test_client().post(url, data=body, content_type=kind)

    return send


@pytest.mark.parametrize("escape", [r"\u0000", r"\ud83d", r"\uDE00"])
@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("runs/log-parameter", {"key": "k", "value": "TEXT"}, "value"),
        ("runs/set-tag", {"key": "k", "value": "TEXT"}, "value"),
        ("runs/log-batch", {"params": [{"key": "k", "value": "TEXT"}]}, "params[0]"),
    ],
)
def test_a_server_refuses_such_text_with_a_code_that_no_client_retries(
    post: Any, ids: dict[str, str], path: str, body: dict[str, Any], field: str, escape: str
) -> None:
    text = json.dumps({"run_id": ids[RUN], **body}).replace("TEXT", f"a{escape}")
    answer = post(path, text)
    assert answer.status_code == 400
    assert answer.json["error_code"] == "INVALID_PARAMETER_VALUE"
    assert field in answer.json["message"]


def test_a_server_takes_an_escaped_emoji(
    store: TimescaleTrackingStore, post: Any, ids: dict[str, str]
) -> None:
    body = f'{{"run_id": "{ids[RUN]}", "key": "emoji", "value": "\\ud83d\\ude00"}}'
    assert post("runs/set-tag", body).status_code == 200
    assert store.get_run(ids[RUN]).data.tags["emoji"] == "😀"
