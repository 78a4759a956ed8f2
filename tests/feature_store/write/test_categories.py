"""Text features: sectors, ratings and regimes go in, and come back from every output."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from support.bitemporal import at

from feature_store import DefinitionError, FeatureStore, FeatureView, InvalidValue, Lake
from feature_store.catalogue.categories import MOST_CATEGORIES
from feature_store.values.categories import looks_like_a_number
from mlflow_timescale import db

NAMES = ["AAPL", "JPM", "XOM"]
SECTORS = ["TECH", "FIN", "ÉNERGIE 能源"]


def frame(values: Any, feature: str = "sector", **columns: Any) -> pd.DataFrame:
    count = len(values)
    keys = {"entity_key": NAMES[:count], "event_time": [at(0)] * count}
    return pd.DataFrame({**keys, feature: values, **columns})


@pytest.fixture
def sectors(store: FeatureStore) -> FeatureStore:
    """Sectors of three names, known at once; AAPL changes to MEDIA at 48 h; a number beside."""
    store.write_frame(frame(SECTORS, size=[3.0, 2.0, 1.0]), availability_lag="0h")
    store.write_features("AAPL", at(48), {"sector": "MEDIA"}, ingest_time=at(48))
    return store


SPINE = {"entity_key": [*NAMES, "AAPL", "IBM"], "as_of": [at(1)] * 3 + [at(72), at(72)]}
EXPECTED = [*SECTORS, "MEDIA", None]


@pytest.mark.parametrize("output", ["pandas", "arrow", "polars"])
@pytest.mark.parametrize("plan", ["lookup", "stream"])
def test_a_training_set_has_the_texts(sectors: FeatureStore, output: str, plan: str) -> None:
    train = sectors.training_frame(SPINE, ["sector", "size"], output=output, plan=plan)
    column = train["sector"].to_list() if output == "polars" else list(train["sector"])
    if output == "arrow":
        assert train.schema.field("sector").type == pa.string()
        column = train["sector"].to_pylist()
    assert [None if value != value else value for value in column] == EXPECTED
    assert train["size"][0] == 3.0 or train["size"][0].as_py() == 3.0


def test_single_values_histories_and_audits_have_the_texts(sectors: FeatureStore) -> None:
    assert sectors.get_latest("AAPL")["sector"].value == "MEDIA"
    assert sectors.get_point_in_time([("JPM", at(5))], ["sector"])[0].value == "FIN"
    assert sectors.history("AAPL", "sector")["value"].tolist() == ["TECH", "MEDIA"]
    cells = sectors.explain(SPINE, "sector")
    assert cells["value"].replace({np.nan: None}).tolist() == EXPECTED
    assert cells["reason"].replace({np.nan: None}).tolist() == [None] * 4 + ["never written"]
    sectors.write_features("AAPL", at(48), {"sector": "TECH"}, ingest_time=at(50))
    change = sectors.diff(at(49), at(60)).iloc[0]
    assert (change["change"], change["value"], change["previous_value"]) == (
        "revised",
        "TECH",
        "MEDIA",
    )
    late = sectors.leak_report(SPINE, "sector")
    assert late["leaked"].tolist() == [0]


def test_a_snapshot_and_its_rebuild_have_the_texts(sectors: FeatureStore, tmp_path: Path) -> None:
    from feature_store.files.snapshots import rebuild

    snapshot = sectors.snapshot(SPINE, ["sector", "size"], tmp_path / "snapshot")
    assert snapshot.to_arrow()["sector"].to_pylist() == EXPECTED
    assert snapshot.to_arrow().schema.field("sector").type == pa.string()
    assert snapshot.to_polars()["sector"].to_list() == EXPECTED
    assert not snapshot.manifest.features[0].json
    assert rebuild(sectors.database, snapshot) == snapshot.fingerprint


def test_the_lake_has_the_texts(sectors: FeatureStore, tmp_path: Path) -> None:
    sectors.export(tmp_path / "lake")
    train = Lake(tmp_path / "lake").training_frame(pd.DataFrame(SPINE), ["sector", "size"])
    assert train["sector"].replace({np.nan: None}).tolist() == EXPECTED


def test_the_same_texts_again_are_nothing_new_and_others_are_revisions(
    sectors: FeatureStore,
) -> None:
    assert sectors.write_frame(frame(SECTORS), availability_lag="0h") == 0
    with pytest.raises(ValueError, match=r"contradict what is stored.*TECH"):
        sectors.write_frame(frame(["X", "FIN", SECTORS[2]]), availability_lag="0h")
    assert sectors.write_features("JPM", at(0), {"sector": "BANKS"}) == 1


def columns_of_texts() -> list[Any]:
    values = [*SECTORS[:2], None]
    return [
        frame(values),
        frame(pd.Categorical([*SECTORS[:2], None])),
        frame(pd.array([*SECTORS[:2], None], dtype="string")),
        frame([*SECTORS[:2], np.nan]),
        frame([*SECTORS[:2], ""]),
        pl.DataFrame(frame([*SECTORS[:2], None])).with_columns(
            pl.col("sector").cast(pl.Enum(SECTORS))
        ),
        pa.Table.from_pandas(frame([*SECTORS[:2], None])),
    ]


@pytest.mark.parametrize("source", columns_of_texts())
def test_texts_are_read_from_any_frame_and_a_missing_one_is_nothing(
    store: FeatureStore, source: Any
) -> None:
    assert store.write_frame(source, availability_lag="0h") == 2
    assert store.get_latest(NAMES)["XOM"] == {}
    assert store.get_latest("JPM")["sector"].value == "FIN"


def test_a_csv_file_of_declared_categories_is_read_as_text(
    store: FeatureStore, tmp_path: Path
) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text(
        "entity_key,event_time,rating,group\n"
        "AAPL,2024-01-01T00:00Z,1,007\nJPM,2024-01-01T00:00Z,,NA\n"
    )
    view = FeatureView("ratings", {"rating": "category", "group": "category"})
    assert store.write_frame(path, view=view, availability_lag="0h") == 3
    assert store.get_latest("AAPL")["group"].value == "007"
    assert store.get_latest("JPM")["group"].value == "NA"
    assert store.write_frame(path, view="ratings", availability_lag="0h") == 0


@pytest.mark.parametrize(
    "refused",
    [
        ["TECH", 1.0, None],
        ["TECH", [1.0], None],
        ["1.5", "2.5", "1O.5"],
        ["1,000", "2,000", "n/a"],
        ["nan", "TECH", "FIN"],
        ["12%", "13%", "14%"],
    ],
)
def test_a_new_feature_does_not_mix_texts_with_numbers(store: FeatureStore, refused: Any) -> None:
    with pytest.raises(InvalidValue, match="holds"):
        store.write_frame(frame(pd.Series(refused, dtype=object)), availability_lag="0h")
    assert store.features().empty


def test_a_feature_of_numbers_goes_on_refusing_text(sectors: FeatureStore) -> None:
    with pytest.raises(InvalidValue, match="'size' holds numbers, got \"big\" for IBM"):
        sectors.write_features("IBM", at(3), {"size": "big"})
    with pytest.raises(InvalidValue, match=r"'sector' holds texts, got 1.0 for IBM"):
        sectors.write_features("IBM", at(3), {"sector": 1.0})
    assert sectors.write_features("IBM", at(3), {"sector": float("nan")}) == 1
    assert sectors.write_features("IBM", at(3), {"size": "big"}, feature_version=2) == 1


def test_a_defined_feature_is_checked_against_its_definition(store: FeatureStore) -> None:
    store.register(FeatureView("kinds", {"sector": "category", "size": "number"}))
    with pytest.raises(DefinitionError, match=r"defined as category, got 1.0"):
        store.write_features("AAPL", at(0), {"sector": 1.0})
    with pytest.raises(DefinitionError, match="defined as number, got '\"big\"'"):
        store.write_features("AAPL", at(0), {"size": "big"})
    assert store.write_features("AAPL", at(0), {"sector": "1", "size": 1}) == 2


def test_batches_of_one_write_are_checked_against_each_other(store: FeatureStore) -> None:
    parts = [frame(SECTORS), frame([1.0, 2.0, 3.0])]
    with pytest.raises(InvalidValue, match=r"holds texts, got 1.0"):
        store.write_frame(iter(parts), availability_lag="0h")
    assert store.features().empty


@pytest.mark.parametrize(("length", "accepted"), [(256, True), (257, False)])
def test_a_text_has_at_most_256_characters(
    store: FeatureStore, length: int, accepted: bool
) -> None:
    if accepted:
        assert store.write_features("A", at(0), {"regime": "é" * length}) == 1
    else:
        with pytest.raises(InvalidValue, match="257 characters"):
            store.write_features("A", at(0), {"regime": "é" * length})


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
def test_what_postgresql_cannot_hold_is_refused(store: FeatureStore, text: str) -> None:
    with pytest.raises(InvalidValue, match="cannot hold"):
        store.write_features("A", at(0), {"regime": text})


def test_the_number_of_distinct_texts_is_limited(store: FeatureStore) -> None:
    ids = [f"id-{i}" for i in range(MOST_CATEGORIES + 1)]
    rows = {"entity_key": ids, "event_time": [at(0)] * len(ids), "regime": ids}
    with pytest.raises(InvalidValue, match=f"{MOST_CATEGORIES + 1} distinct texts"):
        store.write_frame(rows, availability_lag="0h")
    most = {name: values[:-1] for name, values in rows.items()}
    assert store.write_frame(most, availability_lag="0h") == MOST_CATEGORIES
    with pytest.raises(InvalidValue, match="the limit is 1000"):
        store.write_features("A", at(0), {"regime": "one more"})
    with store.connection() as conn:
        count = conn.execute("SELECT count(*) FROM mlops.feature_categories").fetchone()
    assert count == (MOST_CATEGORIES,)


def test_a_database_that_is_not_migrated_refuses_text_and_takes_numbers(
    store: FeatureStore,
) -> None:
    with store.connection() as conn:
        conn.execute("ALTER TABLE mlops.feature_categories RENAME TO away")
        try:
            assert store.write_features("A", at(0), {"x": 1.0}) == 1
            with pytest.raises(db.MigrationError, match="mlflow-timescale migrate"):
                store.write_features("A", at(0), {"regime": "calm"})
        finally:
            conn.execute("ALTER TABLE mlops.away RENAME TO feature_categories")


@pytest.mark.parametrize("text", ["1", "-2.5e3", "1,000", "12 %", "inf", "NaN", " 7 "])
def test_what_looks_like_a_number(text: str) -> None:
    assert looks_like_a_number(text)


@pytest.mark.parametrize("text", ["TECH", "BBB+", "n/a", "2024-01-05", "1a", "risk-on"])
def test_what_does_not_look_like_a_number(text: str) -> None:
    assert not looks_like_a_number(text)


def test_an_expired_text_is_missing(sectors: FeatureStore) -> None:
    spine = {"entity_key": ["AAPL", "JPM"], "as_of": [at(49), at(49)]}
    train = sectors.training_frame(spine, "sector", max_age=timedelta(hours=2))
    assert train["sector"].tolist()[0] == "MEDIA"
    assert pd.isna(train["sector"]).tolist() == [False, True]
