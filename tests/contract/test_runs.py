"""Runs: creating, describing, deleting and searching them gives the same on both stores."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from mlflow.entities import (
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.dbmodels.models import SqlParam
from support.runs import datasets


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


@pytest.mark.slow
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
        # Not MLflow's INTERNAL_ERROR, which its HTTP client retries for minutes.
        with pytest.raises(MlflowException) as error:
            getattr(pair.ours, call[0])(pair.ids["nul"][1], *call[2:])
        assert error.value.error_code == "INVALID_PARAMETER_VALUE"
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


def test_inputs_and_outputs_of_a_run_come_with_it(pair):
    run = pair.run("inputs and outputs")
    ids = [store.create_logged_model("0", "model").model_id for store in (pair.theirs, pair.ours)]
    for store, run_id, model_id in zip(
        (pair.theirs, pair.ours), pair.ids[run.name], ids, strict=True
    ):
        store.log_inputs(run_id, datasets(4), [LoggedModelInput(model_id)])
        store.log_outputs(run_id, [LoggedModelOutput(model_id, 3)])
    pair.ids["model"] = (ids[0], ids[1])
    found = pair.call("get_run", run)
    assert found.inputs.model_inputs
    assert found.outputs.model_outputs[0].step == 3
    listed = pair.call("search_runs", ["0"], "run_name = 'inputs and outputs'", ViewType.ALL)
    assert listed[0].outputs.model_outputs
