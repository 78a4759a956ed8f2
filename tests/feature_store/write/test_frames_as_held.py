"""Frames as alphalens, qlib and Feast hold them: indexed, with other names, with other columns."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from feature_store import DefinitionError, FeatureStore, FeatureView, InvalidFrame, load_snapshot
from feature_store.files.fingerprint import fingerprint
from feature_store.files.snapshots import rebuild

NOW = timedelta(0)
TIMES = pd.date_range("2024-01-02 21:00", periods=3, freq="D", tz="UTC")
NAMES = {
    "alphalens": ("date", "asset"),
    "qlib": ("datetime", "instrument"),
    "ours": ("event_time", "entity_key"),
}


def indexed(time: str, entity: str) -> pd.DataFrame:
    index = pd.MultiIndex.from_product([TIMES, ["A", "B"]], names=[time, entity])
    return pd.DataFrame({"factor": range(6), "score": 0.5}, index=index)


@pytest.mark.parametrize("library", NAMES)
def test_levels_of_an_index_are_columns(store: FeatureStore, library: str) -> None:
    time, entity = NAMES[library]
    frame = indexed(time, entity)
    columns = {"entity": entity, "event_time": time}
    assert store.write_frame(frame, availability_lag=NOW, **columns) == 12
    swapped = frame.swaplevel().sort_index()
    assert store.write_frame(swapped, availability_lag=NOW, **columns) == 0
    categories = frame.reset_index().astype({entity: "category"}).set_index([entity, time])
    assert store.write_frame(categories, availability_lag=NOW, **columns) == 0
    assert store.write_frame(frame.reset_index(entity), availability_lag=NOW, **columns) == 0
    assert store.write_frame(iter([frame[:2], frame[2:]]), availability_lag=NOW, **columns) == 0
    assert store.features()["feature_name"].tolist() == ["factor", "score"]


def test_a_series_is_a_frame_of_one_column(store: FeatureStore) -> None:
    series = indexed("date", "asset")["factor"]
    columns = {"entity": "asset", "event_time": "date", "availability_lag": NOW}
    assert store.write_frame(series, **columns) == 6
    assert store.get_latest("B")["factor"].value == 5
    with pytest.raises(InvalidFrame, match=r"no name for its column; give it one: \.rename"):
        store.write_frame(series.rename(None), **columns)


def test_a_level_with_another_name_is_neither_a_key_nor_a_feature(store: FeatureStore) -> None:
    frame = indexed("event_time", "entity_key").set_index("score", append=True)
    assert store.write_frame(frame, availability_lag=NOW) == 6
    with pytest.raises(InvalidFrame, match="level of the index: call reset_index"):
        store.write_frame(frame, availability_lag=NOW, features=["score"])


@pytest.mark.parametrize("output", [None, "arrow", "polars"])
def test_a_spine_may_be_indexed(store: FeatureStore, output: str | None) -> None:
    frame = indexed("date", "asset")
    store.write_frame(frame, entity="asset", event_time="date", availability_lag=NOW)
    spine = frame.rename(columns={"factor": "label"})[["label"]]
    answer = store.training_frame(spine, "factor", entity="asset", as_of="date", output=output)
    flat = store.training_frame(
        spine.reset_index(), "factor", entity="asset", as_of="date", output=output
    )
    if output is None:
        pd.testing.assert_frame_equal(answer[["label"]], spine)
        assert answer["factor"].tolist() == list(range(6))
    else:
        assert fingerprint(answer) == fingerprint(flat)
    why = store.explain(spine, "factor", entity="asset", as_of="date")
    assert why["entity_key"].tolist() == ["A", "B"] * 3


def test_a_snapshot_of_an_indexed_spine_has_its_keys(store: FeatureStore, tmp_path: Path) -> None:
    frame = indexed("date", "asset")
    store.write_frame(frame, entity="asset", event_time="date", availability_lag=NOW)
    names: dict[str, Any] = {"entity": "asset", "as_of": "date"}
    written = store.snapshot(frame[[]], "factor", tmp_path / "s", **names)
    flat = store.snapshot(frame[[]].reset_index(), "factor", tmp_path / "flat", **names)
    assert written.fingerprint == flat.fingerprint
    assert rebuild(store.database, load_snapshot(tmp_path / "s")) == written.fingerprint


def test_features_chooses_columns_and_gives_them_names(store: FeatureStore) -> None:
    frame = indexed("event_time", "entity_key").assign(note="text")
    for given in (frame, pl.from_pandas(frame.reset_index())):
        assert store.write_frame(given, features=["factor"], availability_lag=NOW) in (6, 0)
    assert store.write_frame(frame, features={"score": "momentum"}, availability_lag=NOW) == 6
    assert store.features()["feature_name"].tolist() == ["factor", "momentum"]
    for features, message in (
        (["facto"], "no column 'facto'"),
        ([], "features is empty"),
        ({"factor": "x", "score": "x"}, "repeats a name: x"),
    ):
        with pytest.raises(InvalidFrame, match=message):
            store.write_frame(frame, features=features)
    with pytest.raises(InvalidFrame, match="filter a long frame"):
        store.write_frame(frame, features=["factor"], layout="long")


def test_columns_that_a_view_does_not_have_are_named_once(
    store: FeatureStore, caplog: pytest.LogCaptureFixture
) -> None:
    view = FeatureView("momentum", ["score", "other"])
    frame = indexed("event_time", "entity_key").assign(note="text")
    with caplog.at_level(logging.WARNING, "feature_store"):
        assert store.write_frame([frame[:3], frame[3:]], view=view, availability_lag=NOW) == 6
    [line] = [record.getMessage() for record in caplog.records]
    assert line == "not written, because view 'momentum' has no such feature: factor, note"
    assert store.write_frame(frame, view="momentum", availability_lag=NOW) == 0
    with pytest.raises(InvalidFrame, match=r"of the view \(other, score\) beside"):
        store.write_frame(frame.drop(columns="score"), view="momentum")
    with pytest.raises(DefinitionError, match="has no feature factor"):
        store.write_frame(frame, view="momentum", features=["factor"])
    with pytest.raises(DefinitionError, match="has no feature scor"):
        store.write_features("A", TIMES[0], {"scor": 1.0}, view="momentum")


def test_feasts_columns_are_named_by_argument(store: FeatureStore) -> None:
    frame = pd.DataFrame({"driver_id": [1001, 1002], "event_timestamp": TIMES[:2], "rate": 0.5})
    columns = {"entity": "driver_id", "event_time": "event_timestamp"}
    assert store.write_frame(frame, availability_lag=NOW, **columns) == 2
    spine = frame[["driver_id", "event_timestamp"]]
    answer = store.training_frame(spine, "rate", entity="driver_id", as_of="event_timestamp")
    assert answer["rate"].tolist() == [0.5, 0.5]
