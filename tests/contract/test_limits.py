"""As much as MLflow allows, and one more: both stores draw the same line."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

WIDE = "值Σßéж한"  # two and three bytes of UTF-8 each; MLflow takes letters only
quietly = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def long(characters: int) -> str:
    return (WIDE * characters)[:characters]


def named(pair: Any, name: str) -> Any:
    return pair.run(f"{name} {len(pair.ids)}")


def test_keys_and_values_of_wide_characters_reach_the_same_limits(pair):
    run = named(pair, "wide")
    key = long(250)
    pair.call("log_metric", run, Metric(key, 1.0, 1, 1))
    pair.call("log_param", run, Param(key, long(6000)))
    pair.call("set_tag", run, RunTag(key, long(8000)))
    pair.call("log_batch", run, [Metric(key, 2.0, 2, 2)], [Param(key + "", long(6000))], [])
    for length in (249, 251):
        for call in (
            ("log_metric", run, Metric(long(length), 1.0, 1, 1)),
            ("log_param", run, Param(long(length), "1")),
            ("set_tag", run, RunTag(long(length), "1")),
            ("log_batch", run, [], [Param(long(length) + "x", "1")], [RunTag(long(length), "1")]),
        ):
            with suppress(MlflowException):
                pair.call(*call)
    for value in (long(8000), long(8001)):
        with suppress(MlflowException):
            pair.call("set_tag", run, RunTag("long", value))
    pair.call("get_metric_history", run, key)
    pair.call("get_run", run)


@pytest.mark.parametrize(
    ("metrics", "params", "tags"),
    [
        (1000, 0, 0),
        (0, 100, 0),
        (0, 0, 100),
        (800, 100, 100),
        (1001, 0, 0),
        (0, 101, 0),
        (0, 0, 101),
        (900, 50, 51),
        (1000, 1, 0),
    ],
)
def test_a_batch_may_be_as_large(pair, metrics, params, tags):
    run = named(pair, "large")
    batch = (
        [Metric(f"m{i % 7}", i, i, i) for i in range(metrics)],
        [Param(f"p{i}", str(i)) for i in range(params)],
        [RunTag(f"t{i}", str(i)) for i in range(tags)],
    )
    if metrics + params + tags > 1000 or params > 100 or tags > 100:
        pair.refused("INVALID_PARAMETER_VALUE", "log_batch", run, *batch)
    else:
        pair.call("log_batch", run, *batch)
    pair.call("get_run", run)


# Without NUL, for which our error has another code (test_runs).
texts = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
    st.sampled_from(["", " ", "a/b", "a..b", "/a", "'; --", "%s", "{}", "\\"]),
)
keys = st.one_of(st.sampled_from(["k", "ключ", "a b", "k/1"]), texts)


@pytest.mark.slow
@quietly
@given(
    params=st.lists(st.builds(Param, keys, texts), max_size=6),
    tags=st.lists(st.builds(RunTag, keys, texts), max_size=6),
    singly=st.booleans(),
)
def test_any_params_and_tags_are_kept_or_refused_alike(pair, params, tags, singly):
    run = named(pair, "any")
    calls = [("log_batch", run, [], params, tags)]
    if singly:
        calls = [("log_param", run, param) for param in params]
        calls += [("set_tag", run, tag) for tag in tags]
    refused = False
    for call in calls:
        try:
            pair.call(*call)
        except MlflowException:
            refused = True
    # A refused batch is half written by MLflow, and not at all by ours.
    if singly or not refused:
        pair.call("get_run", run)
    else:
        data = pair.ours.get_run(pair.ids[run.name][1]).data
        assert (data.params, set(data.tags)) == ({}, {"mlflow.runName"})
