"""The same HTTP requests to `mlflow server` on MLflow's stores and on ours: equal answers."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from mlflow.server import app, handlers

# Ids and times that each store makes; the random names of runs and models.
_RANDOM_NAME = r"[a-z]+-[a-z]+-\d+"
_MADE = re.compile(
    rf'[0-9a-f]{{32}}|\b1[0-9]{{12}}\b|(?<=name": "){_RANDOM_NAME}|(?<="value": "){_RANDOM_NAME}'
)
IDS = [
    "",
    "1",
    "+1",
    "00",
    " 1",
    "1_0",
    "-1",
    "abc",
    "1.0",
    "٠",
    "2147483648",
    str(2**63),
    "9" * 30,
]
OFFSETS = ["1", "-1", "1e400", '"x"', "[1]", "NaN", "1.5", "true", str(2**31), str(2**63)]
TOKENS = ["W10=", "e30=", "!!!", "😀", "a", "====", *OFFSETS]
LIMITS = ["", "0", "-1", "1", "abc", "1.5", "50001", str(2**31), str(2**64)]
Ask = Callable[..., Any]


def token(text: str) -> str:
    """A page token: as given, or one for an offset."""
    if text in OFFSETS:
        return base64.b64encode(f'{{"offset": {text}}}'.encode()).decode()
    return text


@pytest.fixture(scope="module")
def ask(pair: Any, registries: Any) -> Ask:
    """Send a request to both; return ours, which must equal theirs in status and content."""

    def answers(method: str, path: str, body: Any = None, raw: str | None = None) -> Any:
        outcomes = [
            _answer(pair, registries, side, method, path, json.dumps(body) if body else raw)
            for side in ("theirs", "ours")
        ]
        assert outcomes[1] == outcomes[0], (method, path, body, raw)
        return outcomes[1]

    answers("POST", "experiments/create", {"name": "asked"})
    answers("POST", "registered-models/create", {"name": "asked"})
    for _ in range(2):
        answers("POST", "model-versions/create", {"name": "asked", "source": "s3://bucket/x"})
    return answers


def _answer(
    pair: Any, registries: Any, side: str, method: str, path: str, body: str | None
) -> tuple[int, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handlers, "_get_tracking_store", lambda: getattr(pair, side))
        patch.setattr(handlers, "_get_model_registry_store", lambda: getattr(registries, side))
        answer = app.test_client().open(
            f"/ajax-api/2.0/mlflow/{path}",
            method=method,
            data=body,
            content_type="application/json",
        )
    text = _MADE.sub("0", answer.get_data(as_text=True))
    # The text of an error of the database differs: driver, statement.
    if '"BAD_REQUEST"' in text:
        return answer.status_code, "BAD_REQUEST"
    return answer.status_code, json.loads(text) if answer.is_json else text


@pytest.mark.parametrize("raw", ["", "no json", "[]", "null", '{"experiment_id": "0"', "{}"])
def test_a_run_without_an_experiment_is_refused(ask: Ask, pair: Any, raw: str) -> None:
    before = len(pair.ours.search_runs(["0"], None, 3, 1000))
    assert ask("POST", "runs/create", raw=raw)[0] == 400
    assert len(pair.ours.search_runs(["0"], None, 3, 1000)) == before


@pytest.mark.parametrize("experiment_id", IDS)
def test_an_unusual_experiment_id_gets_the_same_answers(ask: Ask, experiment_id: str) -> None:
    names = {"run_name": "a", "tags": [{"key": "mlflow.runName", "value": "b"}]}
    ask("POST", "runs/create", {"experiment_id": experiment_id})
    ask("POST", "runs/create", {"experiment_id": experiment_id, **names})
    ask("POST", "runs/search", {"experiment_ids": [experiment_id], "max_results": 1, "filter": "x"})
    ask("GET", "experiments/get?" + urlencode({"experiment_id": experiment_id}))
    tag = {"experiment_id": experiment_id, "key": "k", "value": "v"}
    ask("POST", "experiments/set-experiment-tag", tag)
    ask("POST", "logged-models", {"experiment_id": experiment_id, "name": "m"})
    ask("POST", "logged-models/search", {"experiment_ids": [experiment_id], "filter": "x"})


@pytest.mark.parametrize("version", IDS)
def test_an_unusual_version_number_gets_the_same_answers(ask: Ask, version: str) -> None:
    of = {"name": "asked", "version": version}
    ask("GET", "model-versions/get?" + urlencode(of))
    ask("GET", "model-versions/get-download-uri?" + urlencode(of))
    ask("POST", "model-versions/set-tag", {**of, "key": "k", "value": "v"})
    ask("POST", "registered-models/alias", {**of, "alias": "prod"})
    stage = {"stage": "Staging", "archive_existing_versions": True}
    ask("POST", "model-versions/transition-stage", {**of, **stage})


@pytest.mark.parametrize("text", TOKENS)
def test_an_unusual_page_token_gets_the_same_answers(ask: Ask, text: str) -> None:
    page = {"page_token": token(text)}
    for mistake in (
        {},
        {"filter": "no filter"},
        {"order_by": ["a b c"]},
        {"experiment_ids": ["x"]},
    ):
        ask("POST", "runs/search", {"experiment_ids": ["77"], **page, **mistake})
    history = {"run_id": "nowhere", "metric_key": "m", **page}
    ask("GET", "metrics/get-history?" + urlencode(history))
    ask("GET", "metrics/get-history?" + urlencode({**history, "max_results": 2}))
    ask("GET", "registered-models/search?" + urlencode(page))
    ask("GET", "model-versions/search?" + urlencode(page))
    ask("POST", "experiments/search", {"max_results": 2, **page})


@pytest.mark.parametrize("limit", LIMITS)
def test_an_unusual_limit_gets_the_same_answers(ask: Ask, limit: str) -> None:
    of = {"run_id": "nowhere", "metric_key": "m", "max_results": limit}
    ask("GET", "metrics/get-history?" + urlencode(of))
    ask("GET", "metrics/get-history-bulk?" + urlencode(of))
    ask("GET", "metrics/get-history-bulk-interval?" + urlencode({**of, "run_ids": "nowhere"}))
    ask("POST", "runs/search", {"experiment_ids": ["77"], "max_results": limit})
    ask("GET", "registered-models/search?" + urlencode({"max_results": limit}))
    # Ours come with their aliases, so none is selected.
    nothing = {"max_results": limit, "filter": "name = 'nowhere'"}
    ask("GET", "model-versions/search?" + urlencode(nothing))


@pytest.mark.parametrize(
    "number", [0, -1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 1.5, "1", "x", None]
)
@pytest.mark.parametrize("field", ["timestamp", "step", "value"])
def test_an_unusual_number_in_a_metric_gets_the_same_answer(
    ask: Ask, field: str, number: Any
) -> None:
    metric = {"key": "m", "value": 1, "timestamp": 1, "step": 1, field: number}
    ask("POST", "runs/log-metric", {"run_id": "nowhere", **metric})
    ask("POST", "runs/log-batch", {"run_id": "nowhere", "metrics": [metric]})
