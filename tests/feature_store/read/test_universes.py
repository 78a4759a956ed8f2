"""Entities that end: training sets and health leave out what is not part of a universe."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.bitemporal import at

from feature_store import DefinitionError, FeatureStore, InvalidFrame, InvalidTime, InvalidValue
from feature_store.read.membership import OutsideUniverse

NAMES = ["AAPL", "LEH", "META"]
LISTED = {
    "entity_key": NAMES,
    "valid_from": [None, None, at(24)],
    "valid_to": [None, at(24), None],
}


@pytest.fixture
def listed(store: FeatureStore) -> FeatureStore:
    """A value of each name at 0 h; LEH ends at 24 h, when META begins; IBM is no member."""
    rows = {"entity_key": [*NAMES, "IBM"], "event_time": [at(0)] * 4, "x": [1.0, 2.0, 3.0, 4.0]}
    store.write_frame(rows, availability_lag="0h")
    assert store.record_universe("listed", LISTED) == 3
    return store


def spine() -> pd.DataFrame:
    names = [*NAMES, "IBM"]
    return pd.DataFrame({"entity_key": names * 2, "as_of": [at(23)] * 4 + [at(24)] * 4})


@pytest.mark.parametrize("plan", ["lookup", "stream"])
@pytest.mark.parametrize("universe", ["listed", LISTED, pd.DataFrame(LISTED)])
def test_cells_outside_are_empty_and_counted(
    listed: FeatureStore, universe: Any, plan: str
) -> None:
    with pytest.warns(OutsideUniverse, match="4 of 8 rows lie outside of"):
        train = listed.training_frame(spine(), ["x"], universe=universe, plan=plan)
    expected = [1.0, 2.0, None, None, 1.0, None, 3.0, None]
    assert train["x"].replace({np.nan: None}).tolist() == expected


def test_explain_names_what_is_outside(listed: FeatureStore) -> None:
    cells = listed.explain(spine(), "x", universe="listed")
    gone = cells[cells["reason"] == "outside of the universe"]
    assert [(row.entity_key, row.as_of) for row in gone.itertuples()] == [
        ("META", at(23)),
        ("IBM", at(23)),
        ("LEH", at(24)),
        ("IBM", at(24)),
    ]


def test_an_entity_may_leave_and_return(listed: FeatureStore) -> None:
    twice = {
        "entity_key": ["LEH", "LEH"],
        "valid_from": [None, at(48)],
        "valid_to": [at(24), None],
    }
    assert listed.record_universe("listed", twice) == 1
    moments = [at(23), at(30), at(48)]
    with pytest.warns(OutsideUniverse, match="1 of 3"):
        train = listed.training_frame([("LEH", m) for m in moments], "x", universe="listed")
    assert train["x"].isna().tolist() == [False, True, False]


def test_recording_again_replaces_an_interval_of_the_same_start(listed: FeatureStore) -> None:
    assert listed.record_universe("listed", LISTED) == 0
    later = {"entity_key": ["AAPL"], "valid_to": [at(100)]}
    assert listed.record_universe("listed", later) == 1
    assert listed.health(as_of=at(101)).outside[0].valid_to == at(100)


def test_a_name_that_ended_is_not_stale_for_ever(listed: FeatureStore) -> None:
    report = listed.health(as_of=at(240), max_staleness=timedelta(days=1))
    assert [entry.entity_key for entry in report.stale] == ["AAPL", "IBM", "META"]
    assert [(entry.entity_key, entry.valid_to) for entry in report.outside] == [("LEH", at(24))]
    members = listed.health(as_of=at(240), universe="listed")
    assert [entry.entity_key for entry in members.freshness] == ["AAPL", "META"]
    assert [entry.entity_key for entry in members.outside] == ["IBM", "LEH"]
    before = listed.health(as_of=at(12))
    assert "LEH" in [entry.entity_key for entry in before.freshness]
    assert report.to_dict()["outside"][0]["entity_key"] == "LEH"


def test_a_universe_is_read_from_a_csv_file(store: FeatureStore, tmp_path: Path) -> None:
    store.write_features("000001", at(0), {"x": 1.0}, ingest_time=at(0))
    path = tmp_path / "universe.csv"
    path.write_text("entity_key,valid_from,valid_to\n000001,2020-01-01T00:00Z,\n")
    assert store.record_universe("csi", path) == 1
    assert store.training_frame([("000001", at(1))], "x", universe="csi")["x"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("universe", "error", "message"),
    [
        ("sp500", DefinitionError, "no universe 'sp500' is recorded; there are: listed"),
        ({"ticker": ["A"]}, InvalidFrame, "no column 'entity_key'"),
        ({"entity_key": ["A"], "valid_to": [at(0).replace(tzinfo=None)]}, InvalidTime, "valid_to"),
        (
            {"entity_key": ["A"], "valid_from": [at(2)], "valid_to": [at(2)]},
            InvalidValue,
            "not after its start",
        ),
        (
            {"entity_key": ["A", "A"], "valid_from": [at(0), at(5)], "valid_to": [at(9), at(9)]},
            InvalidValue,
            "overlap",
        ),
    ],
)
def test_what_is_no_universe_is_refused(
    listed: FeatureStore, universe: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        listed.training_frame(spine(), "x", universe=universe)


def test_health_works_on_a_database_that_is_not_migrated(store: FeatureStore) -> None:
    store.write_features("A", at(0), {"x": 1.0}, ingest_time=at(0))
    with store.connection() as conn:
        conn.execute("ALTER TABLE mlops.feature_universes RENAME TO away")
    try:
        assert len(store.health(as_of=at(1)).freshness) == 1
    finally:
        with store.connection() as conn:
            conn.execute("ALTER TABLE mlops.away RENAME TO feature_universes")
