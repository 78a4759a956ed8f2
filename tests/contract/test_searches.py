"""Searching runs: every filter, every order, every page, on both stores."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.search_utils import SearchUtils
from support.runs import start_runs


@pytest.fixture(scope="module")
def searched(pair: Any) -> list[str]:
    """The ids of the experiments whose runs are searched."""
    return start_runs(pair)


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
    "run_id = 'nobody'",
    "attributes.run_id NOT IN ('nobody', 'else')",
    "attributes.status != 'FINISHED'",
    "attributes.start_time != 103 and attributes.start_time <= 105",
    "attributes.created >= 104",
    "run_name ILIKE 'RUN%'",
    "tags.\"kind\" ILIKE 'A'",
    "tag.kind != 'a'",
    "param.p = 'v2' and metric.m > 0 and attr.user_id != 'user0'",
    "metrics.m = 0",
    "metrics.missing > 0",
    "tags.`mlflow.runName` LIKE 'renamed%'",
    "params.p IS NOT NULL and tags.half IS NULL",
    "datasets.name = 'data1'",
    "datasets.name ILIKE 'DATA_' and datasets.digest != 'digest0'",
    "datasets.context NOT IN ('test')",
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


def test_deleted_and_restored_experiments_and_runs_are_found_alike(pair):
    experiment = pair.call("create_experiment", "comes and goes")
    runs = [pair.run(f"gone {number}", experiment, start_time=number) for number in range(4)]
    pair.call("delete_run", runs[0])
    for change in ("delete_experiment", "restore_experiment"):
        pair.call(change, experiment)
        for view in (ViewType.ACTIVE_ONLY, ViewType.DELETED_ONLY, ViewType.ALL):
            pair.call("search_runs", [experiment], "", view, 10, ["attributes.start_time"])
    pair.call("restore_run", runs[0])
    found = pair.call("search_runs", [experiment], "", ViewType.ACTIVE_ONLY)
    assert len(found) == 4


numbers = st.sampled_from(["0", "2", "-5", "1e3", "0.5"])
texts = st.sampled_from(["'a'", "'v1'", "'%1'", "'x'", "'%'", "'RUN 1%'"])
clauses = st.one_of(
    st.tuples(
        st.sampled_from(["metrics.m", "metrics.`a b/ü`", "attributes.start_time", "end_time"]),
        st.sampled_from(["=", "!=", ">", ">=", "<", "<="]),
        numbers,
    ).map(" ".join),
    st.tuples(
        st.sampled_from(["params.p", "tags.kind", "tags.half", "run_name", "attributes.user_id"]),
        st.sampled_from(["=", "!=", "LIKE", "ILIKE"]),
        texts,
    ).map(" ".join),
    st.tuples(
        st.sampled_from(["params.p", "tags.half", "tags.missing"]),
        st.sampled_from(["IS NULL", "IS NOT NULL"]),
    ).map(" ".join),
)
keys = st.sampled_from(
    ["metrics.m", "params.p", "tags.kind", "start_time", "run_name", "tags.none"]
)
orders = st.lists(st.tuples(keys, st.sampled_from(["ASC", "DESC"])), unique_by=lambda o: o[0])


@pytest.mark.slow
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(filters=st.lists(clauses, max_size=3), order=orders)
def test_any_filter_in_any_order_finds_the_same_runs(pair, searched, filters, order):
    unique = ["attributes.end_time", "metrics.`a b/ü` DESC", "tags.half"]
    known = {key for key, _ in order}
    clauses = [f"{key} {direction}" for key, direction in order]
    clauses += [key for key in ("start_time", "tags.kind") if key not in known] + unique
    # Refused by both is as good as found by both.
    with suppress(MlflowException):
        pair.call("search_runs", searched, " and ".join(filters), ViewType.ALL, 30, clauses)
