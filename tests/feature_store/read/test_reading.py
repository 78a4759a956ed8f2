"""Reading: latest values, training sets of any shape, and where each cell comes from."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from support.bitemporal import at

from feature_store import FeatureStore, InvalidFrame, UnknownFeature


@pytest.fixture
def filled(store):
    """AAPL has rsi (62.5, then 65 a day later) and an undefined mom; MSFT has rsi only."""
    write = store.write_features
    write("AAPL", at(16), {"rsi": 62.5, "mom": math.nan}, ingest_time=at(20), run_id="run-1")
    write("AAPL", at(40), {"rsi": 65.0}, availability_lag=timedelta(hours=4))
    write("MSFT", at(16), {"rsi": 50.0}, ingest_time=at(20))
    write("tech", at(16), {"sector_mom": 0.5}, ingest_time=at(20))
    return store


def test_latest_is_what_is_known_now_or_was_known_then(filled):
    assert filled.get_latest("AAPL", ["rsi"])["rsi"].value == 65.0
    then = filled.get_latest("AAPL", as_of=at(43))
    assert {name: value.value for name, value in then.items()} == pytest.approx(
        {"rsi": 62.5, "mom": math.nan}, nan_ok=True
    )
    assert (then["rsi"].as_of, then["rsi"].run_id) == (at(43), "run-1")
    assert filled.get_latest("AAPL", as_of=at(19)) == {}
    assert filled.get_latest("nobody") == {}


def test_latest_of_many_entities_comes_by_entity(filled):
    found = filled.get_latest(["AAPL", "MSFT", "nobody"], ["rsi"], as_of=at(60))
    assert {
        entity: {n: v.value for n, v in values.items()} for entity, values in found.items()
    } == {
        "AAPL": {"rsi": 65.0},
        "MSFT": {"rsi": 50.0},
        "nobody": {},
    }


def test_latest_leaves_out_what_is_older_than_max_age(filled):
    old = filled.get_latest(["AAPL", "MSFT"], as_of=at(41), max_age=timedelta(hours=24))
    assert old == {"AAPL": {}, "MSFT": {}}
    just = filled.get_latest(["AAPL", "MSFT"], ["rsi"], as_of=at(40), max_age=timedelta(hours=24))
    assert [just[entity]["rsi"].value for entity in just] == [62.5, 50.0]


def test_latest_takes_the_version_that_is_asked_for(filled):
    filled.write_features("AAPL", at(41), {"rsi": 99.0}, feature_version=2, ingest_time=at(42))
    take = lambda **how: filled.get_latest("AAPL", ["rsi"], **how)["rsi"]  # noqa: E731
    assert take().value == 99.0
    assert take(as_of=at(41)).feature_version == 1
    assert take(feature_version=1).value == 65.0
    assert take(feature_version={"rsi": 1}).value == 65.0
    with pytest.raises(UnknownFeature, match="no version 3"):
        take(feature_version=3)


@pytest.mark.parametrize("read", ["get_latest", "training_frame", "get_point_in_time", "history"])
def test_a_name_that_nobody_wrote_is_an_error_with_a_hint(filled, read):
    calls = {
        "get_latest": lambda: filled.get_latest("AAPL", ["rsi", "rsii"]),
        "training_frame": lambda: filled.training_frame([("AAPL", at(1))], ["rsi", "rsii"]),
        "get_point_in_time": lambda: filled.get_point_in_time([("AAPL", at(1))], ["rsii"]),
        "history": lambda: filled.history("AAPL", "rsii"),
    }
    with pytest.raises(UnknownFeature, match=r"'rsii' \(did you mean rsi\?\)"):
        calls[read]()


def test_point_in_time_gives_each_value_with_its_times(filled):
    pairs = [
        ("MSFT", at(30)),
        ("AAPL", at(50)),
        ("AAPL", at(30)),
        ("AAPL", at(1)),
        ("AAPL", at(30)),
    ]
    found = filled.get_point_in_time(pairs, ["rsi"])
    assert [(v.entity_key, v.as_of, v.value, v.event_time, v.ingest_time) for v in found] == [
        ("MSFT", at(30), 50.0, at(16), at(20)),
        ("AAPL", at(50), 65.0, at(40), at(44)),
        ("AAPL", at(30), 62.5, at(16), at(20)),
        ("AAPL", at(30), 62.5, at(16), at(20)),
    ]
    every = filled.get_point_in_time([("AAPL", at(30))])
    assert [v.feature_name for v in every] == ["mom", "rsi"]
    assert filled.get_point_in_time([]) == []
    assert filled.get_point_in_time([("nobody", at(1))]) == []


def spine(**columns) -> pd.DataFrame:
    rows = [("MSFT", at(30)), ("AAPL", at(50)), ("AAPL", at(30)), ("nobody", at(50))]
    rows += [("AAPL", at(30)), ("AAPL", at(-1000)), ("AAPL", at(-2000))]
    frame = pd.DataFrame(rows, columns=["entity_key", "as_of"], index=list("gfedcba"))
    return frame.astype({"as_of": "datetime64[us, UTC]"}).assign(**columns)


@pytest.mark.parametrize("plan", ["lookup", "stream"])
def test_a_training_frame_keeps_rows_order_index_and_columns(filled, plan):
    asked = spine(label=range(7), weight=[math.nan] * 7)
    frame = filled.training_frame(asked, ["rsi", "mom"], plan=plan)
    assert list(frame.columns) == ["entity_key", "as_of", "label", "weight", "rsi", "mom"]
    pd.testing.assert_frame_equal(frame[asked.columns], asked)
    assert frame["rsi"].fillna(-1).tolist() == [50, 65, 62.5, -1, 62.5, -1, -1]
    assert frame["mom"].isna().all()


def test_a_training_frame_comes_in_the_kind_of_its_spine_or_as_asked(filled):
    asked = spine().reset_index(drop=True)
    kinds = {"pandas": pd.DataFrame, "arrow": pa.Table, "polars": pl.DataFrame}
    spines = {
        "pandas": asked,
        "arrow": pa.Table.from_pandas(asked),
        "polars": pl.from_pandas(asked),
    }
    for given in spines.values():
        for output, kind in kinds.items():
            frame = filled.training_frame(given, ["rsi"], event_times=True, output=output)
            assert isinstance(frame, kind)
            values = [None if v is None or v != v else v for v in list(frame["rsi"].to_numpy())]
            assert values == [50, 65, 62.5, None, 62.5, None, None]
    for name, given in spines.items():
        assert isinstance(filled.training_frame(given, ["rsi"]), kinds[name])
    with pytest.raises(InvalidFrame, match="none of pandas, arrow, polars"):
        filled.training_frame(asked, ["rsi"], output="spark")


def test_event_times_stand_beside_the_values(filled):
    frame = filled.training_frame(spine(), ["rsi"], event_times=True)
    events = [None if pd.isna(t) else t for t in frame["rsi__event_time"]]
    assert events == [at(16), at(40), at(16), None, at(16), None, None]
    assert str(frame["rsi__event_time"].dtype) == "datetime64[us, UTC]"


def test_a_spine_may_have_entities_of_several_kinds(filled):
    asked = spine(sector="tech")
    owners = {"entity_key": ["rsi"], "sector": ["sector_mom"]}
    frame = filled.training_frame(asked, ["sector_mom", "rsi"], entity=owners)
    assert frame["sector_mom"].fillna(-1).tolist() == [0.5, 0.5, 0.5, 0.5, 0.5, -1, -1]
    assert frame["rsi"].fillna(-1).tolist() == [50, 65, 62.5, -1, 62.5, -1, -1]
    with pytest.raises(InvalidFrame, match="does not say whose features mom are"):
        filled.training_frame(asked, ["rsi", "mom"], entity=owners)


def test_an_empty_spine_gives_an_empty_frame(filled):
    for empty in (spine().iloc[:0], []):
        for plan in ("lookup", "stream", None):
            frame = filled.training_frame(empty, ["rsi", "mom"], event_times=True, plan=plan)
            assert frame.shape == (0, 6)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (spine().rename(columns={"as_of": "when"}), "no column 'as_of'; it has entity_key, when"),
        (spine(rsi=1.0), "already has columns named as features: rsi"),
        ("AAPL", "a list of"),
        (spine().assign(entity_key=1.5), "not text"),
    ],
)
def test_a_spine_that_is_not_understood_is_refused(filled, asked, message):
    with pytest.raises(InvalidFrame, match=message):
        filled.training_frame(asked, ["rsi"])


def test_every_cell_says_where_it_comes_from_or_why_it_is_missing(filled):
    asked = spine()
    cells = filled.explain(asked, ["rsi", "mom"], max_age=timedelta(hours=30))
    assert cells["row"].tolist() == [i for i in range(7) for _ in range(2)]
    why = {(row.row, row.feature_name): row.reason for row in cells.itertuples()}
    assert [why[i, "rsi"] for i in (3, 5, 6)] == ["never written", "not yet known", "not yet known"]
    assert [why[i, "mom"] for i in (0, 1, 2)] == [
        "never written",
        "expired",
        "written as undefined",
    ]
    assert pd.isna([why[i, "rsi"] for i in (0, 1, 2, 4)]).all()
    newest, older = cells.iloc[2], cells.iloc[4]
    assert (newest["value"], newest["event_time"], newest["ingest_time"]) == (65.0, at(40), at(44))
    assert newest["assumed_lag"] == "event_time + 4:00:00"
    assert (older["run_id"], older["producer"], older["producer_version"]) == (
        "run-1",
        "tests",
        "abc123",
    )


def test_what_is_explained_is_what_the_training_frame_has(filled):
    asked = spine()
    cells = filled.explain(asked, ["rsi", "mom"])
    frame = filled.training_frame(asked, ["rsi", "mom"])
    np.testing.assert_array_equal(
        cells["value"].to_numpy(dtype=float), frame[["rsi", "mom"]].to_numpy().ravel()
    )


def test_a_store_reads_while_the_server_has_closed_its_connections(filled):
    with filled.connection() as conn:
        pid = conn.info.backend_pid
    with filled.connection() as first, filled.connection() as other:
        assert pid in (first.info.backend_pid, other.info.backend_pid)
        mine, killer = (first, other) if first.info.backend_pid == pid else (other, first)
        del mine
        killer.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    assert filled.get_latest("MSFT", ["rsi"])["rsi"].value == 50.0


def test_the_store_needs_no_mlflow_and_shows_no_password(empty_database):
    import subprocess
    import sys

    code = (
        "import sys\n"
        "from datetime import datetime, timezone\n"
        "from feature_store import FeatureStore\n"
        f"with FeatureStore({empty_database.url!r}) as store:\n"
        "    store.write_features('A', datetime(2024, 1, 1, tzinfo=timezone.utc), {'x': 1.0})\n"
        "    assert store.get_latest('A')['x'].value == 1.0\n"
        "assert 'mlflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "s3cret" not in repr(FeatureStore("postgres://ann:s3cret@nowhere.example/db"))
