"""Runs: creating, describing, deleting and searching them gives the same on both stores."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.dbmodels.models import SqlParam
from mlflow.utils.search_utils import SearchUtils


def test_params_are_written_once_and_never_changed(pair):
    run = pair.run("params")
    many = [Param(f"p/{i} ü", f"{i}") for i in range(100)]
    pair.call("log_batch", run, [], many, [])
    pair.call("log_batch", run, [], many[:50], [])
    pair.call("log_param", run, Param("p/0 ü", "0"))
    message = pair.refused(
        "INVALID_PARAMETER_VALUE",
        "log_batch",
        run,
        [Metric("m", 1.0, 1, 1)],
        [Param("new", "1"), Param("p/1 ü", "changed")],
        [RunTag("t", "1")],
    )
    assert "'p/1 ü', 'old_value': '1', 'new_value': 'changed'" in str(message)
    pair.refused("INVALID_PARAMETER_VALUE", "log_param", run, Param("p/1 ü", "changed"))
    pair.refused(
        "INVALID_PARAMETER_VALUE", "log_batch", run, [], [Param("x", "1"), Param("x", "2")], []
    )
    data = pair.call("get_run", run).data
    assert (len(data.params), data.metrics, set(data.tags)) == (100, {}, {"mlflow.runName"})


@pytest.mark.parametrize(
    "param",
    [Param("p", ""), Param("p", "x" * 6000), Param("k" * 250, "ß" * 6000)],
    ids=["empty", "long", "long key"],
)
def test_unusual_params_are_kept_alike(pair, param):
    run = pair.run(f"param-{len(pair.ids)}")
    pair.call("log_param", run, param)
    pair.call("log_batch", run, [], [Param("other", "1"), param], [])
    pair.call("get_run", run)


@pytest.mark.parametrize(
    "param",
    [
        Param("p", "x" * 6001),
        Param("k" * 251, "1"),
        Param("", "1"),
        Param(None, "1"),
        Param("a;b", ""),
    ],
    ids=["value", "key", "no key", "key None", "sign"],
)
def test_bad_params_are_treated_alike(pair, param):
    run = pair.run(f"bad-param-{len(pair.ids)}")
    for call in (("log_param", run, param), ("log_batch", run, [], [param], [])):
        # A value that is too long is cut, not refused.
        with suppress(MlflowException):
            pair.call(*call)
    pair.call("get_run", run)


def test_tags_are_overwritten_the_last_of_a_batch_holds(pair):
    run = pair.run("tags")
    pair.call("set_tag", run, RunTag("a", "1"))
    pair.call("set_tag", run, RunTag("a", "2"))
    pair.call("log_batch", run, [], [], [RunTag("a", "3"), RunTag("b", "1"), RunTag("b", "2")])
    pair.call("set_tag", run, RunTag("none", None))
    pair.call("log_batch", run, [], [], [RunTag("long", "ü" * 8000), RunTag("k" * 250, "")])
    pair.call("delete_tag", run, "b")
    pair.refused("INVALID_PARAMETER_VALUE", "set_tag", run, RunTag("k" * 251, "1"))
    pair.refused("INVALID_PARAMETER_VALUE", "set_tag", run, RunTag(None, "1"))
    pair.call("get_run", run)


def test_the_name_tag_renames_the_run_unless_it_is_empty(pair):
    run = pair.run("named")
    for value in ("second", "", "third"):
        pair.call("set_tag", run, RunTag("mlflow.runName", value))
        pair.call("get_run", run)
        pair.call(
            "log_batch", run, [], [], [RunTag("mlflow.runName", value + "!"), RunTag("x", value)]
        )
        pair.call("get_run", run)
    pair.call("log_batch", run, [], [], [RunTag("mlflow.runName", ""), RunTag("x", "last")])
    assert pair.call("get_run", run).info.run_name == "third!"


def test_ten_thousand_params_come_back(pair):
    run = pair.run("ten thousand")
    for start in range(0, 10_000, 100):
        batch = [Param(f"p{i}", str(i)) for i in range(start, start + 100)]
        pair.ours.log_batch(pair.ids[run.name][1], [], batch, [])
    # MLflow reads all params before each batch: ten thousand through it would take minutes.
    with pair.theirs.ManagedSessionMaker(read_only=False) as session:
        session.bulk_save_objects(
            SqlParam(run_uuid=pair.ids[run.name][0], key=f"p{i}", value=str(i))
            for i in range(10_000)
        )
    assert len(pair.call("get_run", run).data.params) == 10_000


@pytest.mark.parametrize(
    ("run_name", "tags"),
    [
        ("given", []),
        ("given", [RunTag("mlflow.runName", "given"), RunTag("a", "ü")]),
        ("", [RunTag("mlflow.runName", "tagged")]),
        (None, [RunTag("mlflow.runName", "tagged"), RunTag("none", None)]),
    ],
)
def test_a_run_is_created_alike(pair, run_name, tags):
    experiment = pair.call("create_experiment", f"created-{len(pair.ids)}-{run_name}-{len(tags)}")
    runs = [
        store.create_run(experiment, "me", 5, tags, run_name) for store in (pair.theirs, pair.ours)
    ]
    pair.ids[f"created-{len(pair.ids)}"] = (runs[0].info.run_id, runs[1].info.run_id)
    assert pair.plain(runs[1]) == pair.plain(runs[0])


def test_what_cannot_be_created_is_refused_alike(pair):
    pair.refused("RESOURCE_DOES_NOT_EXIST", "create_run", "77777", "me", 1, [], "n")
    pair.refused("INVALID_PARAMETER_VALUE", "create_run", "none", "me", 1, [], "n")
    pair.refused(
        "INVALID_PARAMETER_VALUE", "create_run", "0", "me", 1, [RunTag("mlflow.runName", "a")], "b"
    )
    pair.refused("BAD_REQUEST", "create_run", "0", "me", 1, [RunTag("k" * 251, "a")], "b")
    pair.refused(
        "BAD_REQUEST", "create_run", "0", "me", 1, [RunTag("a", "1"), RunTag("a", "2")], ""
    )
    pair.refused("INTERNAL_ERROR", "create_run", "0", None, 1, [], "b")
    pair.refused("INTERNAL_ERROR", "create_run", "0", "me", None, [], "b")
    deleted = pair.call("create_experiment", "to be deleted")
    pair.call("delete_experiment", deleted)
    pair.refused("INVALID_PARAMETER_VALUE", "create_run", deleted, "me", 1, [], "n")


def test_deleted_runs_refuse_writes_until_they_are_restored(pair):
    run = pair.run("deleted")
    pair.call("log_batch", run, [Metric("m", 1.0, 1, 1)], [Param("p", "1")], [RunTag("t", "1")])
    pair.call("delete_run", run)
    for call in (
        ("log_metric", run, Metric("m", 2.0, 2, 2)),
        ("log_param", run, Param("q", "1")),
        ("set_tag", run, RunTag("u", "1")),
        ("log_batch", run, [Metric("m", 2.0, 2, 2)], [], []),
        ("log_batch", run, [], [], []),
    ):
        pair.refused("INVALID_PARAMETER_VALUE", *call)
    pair.call("get_metric_history", run, "m")
    pair.call("restore_run", run)
    pair.call("log_metric", run, Metric("m", 2.0, 2, 2))
    pair.call("log_batch", run, [], [], [])
    pair.call("get_run", run)


def test_a_run_that_does_not_exist_is_refused_alike(pair):
    for call in (
        ("get_run", "0" * 32),
        ("log_metric", "0" * 32, Metric("m", 2.0, 2, 2)),
        ("log_param", "0" * 32, Param("q", "1")),
        ("set_tag", "0" * 32, RunTag("u", "1")),
        ("log_batch", "0" * 32, [Metric("m", 2.0, 2, 2)], [], []),
        ("log_batch", "0" * 32, [], [], []),
    ):
        pair.refused("RESOURCE_DOES_NOT_EXIST", *call)
    pair.call("get_metric_history", "0" * 32, "m")
    pair.call("get_max_step_for_metric", "0" * 32, "m")


def test_text_that_postgresql_cannot_hold_is_refused_and_nothing_is_written(pair):
    run = pair.run("nul")
    for call in (
        ("set_tag", run, RunTag("t", "a\0b")),
        ("log_param", run, Param("p", "a\0b")),
        ("log_batch", run, [], [], [RunTag("t", "a\0b")]),
    ):
        pair.refused("INTERNAL_ERROR", *call)
    with pytest.raises(MlflowException):
        pair.ours.log_batch(pair.ids["nul"][1], [Metric("m", 1.0, 1, 1)], [], [RunTag("t", "a\0b")])
    assert pair.ours.get_run(pair.ids["nul"][1]).data.metrics == {}


def test_many_writers_to_one_run_neither_fail_nor_lose_anything(pair):
    run = pair.run("many writers")
    run_id = pair.ids[run.name][1]

    def write(writer: int) -> None:
        shuffled = random.Random(writer).sample(range(40), 40)
        for step in range(8):
            pair.ours.log_batch(
                run_id,
                [Metric(f"m{key}", writer, 1_000 + step, step) for key in shuffled],
                [Param(f"p{key}", "same") for key in shuffled],
                [RunTag(f"t{key}", str(writer)) for key in shuffled],
            )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    data = pair.ours.get_run(run_id).data
    assert data.metrics == {f"m{key}": 7.0 for key in range(40)}
    assert len(data.params) == 40
    assert len(pair.ours.get_metric_history(run_id, "m3")) == 64


@pytest.fixture(scope="module")
def searched(pair: Any) -> list[str]:
    """Two experiments whose runs differ in everything one can search for."""
    experiments = [pair.call("create_experiment", name) for name in ("searched", "other")]
    names = itertools.count()
    for number in range(24):
        run = pair.run(
            f"run {next(names)}",
            experiments[number % 2],
            start_time=100 + number // 3,
            user_id=f"user{number % 3}",
            tags=[RunTag("kind", "abc"[number % 3]), *([RunTag("half", "x")] * (number % 2))],
        )
        metrics = [Metric("m", float(number % 5), 1, 1), Metric("a b/ü", -number, 1, 1)]
        if number % 7 == 0:
            metrics = [Metric("m", float("nan"), 1, 1)]
        params = [Param("p", f"v{number % 4}")] if number % 4 else []
        pair.call("log_batch", run, metrics, params, [])
        pair.call("log_inputs", run, _datasets(number), None)
        if number % 5 == 0:
            pair.call("update_run_info", run, 3, 500 + number, f"renamed {number}")
        if number % 6 == 0:
            pair.call("delete_run", run)
    return experiments


def _datasets(number: int) -> list[DatasetInput]:
    dataset = Dataset(f"data{number % 3}", f"digest{number % 2}", "local", "somewhere", "s", "p")
    tags = [InputTag("mlflow.data.context", ("train", "test")[number % 2]), InputTag("t", "1")]
    return [DatasetInput(dataset, tags)] + [
        DatasetInput(Dataset("both", "d", "local", "x"), [InputTag("mlflow.data.context", "train")])
    ] * (number % 4 == 0)


FILTERS = [
    "",
    "metrics.m > 2",
    "metrics.m != 3",
    "metrics.m <= 0",
    "metrics.`a b/ü` >= -10 and metrics.m = 1",
    "params.p = 'v1'",
    "params.p != 'v1'",
    "params.p LIKE 'v%'",
    "params.p ILIKE 'V_'",
    "params.p IS NULL",
    "tags.half IS NOT NULL",
    "tags.kind = 'a' and tags.half = 'x'",
    "tags.kind LIKE '%b%'",
    "attributes.status = 'FINISHED'",
    "attributes.start_time > 103",
    "attributes.end_time >= 505",
    "attributes.user_id = 'user1'",
    "attributes.run_name LIKE 'renamed%'",
    "run_name = 'run 4'",
    "attributes.artifact_uri LIKE '%artifacts'",
    "datasets.name = 'data1'",
    "datasets.digest LIKE 'digest%'",
    "datasets.context = 'train'",
    "dataset.name IN ('data0', 'both')",
    "dataset.context = 'train' and dataset.name = 'both' and metrics.m < 4",
]
ORDERS = [
    None,
    ["metrics.m DESC"],
    ["metrics.m ASC", "params.p DESC"],
    ["tags.half", "attributes.run_name DESC"],
    ["attributes.end_time DESC", "start_time ASC"],
    ["params.missing ASC", "metrics.`a b/ü`"],
    ["attributes.status", "attribute.start_time DESC", "tags.kind DESC"],
]


@pytest.mark.parametrize("filter_string", FILTERS)
def test_every_filter_finds_the_same_runs(pair, searched, filter_string):
    for view in (ViewType.ACTIVE_ONLY, ViewType.DELETED_ONLY, ViewType.ALL):
        # Ties are broken by the run's id, which differs: name them by an order of our own.
        order = ["attributes.start_time", "metrics.`a b/ü` DESC", "tags.kind", "tags.half"]
        pair.call("search_runs", searched, filter_string, view, 1000, order)


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_every_order_is_the_same_up_to_ties(pair, searched, order):
    tie_breaker = [key for key in ("metrics.`a b/ü` DESC",) if key[:-5] not in str(order)]
    for experiments in (searched, searched[:1]):
        found = pair.call(
            "search_runs",
            experiments,
            "metrics.`a b/ü` <= 0",
            ViewType.ALL,
            1000,
            [*(order or ["attributes.start_time DESC"]), *tie_breaker],
        )
        assert len(found) > 5


def test_pages_follow_each_other_to_the_end(pair, searched):
    order = ["metrics.`a b/ü` DESC"]
    only = "metrics.`a b/ü` <= 0"
    for size in (1, 7, 20):
        token, names = None, []
        while True:
            page = pair.call("search_runs", searched, only, ViewType.ALL, size, order, token)
            names += [run.info.run_name for run in page]
            if (token := page.token) is None:
                break
        assert len(names) == len(set(names)) == 20


@pytest.mark.parametrize(
    "arguments",
    [
        ("metrics.m >", None),
        ("metrics.m > 'x'", None),
        ("params.p > 'v'", None),
        ("nothing.m = 1", None),
        ("datasets.nothing = 'x'", None),
        ("", ["metrics.m", "metrics.m"]),
        ("", ["nothing.m"]),
        ("", ["metrics.m UPWARDS"]),
    ],
    ids=str,
)
def test_a_search_that_makes_no_sense_is_refused_alike(pair, searched, arguments):
    filter_string, order = arguments
    with pytest.raises(MlflowException):
        pair.call("search_runs", searched, filter_string, ViewType.ALL, 10, order)
    pair.refused("INVALID_PARAMETER_VALUE", "search_runs", searched, "", 1, 0)
    pair.refused("INVALID_PARAMETER_VALUE", "search_runs", searched, "", 1, 10**6)


def test_a_search_without_experiments_finds_nothing(pair):
    assert pair.call("search_runs", [], "", ViewType.ALL) == []
    token = SearchUtils.create_page_token(10_000)
    assert pair.call("search_runs", ["0"], "", ViewType.ALL, 10, None, token) == []


def test_inputs_and_outputs_of_a_run_come_with_it(pair):
    run = pair.run("inputs and outputs")
    ids = [store.create_logged_model("0", "model").model_id for store in (pair.theirs, pair.ours)]
    for store, run_id, model_id in zip(
        (pair.theirs, pair.ours), pair.ids[run.name], ids, strict=True
    ):
        store.log_inputs(run_id, _datasets(4), [LoggedModelInput(model_id)])
        store.log_outputs(run_id, [LoggedModelOutput(model_id, 3)])
    pair.ids["model"] = (ids[0], ids[1])
    found = pair.call("get_run", run)
    assert found.inputs.model_inputs
    assert found.outputs.model_outputs[0].step == 3
    listed = pair.call("search_runs", ["0"], "run_name = 'inputs and outputs'", ViewType.ALL)
    assert listed[0].outputs.model_outputs
