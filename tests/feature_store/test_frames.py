"""Frames of every kind are written alike, and are spines alike."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner
from support.frames import KINDS, ROWS, START, TICKERS, table

from feature_store import FeatureError, FeatureStore, InvalidFrame
from feature_store.files.fingerprint import fingerprint
from mlflow_timescale.cli import cli
from mlflow_timescale.common.frames import Frame

NOW = timedelta(0)


def expected() -> list[tuple]:
    return [
        (row["entity_key"], name, row["event_time"], float(row[name]))
        for row in table().to_pylist()
        for name in ("a", "b", "c")
    ]


@pytest.mark.parametrize("batch", [10, 2_000_000])
def test_every_kind_of_frame_is_written_alike(
    store: FeatureStore, tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind as a version of its own, whole or in batches."""
    monkeypatch.setattr("feature_store.store.BATCH_POINTS", batch)
    for version, kind in enumerate(KINDS, 1):
        (tmp_path / kind).mkdir()
        frame = KINDS[kind](table(), tmp_path / kind)
        lag = {"availability_lag": NOW, "feature_version": version}
        assert store.write_frame(frame, **lag) == 3 * ROWS, kind
        with store.connection() as conn:
            rows = conn.execute(
                "SELECT entity_key, feature_name, event_time, value_double"
                " FROM mlops.feature_events WHERE feature_version = %s"
                " ORDER BY event_time, feature_name",
                [version],
            ).fetchall()
        assert rows == expected(), kind


def test_every_kind_of_frame_is_a_spine(store: FeatureStore, tmp_path: Path) -> None:
    store.write_frame(table().rename_columns({"a": "x", "b": "y", "c": "z"}), availability_lag=NOW)
    names = [*table().column_names, "x", "x__event_time", "y", "y__event_time"]
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        spine = KINDS[kind](table(), tmp_path / kind)
        answer = store.training_frame(spine, ["x", "y"], as_of="event_time", event_times=True)
        read = Frame(answer).table()
        assert read.column_names == names, kind
        assert read["x"].to_pylist() == read["a"].to_pylist() == [i + 0.5 for i in range(ROWS)]
        assert read["y__event_time"].to_pylist() == read["event_time"].to_pylist(), kind


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_frame_has_one_fingerprint(tmp_path: Path, kind: str) -> None:
    frame = KINDS[kind](table().drop_columns("entity_key"), tmp_path) if "cat" not in kind else (
        table().drop_columns("entity_key"))  # fmt: skip
    assert fingerprint(frame) == fingerprint(table().drop_columns("entity_key"))


def test_a_long_csv_file_has_features_and_entities_as_written(
    store: FeatureStore, tmp_path: Path
) -> None:
    lines = ["ticker,feature_name,event_time,value"]
    lines += [f"{name},{name},2024-01-02T21:00:00Z,1.5" for name in TICKERS[:5]]
    path = tmp_path / "long.csv"
    path.write_text("\n".join(lines))
    how = {"layout": "long", "entity": "ticker", "availability_lag": NOW}
    assert store.write_frame(path, **how) == 5
    for name in TICKERS[:5]:
        assert store.get_latest(name, [name])[name].value == 1.5


def test_whole_numbers_are_entities(store: FeatureStore) -> None:
    frame = pa.table({"entity_key": [700, 5], "event_time": pa.array([START] * 2), "a": [1.0, 2.0]})
    store.write_frame(frame, availability_lag=NOW)
    assert store.get_latest("700", ["a"])["a"].value == 1.0
    spine = pd.DataFrame({"entity_key": [5, 700], "as_of": [START] * 2})
    answer = store.training_frame(spine, ["a"])
    assert answer["a"].tolist() == [2.0, 1.0]
    assert answer["entity_key"].tolist() == [5, 700]


def test_other_columns_of_a_spine_need_no_arrow_type(store: FeatureStore) -> None:
    store.write_features("AAPL", START, {"a": 1.0}, availability_lag=NOW)
    spine = pd.DataFrame(
        {
            "entity_key": ["AAPL"] * 2,
            "as_of": [START] * 2,
            "mixed": [1, "x"],
            "dummy": pd.arrays.SparseArray([0.0, 1.0]),
            "bin": pd.interval_range(0, 2),
        },
        index=pd.Index([3, 3], name="id"),
    )
    answer = store.training_frame(spine, ["a"])
    pd.testing.assert_frame_equal(answer[spine.columns], spine)
    with pytest.raises(InvalidFrame, match="column 'mixed' holds values of several types"):
        store.training_frame(spine.drop(columns=["dummy", "bin"]), ["a"], output="arrow")


def test_pairs_of_any_iterable_are_a_spine(store: FeatureStore) -> None:
    store.write_features("AAPL", START, {"a": 1.0}, availability_lag=NOW)
    pairs = {"AAPL": START, "MSFT": START}
    for spine in (list(pairs.items()), pairs.items(), zip(pairs, pairs.values(), strict=True),
                  np.array(list(pairs.items()), dtype=object)):  # fmt: skip
        assert store.training_frame(spine, ["a"])["a"].fillna(0).tolist() == [1.0, 0.0]


def test_a_pair_of_another_length_is_refused(store: FeatureStore) -> None:
    store.write_features("AAPL", START, {"a": 1.0}, availability_lag=NOW)
    with pytest.raises(InvalidFrame, match=r"is no \(entity, as_of\) pair"):
        store.training_frame([("AAPL", START, 1)], ["a"])
    assert store.training_frame([(600519, START)], ["a"])["entity_key"].tolist() == [600519]


def test_the_stores_error_covers_those_of_the_edge(store: FeatureStore) -> None:
    for frame in (42, "/no/such/file.csv", {"entity_key": ["A"]}, {"entity_key": [1.5]}):
        with pytest.raises(FeatureError):
            store.write_frame(frame)
        with pytest.raises(FeatureError):
            store.training_frame(frame, ["a"])


def test_commands_read_compressed_files_with_tickers_as_written(
    store: FeatureStore, tmp_path: Path
) -> None:
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(cli, ["features", *arguments, "--uri", store.uri.url])
        assert done.exit_code == 0, done.output
        return done.output

    assert "18 new values" in run("write", str(KINDS["CSV gz"](table(), tmp_path)), "--lag", "0s")
    spine = tmp_path / "spine.csv"
    spine.write_text("entity_key,as_of,model_version\n000001,2024-01-05T00:00:00Z,1.10\n")
    (row,) = json.loads(run("training", str(spine), "-f", "a", "--json"))
    assert (row["entity_key"], row["model_version"], row["a"]) == ("000001", "1.10", 0.5)
