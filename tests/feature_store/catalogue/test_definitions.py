"""Definitions: optional, kept for good, and enforced where they are."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pandas as pd
import pytest
from support.bitemporal import at

from feature_store import DefinitionError, FeatureView, UnknownFeature

MOMENTUM = FeatureView(
    "momentum",
    {"ret_5d": "number", "rank": "integer", "up": "boolean", "decay": "vector", "meta": "json"},
    description="Price momentum",
    entity_kind="stock",
    owner="alpha team",
    max_staleness=timedelta(days=3),
    code_reference="git:abc123 momentum.py",
)


def test_a_view_is_registered_once_and_read_back_as_it_was(store):
    assert store.register(MOMENTUM) is True
    assert store.register(MOMENTUM) is False
    assert store.views() == [MOMENTUM]
    assert store.view("momentum") == MOMENTUM


@pytest.mark.parametrize("features", [7, None, ["a", ["b"]], [None], {"a": []}, {"a": {"b": 1}}])
def test_features_that_are_no_names_are_refused(features):
    with pytest.raises(DefinitionError, match="feature"):
        FeatureView("momentum", features)


@pytest.mark.parametrize(
    "change",
    [
        {"description": "x"},
        {"owner": "x"},
        {"max_staleness": None},
        {"features": MOMENTUM.features | {"new": "number"}},
        {"features": MOMENTUM.features | {"rank": "number"}},
    ],
)
def test_a_change_needs_a_new_version(store, change):
    store.register(MOMENTUM)
    with pytest.raises(DefinitionError, match=f"another {next(iter(change))}.*as version 2"):
        store.register(replace(MOMENTUM, **change))
    second = replace(MOMENTUM, version=2, **change)
    assert store.register(second) is True
    assert store.view("momentum") == second
    assert store.view("momentum", 1) == MOMENTUM


def test_a_feature_belongs_to_one_view(store):
    store.register(MOMENTUM)
    with pytest.raises(DefinitionError, match="ret_5d belong to view 'momentum'"):
        store.register(FeatureView("other", ["ret_5d"]))


def test_what_is_no_view_is_refused():
    for broken in ({"features": {}}, {"features": {"a": "text"}}, {"name": ""}, {"version": 0}):
        with pytest.raises(DefinitionError):
            FeatureView(**({"name": "v", "features": ["a"]} | broken))


GOOD = {"ret_5d": 0.1, "rank": 3, "up": True, "decay": [1, 2], "meta": {"a": 1}}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ret_5d": [1]}, "'ret_5d' is defined as number"),
        ({"rank": 3.5}, "'rank' is defined as integer, got .*3.5.* for AAPL"),
        ({"up": 2}, "'up' is defined as boolean"),
        ({"decay": 1.0}, "'decay' is defined as vector"),
        ({"decay": {"a": 1}}, "'decay' is defined as vector"),
        ({"meta": 1.0}, "'meta' is defined as json"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(store, wrong, message):
    store.register(MOMENTUM)
    assert store.write_features("AAPL", at(0), GOOD) == 5
    with pytest.raises(DefinitionError, match=message):
        store.write_features("AAPL", at(1), GOOD | wrong)
    frame = pd.DataFrame([{"entity_key": "AAPL", "event_time": at(1)} | GOOD | wrong])
    with pytest.raises(DefinitionError, match=message):
        store.write_frame(frame)
    assert len(store.history("AAPL", "ret_5d")) == 1


def test_an_undefined_version_of_a_defined_feature_is_refused(store):
    store.register(MOMENTUM)
    with pytest.raises(DefinitionError, match=r"defined in version \[1\], not 2"):
        store.write_features("AAPL", at(0), {"ret_5d": 1.0}, feature_version=2)


def test_a_write_for_a_view_has_its_version_and_only_its_features(store):
    store.register(MOMENTUM)
    store.register(replace(MOMENTUM, version=2, owner="beta team"))
    store.write_features("AAPL", at(0), {"ret_5d": 1.0}, view="momentum")
    assert store.get_latest("AAPL")["ret_5d"].feature_version == 2
    with pytest.raises(DefinitionError, match="view 'momentum' v2 has no feature rett"):
        store.write_features("AAPL", at(0), {"rett": 1.0}, view="momentum")
    with pytest.raises(DefinitionError, match="no view 'nope' is registered"):
        store.write_features("AAPL", at(0), {"ret_5d": 1.0}, view="nope")
    assert store.write_features("AAPL", at(0), {"quick_work": 1.0}) == 1


def test_a_view_reads_its_features_in_its_version(store):
    view = FeatureView("small", ["a", "b"])
    second = replace(view, version=2)
    store.write_features("AAPL", at(0), {"a": 1, "b": 2}, view=view, ingest_time=at(0))
    store.write_features("AAPL", at(0), {"a": 3, "b": 4}, view=second, ingest_time=at(0))
    spine = [("AAPL", at(1))]
    assert store.training_frame(spine, view)[["a", "b"]].to_numpy().tolist() == [[1, 2]]
    assert store.training_frame(spine, [second])[["a", "b"]].to_numpy().tolist() == [[3, 4]]
    with pytest.raises(UnknownFeature, match="name at least one feature"):
        store.training_frame(spine, [])
