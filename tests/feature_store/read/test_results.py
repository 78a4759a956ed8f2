"""Results that people look at: summaries, short reprs, frames, and errors in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psycopg
import pytest
from support.bitemporal import at

from feature_store import FeatureStore, InvalidValue, Lake
from mlflow_timescale import db


@pytest.fixture
def revised(store: FeatureStore) -> FeatureStore:
    """Three values of `eps`; two are revised at 30 h, and a sector with them."""
    names = ["AAPL", "JPM", "XOM"]
    rows = {"entity_key": names, "event_time": [at(0)] * 3, "eps": [1.0, 2.0, 3.0]}
    store.write_frame(rows, availability_lag="1h")
    for name, eps, sector in (("AAPL", 1.5, "TECH"), ("JPM", 4.0, "FIN")):
        store.write_features(name, at(0), {"eps": eps, "sector": sector}, ingest_time=at(30))
    return store


def test_a_diff_is_summed_up_by_kind_of_change(revised: FeatureStore) -> None:
    table = revised.diff(at(0), at(40), summary=True)
    assert table.loc[table.change == "new", "feature_name"].tolist() == ["eps", "sector"]
    table = revised.diff(at(20), at(40), summary=True).set_index(["feature_name", "change"])
    row = table.loc["eps", "revised"]
    assert (row["values"], row["entities"]) == (2, 2)
    assert (row["mean_size"], row["largest_size"], row["largest_entity"]) == (1.25, 2.0, "JPM")
    assert pd.isna(table.loc["sector", "new"]["mean_size"])


def test_a_diff_lists_one_kind_of_change(revised: FeatureStore) -> None:
    rows = revised.diff(at(20), at(40), change="revised")
    assert rows["entity_key"].tolist() == ["AAPL", "JPM"]
    with pytest.raises(InvalidValue, match="'changed' is none of new, revised"):
        revised.diff(at(20), at(40), change="changed")


def test_the_command_sums_up_or_lists(revised: FeatureStore, capsys: pytest.CaptureFixture) -> None:
    from mlflow_timescale.cli import main

    span = ("2024-01-15T20:00Z", "2024-01-17T20:00Z")

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit):
            main(["features", "diff", *span, *arguments, "--uri", revised.uri.url])
        return str(capsys.readouterr().out)

    assert "largest_size" in run()
    assert "previous_value" in run("--change", "revised")
    assert {row["change"] for row in json.loads(run("--json"))} <= {"new", "revised"}


def test_lists_of_values_are_frames_too(revised: FeatureStore) -> None:
    values = revised.get_point_in_time([(name, at(40)) for name in ("AAPL", "JPM", "XOM")])
    frame = values.to_frame()
    assert frame["entity_key"].tolist() == ["AAPL", "AAPL", "JPM", "JPM", "XOM"]
    assert len(repr(values)) < 500
    assert values[:1] == [values[0]]


def test_reprs_are_short(revised: FeatureStore, tmp_path: Path) -> None:
    spine = pd.DataFrame({"entity_key": ["AAPL"], "as_of": [at(40)]})
    snapshot = revised.snapshot(spine, ["eps", "sector"], tmp_path / "snapshot")
    revised.export(tmp_path / "lake")
    lake, health = Lake(tmp_path / "lake"), revised.health(as_of=at(40))
    for result in (snapshot, lake, health):
        assert len(repr(result)) < 300
        assert "\n" not in repr(result)
        assert isinstance(result.to_frame(), pd.DataFrame)
    assert health.to_frame("write_lag")["feature_name"].tolist() == ["eps", "sector"]
    assert snapshot.to_frame("polars")["sector"].to_list() == ["TECH"]


CALLS: dict[str, Callable[[FeatureStore], object]] = {
    "reading": lambda store: store.get_latest("AAPL"),
    "writing": lambda store: store.write_features("AAPL", at(0), {"x": 1.0}),
    "a training set": lambda store: store.training_frame([("AAPL", at(0))], "eps"),
}


@pytest.mark.parametrize("call", CALLS)
def test_errors_of_the_driver_are_ours_and_one_line(revised: FeatureStore, call: str) -> None:
    with revised.connection() as conn:
        conn.execute("ALTER TABLE mlops.feature_series RENAME TO away")
    try:
        with pytest.raises(db.Refused, match=r"feature_series.*42P01.*migrate") as caught:
            CALLS[call](revised)
    finally:
        with revised.connection() as conn:
            conn.execute("ALTER TABLE mlops.away RENAME TO feature_series")
    assert isinstance(caught.value.__cause__, psycopg.Error)
    assert "\n" not in str(caught.value)
