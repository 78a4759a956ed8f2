"""Daft on the lake gives the answers of the database."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from feature_store import Lake, UnknownFeature
from feature_store.errors import FeatureError
from feature_store.files.distributed import daft_training_frame
from feature_store.files.fingerprint import fingerprint

daft = pytest.importorskip("daft")
START = datetime(2023, 6, 1, tzinfo=timezone.utc)
FEATURES = ["x", "y"]


@pytest.fixture
def lake(store, tmp_path):
    """Random bitemporal data with ties, late data and a second version, in three exports."""
    rng = np.random.default_rng(4)
    for version in (1, 1, 2):
        count = 300 if version == 1 else 40
        event = rng.integers(0, 60, count)
        ingest = np.where(rng.random(count) < 0.3, 70, event + rng.integers(0, 40, count))
        frame = pd.DataFrame(
            {
                "entity_key": [f"E{e}" for e in rng.integers(0, 5, count)],
                "event_time": START + pd.to_timedelta(event * 6, "D"),
                "ingest_time": START + pd.to_timedelta(ingest * 6, "D"),
                "feature_name": rng.choice(FEATURES, count),
                "value": np.where(rng.random(count) < 0.1, np.nan, rng.normal(size=count)),
            }
        ).drop_duplicates(["entity_key", "event_time", "ingest_time", "feature_name"])
        store.write_frame(frame, layout="long", ingest_time="ingest_time", restate=True,
                          feature_version=version)  # fmt: skip
        store.export(tmp_path, buckets=2)
    return Lake(tmp_path)


def spine() -> pd.DataFrame:
    rng = np.random.default_rng(11)
    moments = START + pd.to_timedelta(rng.integers(-10, 700, 200), "D")
    frame = pd.DataFrame({"row": range(200), "as_of": moments})
    frame["entity_key"] = [f"E{e}" for e in rng.integers(0, 7, 200)]
    frame.loc[7, "as_of"] = START - pd.Timedelta(days=1)
    return frame


@pytest.mark.filterwarnings("ignore::feature_store.MixedVersions")
@pytest.mark.parametrize("version", [1, None])
@pytest.mark.parametrize("max_age", [None, timedelta(days=30)])
def test_daft_gives_the_answers_of_the_database(store, lake, version, max_age):
    options = {"feature_version": version, "max_age": max_age}
    want = store.training_frame(spine(), FEATURES, **options)
    answer = daft_training_frame(lake, spine(), FEATURES, **options).sort("row").to_pandas()
    np.testing.assert_array_equal(answer[FEATURES], want[FEATURES])
    assert fingerprint(answer) == fingerprint(want)
    assert want[FEATURES].notna().any().all()


def test_a_spine_may_be_a_daft_frame_itself(store, lake):
    rows = daft.from_pandas(spine().assign(as_of=spine()["as_of"].dt.tz_convert("Asia/Tokyo")))
    answer = daft_training_frame(lake, rows, "x", feature_version=1).sort("row").to_pandas()
    want = store.training_frame(spine(), ["x"], feature_version=1)
    np.testing.assert_array_equal(answer["x"], want["x"])


def test_structures_come_as_text(store, tmp_path):
    store.write_features("E0", START, {"curve": {"a": [1]}}, ingest_time=START)
    store.export(tmp_path)
    rows = pd.DataFrame({"entity_key": ["E0"], "as_of": [START]})
    found = daft_training_frame(Lake(tmp_path), rows, ["curve"], structures=["curve"])
    assert found.to_pydict()["curve"] == ['{"a": [1]}']


def test_an_unknown_feature_is_an_error(lake):
    with pytest.raises(UnknownFeature, match="'z'"):
        daft_training_frame(lake, spine(), ["z"])


def test_without_daft_the_error_says_what_to_install(lake, monkeypatch):
    monkeypatch.setitem(sys.modules, "daft", None)
    with pytest.raises(FeatureError, match=r"mlflow-timescale\[lake\]"):
        daft_training_frame(lake, spine(), FEATURES)
