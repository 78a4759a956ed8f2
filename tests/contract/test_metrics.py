"""Metrics: whatever is logged, in whatever order, both stores tell the same afterwards."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.entities import Metric, Param, RunTag

YEAR_9999 = 253_402_300_799_999
KEYS = ["loss", "größe/Σ 值", "k" * 250]
values = st.one_of(
    st.floats(),
    st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308]),
    st.integers(-(2**53), 2**53),
)
times = st.one_of(st.integers(0, 20), st.sampled_from([0, 1_700_000_000_000, YEAR_9999]))
steps = st.one_of(st.integers(-3, 20), st.sampled_from([-(2**63), 2**63 - 1]))
metrics = st.builds(Metric, st.sampled_from(KEYS), values, times, steps)
batches = st.lists(st.lists(metrics, max_size=12), min_size=1, max_size=4)


def read_everything(pair: Any, run: Any) -> None:
    """Every way to read what was logged to a run."""
    pair.call("get_run", run)
    for key in [*KEYS, "never logged"]:
        pair.call("get_metric_history", run, key)
        pair.call("get_max_step_for_metric", run, key)
        pair.call("get_metric_history_bulk", [run], key, 5)
        pair.call("get_metric_history_bulk_interval_from_steps", run, key, [-3, 0, 1, 2, 7], 9)
        for size in (1, 3, 100):
            pair.call("get_metric_history_bulk_interval", [run], key, size, None, None)
            pair.call("get_metric_history_bulk_interval", [run], key, size, -1, 9)


@pytest.mark.slow
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(batches=batches, singly=st.booleans())
def test_any_batches_read_the_same_on_both_stores(pair, batches, singly):
    run = pair.run(f"generated-{len(pair.ids)}")
    for batch in batches:
        if singly:
            for metric in batch:
                pair.call("log_metric", run, metric)
        else:
            pair.call("log_batch", run, batch, [], [])
    read_everything(pair, run)


@pytest.mark.parametrize("first", [0.0, math.nan])
def test_of_nan_and_zero_at_one_step_and_time_the_first_is_the_latest(pair, first):
    run = pair.run(f"ties {first}")
    second = 0.0 if math.isnan(first) else math.nan
    batch = [Metric("loss", value, 0, 0) for value in (first, second, first)]
    pair.call("log_batch", run, [*batch, Metric("other", first, 0, 0)], [], [])
    assert repr(pair.call("get_run", run).data.metrics["loss"]) == repr(first)
    pair.call("log_batch", run, [Metric("loss", second, 0, 0)], [], [])
    pair.call("get_run", run)


@pytest.mark.parametrize("disorder", ["none", "timestamps", "steps", "one step"])
def test_a_long_series_reads_the_same_whatever_its_order(pair, disorder):
    run = pair.run(f"long-{disorder}")
    count = 900
    for start in range(0, count, 300):
        batch = []
        for i in range(start, start + 300):
            step = {"steps": (i * 7919) % count, "one step": 0}.get(disorder, i)
            time = 1_000 + ((i * 7919) % count if disorder == "timestamps" else i)
            batch.append(Metric("loss", i * 0.5, time, step))
        pair.call("log_batch", run, batch, [], [])
    for size in (1, 2, 7, 320, 899, 900, 5000):
        pair.call("get_metric_history_bulk_interval", [run], "loss", size, None, None)
        pair.call("get_metric_history_bulk_interval", [run], "loss", size, 100, 640)
    pair.call("get_metric_history", run, "loss")
    token = None
    seen = []
    while True:
        page = pair.call("get_metric_history", run, "loss", max_results=130, page_token=token)
        seen += page
        if (token := page.token) is None:
            break
    assert len(seen) == count


def test_pages_of_the_exact_length_end_without_a_token(pair):
    run = pair.run("exact")
    pair.call("log_batch", run, [Metric("m", i, i, i) for i in range(10)], [], [])
    for size in (1, 5, 9, 10, 11):
        assert len(pair.call("get_metric_history", run, "m", max_results=size)) == min(size, 10)
    pair.refused("INVALID_PARAMETER_VALUE", "get_metric_history", run, "m", 5, "not a token")


def test_the_same_metric_twice_is_one_point(pair):
    run = pair.run("twice")
    metric = Metric("m", 1.0, 5, 3)
    for _ in range(2):
        pair.call("log_metric", run, metric)
        pair.call("log_batch", run, [metric, metric, Metric("m", math.nan, 5, 3)], [], [])
        pair.call("log_batch", run, [metric, Metric("m", 2.0, 5, 3)], [], [])
    assert len(pair.call("get_metric_history", run, "m")) == 3


def test_several_runs_come_in_the_order_of_their_ids(pair):
    runs = [pair.run(f"several-{i}") for i in range(3)]
    for number, run in enumerate(runs):
        pair.call("log_batch", run, [Metric("m", number, i, i) for i in range(4)], [], [])
    for store in (pair.theirs, pair.ours):
        ids = [pair.ids[run.name][store is pair.ours] for run in runs]
        found = store.get_metric_history_bulk([*ids, ids[0], "no such run"], "m", 6)
        assert [item.run_id for item in found] == [sorted(ids)[0]] * 4 + [sorted(ids)[1]] * 2
    pair.call("get_metric_history_bulk_interval", runs, "m", 2, None, None)
    pair.refused(
        "INVALID_PARAMETER_VALUE", "get_metric_history_bulk_interval", runs, "m", 2, 1, None
    )


@pytest.mark.parametrize(
    "metric",
    [
        Metric("m", None, 1, 0),
        Metric("m", "one", 1, 0),
        Metric("m", True, 1, 0),
        Metric("m", 1.0, -1, 0),
        Metric("m", 1.0, None, 0),
        Metric("m", 1.0, "now", 0),
        Metric("m", 1.0, 1, None),
        Metric("m", 1.0, 1, "first"),
        Metric(None, 1.0, 1, 0),
        Metric("", 1.0, 1, 0),
        Metric("../m", 1.0, 1, 0),
        Metric("m;drop", 1.0, 1, 0),
        Metric("k" * 251, 1.0, 1, 0),
    ],
    ids=repr,
)
def test_one_bad_metric_is_refused_and_nothing_of_its_batch_is_written(pair, metric):
    run = pair.run(f"bad-{len(pair.ids)}")
    pair.refused("INVALID_PARAMETER_VALUE", "log_metric", run, metric)
    pair.refused(
        "INVALID_PARAMETER_VALUE",
        "log_batch",
        run,
        [Metric("good", 1.0, 1, 0), metric],
        [Param("p", "1")],
        [RunTag("t", "1")],
    )
    data = pair.call("get_run", run).data
    assert (data.metrics, data.params, set(data.tags)) == ({}, {}, {"mlflow.runName"})


def test_a_timestamp_beyond_64_bits_is_named_and_writes_nothing(pair):
    run = pair.run("beyond")
    for call in (
        lambda metric: pair.ours.log_metric(pair.ids["beyond"][1], metric),
        lambda metric: pair.ours.log_batch(pair.ids["beyond"][1], [metric], [Param("p", "1")], []),
    ):
        with pytest.raises(Exception, match=r"timestamp 9223372036854775808.*2\*\*63") as caught:
            call(Metric("m", 1.0, 2**63, 0))
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    pair.refused("BAD_REQUEST", "log_metric", run, Metric("m", 1.0, 1, 2**63))
    pair.refused("BAD_REQUEST", "log_batch", run, [Metric("m", 1.0, 1, -(2**63) - 1)], [], [])
    pair.call("get_run", run)


def test_metrics_of_logged_models_are_kept_with_the_model(pair):
    run = pair.run("with a model")
    ids = [store.create_logged_model("0", "model").model_id for store in (pair.theirs, pair.ours)]
    for side, store in enumerate((pair.theirs, pair.ours)):
        run_id = pair.ids[run.name][side]
        single = Metric("m", 1.5, 1, 0, model_id=ids[side])
        store.log_metric(run_id, single)
        store.log_metric(run_id, single)
        store.log_batch(
            run_id,
            [
                single,
                Metric("m", math.nan, 2, 1, model_id=ids[side]),
                Metric("n", math.inf, 2, 1, ids[side], "data", "d1"),
                Metric("n", 2, 2, 1),
            ],
            [],
            [],
        )
    found = [
        sorted(
            (m.key, m.value, m.timestamp, m.step, m.dataset_name, m.dataset_digest)
            for m in store.get_logged_model(model_id).metrics
        )
        for store, model_id in zip((pair.theirs, pair.ours), ids, strict=True)
    ]
    assert found[0] == found[1]
    assert len(found[1]) == 3
    read_everything(pair, run)


def test_a_metric_of_a_model_that_does_not_exist_writes_nothing(pair):
    run = pair.run("no model")
    metric = Metric("m", 1.5, 1, 0, model_id="m-nowhere")
    pair.refused("BAD_REQUEST", "log_metric", run, metric)
    with pytest.raises(Exception, match="logged_model"):
        pair.ours.log_batch(pair.ids["no model"][1], [metric], [Param("p", "1")], [])
    data = pair.ours.get_run(pair.ids["no model"][1]).data
    assert (data.metrics, data.params) == ({}, {})
