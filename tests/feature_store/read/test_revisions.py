"""History, differences between two moments, leaks, and who wrote what."""

from __future__ import annotations

import math
from datetime import timedelta

import pandas as pd
import pytest
from support.bitemporal import at

from feature_store import InvalidTime


@pytest.fixture
def revised(store):
    write = store.write_features
    write("AAPL", at(0), {"rsi": 1.0, "v": [1]}, ingest_time=at(4), run_id="a")
    write("AAPL", at(0), {"rsi": math.nan, "v": [2]}, ingest_time=at(30), run_id="b")
    write("AAPL", at(24), {"rsi": 2.0}, ingest_time=at(28), run_id="b")
    write("MSFT", at(24), {"rsi": 3.0}, availability_lag=timedelta(hours=1))
    return store


def test_history_shows_every_revision(revised):
    history = revised.history("AAPL", "rsi")
    assert history[["event_time", "ingest_time"]].to_numpy().tolist() == [
        [at(0), at(4)],
        [at(0), at(30)],
        [at(24), at(28)],
    ]
    assert history["revision"].tolist() == [1, 2, 1]
    assert history["value"].fillna(-1).tolist() == [1, -1, 2]
    assert history["previous_value"].fillna(-1).tolist() == [-1, 1, -1]
    assert history["run_id"].tolist() == ["a", "b", "b"]
    assert revised.history("AAPL", "v")["value"].tolist() == [[1], [2]]
    assert revised.history("nobody", "rsi").empty


def test_a_difference_shows_what_became_known_in_between(revised):
    change = revised.diff(at(27), at(40))
    assert change[["entity_key", "feature_name", "change"]].to_numpy().tolist() == [
        ["AAPL", "rsi", "revised"],
        ["AAPL", "rsi", "new"],
        ["AAPL", "v", "revised"],
    ]
    assert change["previous_value"].tolist()[0] == 1.0
    assert change["value"].tolist()[2] == [2]
    assert revised.diff(at(4), at(27))["entity_key"].tolist() == ["MSFT"]
    assert revised.diff(at(3), at(40), entities=["MSFT"])["value"].tolist() == [3.0]
    assert revised.diff(at(3), at(4), features=["rsi"])["change"].tolist() == ["new"]
    assert revised.diff(at(40), at(50)).empty
    with pytest.raises(InvalidTime, match="later than"):
        revised.diff(at(2), at(1))


def test_a_difference_is_what_a_training_frame_would_show(revised):
    """What changes between two reads of the newest values is in the difference."""
    for hours in range(0, 40, 3):
        one, two = (revised.get_latest("AAPL", as_of=at(h)) for h in (hours, hours + 3))
        moved = {n for n in two if n not in one or str(one[n].value) != str(two[n].value)}
        assert moved <= set(revised.diff(at(hours), at(hours + 3))["feature_name"])


def test_a_leak_report_counts_cells_that_a_join_on_event_time_takes_from_the_future(revised):
    hours = [-1, 2, 10, 26, 29, 40]
    spine = pd.DataFrame({"entity_key": "AAPL", "as_of": [at(h) for h in hours]})
    spine = pd.concat([spine, spine.assign(entity_key="MSFT").iloc[-2:]])
    report = revised.leak_report(spine, ["rsi", "v"]).set_index("feature_name")
    # rsi: 2 and 10 take the revision of 30, 26 the value of 28; 29, 40 and MSFT are right.
    assert report.loc["rsi", ["rows", "cells", "leaked", "changed"]].tolist() == [8, 7, 3, 3]
    assert report.loc["rsi", "leak_share"] == pytest.approx(3 / 7)
    assert report.loc["rsi", ["assumed", "assumed_share"]].tolist() == [2, pytest.approx(2 / 7)]
    assert report.loc["v", ["cells", "leaked", "changed"]].tolist() == [5, 4, 4]


def test_a_leak_report_agrees_with_the_two_joins_it_compares(revised):
    spine = pd.DataFrame({"entity_key": "AAPL", "as_of": [at(h) for h in range(40)]})
    right = revised.training_frame(spine, "rsi")["rsi"]
    late = spine.assign(as_of=at(10_000))  # everything is known by then
    naive = [
        revised.history("AAPL", "rsi")
        .query("event_time <= @moment")
        .sort_values(["event_time", "ingest_time"])["value"]
        .tail(1)
        .tolist()
        for moment in spine["as_of"]
    ]
    assert len(late) == len(naive)
    differ = sum(
        bool(n) and not (n[0] == r or (math.isnan(n[0]) and math.isnan(r)))
        for n, r in zip(naive, right, strict=True)
    )
    report = revised.leak_report(spine, "rsi")
    # A cell that is missing where the join has NaN counts as changed: nothing was known yet.
    missing = sum(bool(n) and math.isnan(n[0]) for n in naive[:4])
    assert report["changed"].tolist() == [differ + missing]


def test_the_inventory_and_the_lineage_say_what_there_is_and_who_wrote_it(revised):
    found = revised.features()
    assert found[["feature_name", "feature_version", "entities"]].to_numpy().tolist() == [
        ["rsi", 1, 2],
        ["v", 1, 1],
    ]
    assert found["last_event"].tolist() == [at(24), at(0)]
    lineage = revised.lineage("rsi")
    assert lineage["run_id"].fillna("-").tolist() == ["a", "b", "-"]
    assert lineage["points"].tolist() == [1, 2, 1]
    assert lineage["assumed_lag"].fillna("-").tolist() == ["-", "-", "event_time + 1:00:00"]
