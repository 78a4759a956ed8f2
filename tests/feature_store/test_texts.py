r"""Texts that PostgreSQL cannot hold (NUL, lone surrogates), and names that are too long."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feature_store import (
    DefinitionError,
    FeatureError,
    FeatureStore,
    FeatureView,
    InvalidFrame,
    InvalidValue,
)

DAY = datetime(2024, 1, 1, tzinfo=timezone.utc)
NOW = timedelta(0)
BAD = {"NUL": "a\x00b", "high": "a\ud83d", "low": "\udc00"}
TOO_LONG = "é" * 501


def frames(**columns: Any) -> list[Any]:
    given = {"entity_key": ["A"], "event_time": [DAY], **columns}
    objects = pd.DataFrame(dict(enumerate(pd.Series(v, dtype=object) for v in given.values())))
    objects.columns = pd.Index(list(given), dtype=object)
    return [given, objects]


@pytest.mark.parametrize("name", [*BAD.values(), "", TOO_LONG])
def test_a_name_that_cannot_be_kept_is_refused(store: FeatureStore, name: str) -> None:
    long = {"layout": "long"}
    calls: list[Callable[[], Any]] = [
        lambda: store.write_features(name, DAY, {"x": 1.0}),
        lambda: store.write_features("A", DAY, {name: 1.0}),
        *(lambda f=f: store.write_frame(f) for f in frames(**{name: [1.0]})),
        *(lambda f=f: store.write_frame(f) for f in frames(entity_key=[name], x=[1.0])),
        *(lambda f=f: store.write_frame(f, **long) for f in frames(feature_name=[name], value=[1])),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(InvalidFrame):
            call()
    for view in ({"name": name, "features": ["x"]}, {"name": "v", "features": ["x", name]}):
        with pytest.raises(DefinitionError):
            FeatureView(**view)
    assert store.features().empty


@pytest.mark.parametrize("kind", BAD)
def test_a_text_inside_a_value_is_refused(store: FeatureStore, kind: str) -> None:
    text = BAD[kind]
    for value in ({"a": text}, {text: 1}, [text], {"a": [{"b": text}]}, text):
        with pytest.raises(InvalidValue, match="x"):
            store.write_features("A", DAY, {"x": value})
        with pytest.raises(InvalidValue):
            store.write_frame({"entity_key": ["A"], "event_time": [DAY], "x": [value]})


@pytest.mark.parametrize("kind", BAD)
def test_every_other_text_is_refused_by_its_name(store: FeatureStore, kind: str) -> None:
    text = BAD[kind]
    store.write_features("A", DAY, {"x": 1.0}, availability_lag=NOW)
    spine = [("A", DAY)]
    calls: dict[str, Callable[[], Any]] = {
        "run_id": lambda: store.write_features("A", DAY, {"x": 2.0}, run_id=text),
        "producer": lambda: FeatureStore(store.database, text).write_features("A", DAY, {"x": 2}),
        "entity_key": lambda: store.get_latest(text),
        "features": lambda: store.training_frame(spine, ["x", text]),
        "history": lambda: store.history(text, "x"),
        "diff": lambda: store.diff(DAY, DAY, entities=[text]),
        "feature": lambda: store.lineage(text),
        "health": lambda: store.health([text]),
    }
    for name, call in calls.items():
        with pytest.raises(FeatureError, match=name):
            call()
    with pytest.raises(FeatureError):
        store.training_frame([(text, DAY)], "x")
    for field in ("description", "owner", "entity_kind", "code_reference"):
        with pytest.raises(DefinitionError, match=field):
            FeatureView("v", ["x"], **{field: text})


@pytest.mark.parametrize("kind", BAD)
def test_other_columns_of_a_spine_are_kept_whatever_their_text(
    store: FeatureStore, kind: str
) -> None:
    store.write_features("A", DAY, {"x": 1.0}, availability_lag=NOW)
    for spine in frames(note=[BAD[kind]], as_of=[DAY]):
        answer = store.training_frame(spine, "x")
        assert answer["note"].tolist() == [BAD[kind]]
        assert answer["x"].tolist() == [1.0]


def test_the_longest_names_are_kept(store: FeatureStore) -> None:
    entity, feature = "é" * 500, "ü" * 500
    store.write_features(entity, DAY, {feature: 1.0}, availability_lag=NOW)
    assert store.get_latest(entity)[feature].value == 1.0


@pytest.mark.parametrize("version", [0, -1, 2**31, 2**70, True, 1.5, "1"])
def test_a_version_that_is_none_is_refused(store: FeatureStore, version: Any) -> None:
    store.write_features("A", DAY, {"x": 1.0}, availability_lag=NOW)
    calls: list[Callable[[], Any]] = [
        lambda: store.write_features("A", DAY, {"y": 1.0}, feature_version=version),
        lambda: store.write_frame({"entity_key": ["A"], "event_time": [DAY], "y": [1.0]},
                                  feature_version=version),
        lambda: store.training_frame([("A", DAY)], "x", feature_version=version),
        lambda: store.get_latest("A", ["x"], feature_version=version),
        lambda: store.history("A", "x", feature_version=version),
        lambda: store.lineage("x", feature_version=version),
        lambda: FeatureView("v", ["x"], version=version),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(FeatureError, match="is not a version: give a number from 1"):
            call()
    assert store.history("A", "x", feature_version=np.int64(1))["value"].tolist() == [1.0]


def test_arguments_of_another_kind_are_refused(store: FeatureStore) -> None:
    for entity in (5, None, [1], ["A", None]):
        with pytest.raises(InvalidFrame, match="entities are texts"):
            store.get_latest(entity)
    with pytest.raises(FeatureError, match="name at least one feature"):
        store.training_frame([("A", DAY)], None)
    for lag in (5, 1.5, [], "1 session", ""):
        with pytest.raises(FeatureError, match="cannot read the availability rule"):
            store.write_features("A", DAY, {"x": 1.0}, availability_lag=lag)
