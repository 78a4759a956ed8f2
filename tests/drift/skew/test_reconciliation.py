"""What was served is compared with research cell by cell, and what differs is explained."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from psycopg import sql

from feature_store import FeatureView
from mlflow_timescale import db
from mlflow_timescale.common.frames import InvalidFrame
from mlflow_timescale.db import load

DAY = 12  # the session of the fault
_queries = load("drift")
Desk = Any


def skew_of(result: Any, feature: str) -> Any:
    return next(f for f in result.features if f.feature == feature)


def test_a_healthy_system_has_no_cell_that_differs(desk: Desk, rsi: str) -> None:
    for day in range(20):
        (desk.serve if day % 2 else desk.serve_from_store)(day)
    result = desk.reconcile(0, 19)
    assert (result.differing, result.agrees, result.not_compared) == (0, True, ())
    assert (result.sessions, result.entities, result.cells) == (20, 12, 20 * 12 * 2)
    feature = skew_of(result, rsi)
    assert (feature.findings, feature.clocks, feature.revised) == ((), (), None)
    assert not feature.is_independent
    assert feature.source == "the feature store"


@pytest.mark.parametrize(
    "options",
    [
        {"max_age": timedelta(hours=30)},
        {"max_age": "30h", "max_staleness": None},
        {"max_staleness": "1 session", "calendar": "XNYS"},
    ],
)
def test_a_value_that_had_expired_is_not_missing(
    desk: Desk, rsi: str, options: dict[str, Any]
) -> None:
    """Over a weekend the value of Friday's close is too old on Monday, or a session old."""
    for day in range(DAY + 1):
        desk.serve_from_store(day, **options)
    assert desk.reconcile(0, DAY).differing == 0


def test_the_limit_of_a_view_holds(desk: Desk, rsi: str) -> None:
    views = [FeatureView(f"hourly {rsi}", list(desk.values), max_staleness="30h")]
    views.append(FeatureView(f"never registered {rsi}", list(desk.values)))
    desk.store.register(views[0])
    for day in range(DAY):
        desk.serve_from_store(day, views[day % 2])
    result = desk.reconcile(0, DAY - 1)
    assert (result.cells, result.differing) == (12 * 12 * 2, 0)


def test_a_feature_that_is_served_a_session_late_is_found_with_its_first_session(
    desk: Desk, rsi: str
) -> None:
    for day in range(20):
        desk.serve(day, {rsi: desk.values[rsi][day - 1]} if day >= DAY else {})
    result = desk.reconcile(DAY + 2, 19)
    [found] = skew_of(result, rsi).findings
    assert (found.kind, found.parameters) == ("shifted", {"sessions": 1})
    assert found.first == desk.days[DAY]  # before the range
    assert skew_of(result, rsi).is_independent
    assert {f.feature for f in result.features if f.differing} == {rsi}


def test_the_first_morning_is_enough_for_a_swap_and_a_fill(desk: Desk, rsi: str) -> None:
    """Two faults at once, in one session."""
    for day in range(DAY):
        desk.serve(day)
    wrong = desk.values[rsi][DAY].copy()
    wrong[[2, 5]] = wrong[[5, 2]]
    wrong[8:] = 0.0
    desk.serve(DAY, {rsi: wrong})
    found = {f.kind: f for f in skew_of(desk.reconcile(DAY, DAY), rsi).findings}
    assert set(found) == {"entities", "filled"}
    assert found["entities"].text == "N02 and N05 exchanged"
    assert found["filled"].cells == 4


def test_a_value_that_was_not_served_is_missing_and_a_nan_is_the_absence_of_a_number(
    desk: Desk, rsi: str
) -> None:
    desk.serve(DAY, {rsi: [None, float("nan"), *desk.values[rsi][DAY][2:]]})
    [found] = skew_of(desk.reconcile(DAY, DAY), rsi).findings
    assert (found.kind, found.cells) == ("missing", 2)


def test_float32_is_found_and_called_rounding_and_a_tolerance_allows_it(
    desk: Desk, rsi: str
) -> None:
    desk.serve(DAY, {rsi: desk.values[rsi][DAY].astype(np.float32)})
    [found] = skew_of(desk.reconcile(DAY, DAY), rsi).findings
    assert (found.kind, found.parameters) == ("rounded", {"to": "float32"})
    assert desk.reconcile(DAY, DAY, tolerances={rsi: 1e-6}).agrees
    assert desk.reconcile(DAY, DAY, tolerances={"*": 1e-6}).agrees


def test_a_later_revision_is_no_fault_and_names_its_producer(desk: Desk, rsi: str) -> None:
    desk.serve_from_store(DAY)
    desk.store.producer = "vendor job"
    known = desk.decision(desk.days[DAY]) + timedelta(days=2)
    desk.write(DAY, {rsi: -desk.values[rsi][DAY]}, known=known)
    result = desk.reconcile(DAY, DAY)
    assert result.agrees
    revised = skew_of(result, rsi).revised
    assert (revised.cells, revised.median_factor) == (12, -1.0)
    assert (revised.producer, revised.known_after) == ("vendor job", timedelta(days=2))


def test_an_availability_that_was_assumed_is_named(desk: Desk, rsi: str) -> None:
    """The job ran after the decision, and its values claim to have been known before."""
    feature = f"late {rsi}"
    values = {feature: np.arange(12.0)}
    desk.write(DAY - 1, values)
    desk.values = {feature: np.zeros((20, 12))}
    desk.serve_from_store(DAY)
    desk.write(DAY, {feature: np.arange(12.0) ** 2 + 0.5})
    [found] = skew_of(desk.reconcile(DAY, DAY), feature).findings
    assert (found.kind, found.cells) == ("written late", 12)


def test_another_version_of_the_feature_is_named(desk: Desk, rsi: str) -> None:
    second = {rsi: desk.values[rsi][DAY] * 1.7 + 0.1}
    desk.write(DAY, second, feature_version=2)
    desk.serve(DAY)
    [found] = skew_of(desk.reconcile(DAY, DAY), rsi).findings
    assert (found.kind, found.parameters) == ("version", {"version": "1"})
    assert desk.reconcile(DAY, DAY, research={rsi: 1}).agrees


def test_exchanged_columns_name_each_other(desk: Desk, rsi: str) -> None:
    [ret] = set(desk.values) - {rsi}
    desk.serve(DAY, {rsi: desk.values[ret][DAY], ret: desk.values[rsi][DAY]})
    result = desk.reconcile(DAY, DAY)
    assert [f.findings[0].text for f in result.features] == [f"value of {ret}", f"value of {rsi}"]


def test_event_times_that_moved_are_named_with_the_first_session(desk: Desk, rsi: str) -> None:
    for day in range(20):
        desk.serve(day, late=timedelta(hours=8 if day >= DAY else 0))
    result = desk.reconcile(0, 19)
    [change] = skew_of(result, rsi).clocks
    assert (change.moved, change.first) == (timedelta(hours=8), desk.days[DAY])
    assert (change.usual, change.sessions) == ("16:00 America/New_York", 8)
    assert (result.differing, result.agrees) == (0, False)


def research_frame(desk: Desk, rsi: str, factor: float = 1.0) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "entity_key": [f"N{i:02d}" for i in range(12)],
            "session": [desk.days[DAY]] * 12,
            rsi: factor * desk.values[rsi][DAY],
        }
    )


def test_research_is_a_frame_a_file_or_a_function(desk: Desk, rsi: str, tmp_path: Path) -> None:
    """The store has wrong values, which serving read: only another source sees it."""
    desk.serve_from_store(DAY)
    assert desk.reconcile(DAY, DAY).agrees
    right = research_frame(desk, rsi, 2.0)
    path = tmp_path / "research.parquet"
    right.to_parquet(path)

    def computed(spine: pd.DataFrame) -> pd.DataFrame:
        assert list(spine) == ["entity_key", "session", "as_of"]
        return spine.merge(right, how="left", on=["entity_key", "session"])

    for source in (right, path, computed):
        result = desk.reconcile(DAY, DAY, research={rsi: source})
        [found] = skew_of(result, rsi).findings
        assert (found.kind, found.parameters) == ("scaled", {"factor": 0.5})
        assert skew_of(result, rsi).is_independent


@pytest.mark.parametrize("moment", ["session", "as_of"])
def test_research_is_a_table_or_a_view(desk: Desk, rsi: str, moment: str) -> None:
    desk.serve_from_store(DAY)
    relation = f"right_{moment}"
    at = desk.days[DAY] if moment == "session" else desk.decision(desk.days[DAY])
    rows = [(f"N{i:02d}", at, 2 * value) for i, value in enumerate(desk.values[rsi][DAY].tolist())]
    kind = "date" if moment == "session" else "timestamptz"
    names = {"table": sql.Identifier(relation), "feature": sql.Identifier(rsi)}
    create = f"CREATE TABLE {{table}} (entity_key text, {moment} {kind}, {{feature}} numeric)"
    with db.connect(desk.uri, autocommit=True) as conn:
        conn.execute(sql.SQL(create).format(**names))
        insert = sql.SQL("INSERT INTO {table} VALUES (%s, %s, %s)").format(**names)
        conn.cursor().executemany(insert, rows)
    for research in ({rsi: relation}, {"*": f"public.{relation}"}):
        result = desk.reconcile(DAY, DAY, research=research)
        [found] = skew_of(result, rsi).findings
        assert (found.kind, found.parameters) == ("scaled", {"factor": 0.5})
        assert skew_of(result, rsi).source == next(iter(research.values()))
        assert sum(feature.is_independent for feature in result.features) == 1


def test_a_table_that_is_not_there_is_refused(desk: Desk, rsi: str) -> None:
    desk.serve(DAY)
    with pytest.raises(InvalidFrame, match="'no_such_table' is neither a file nor a table"):
        desk.reconcile(DAY, DAY, research={rsi: "no_such_table"})
    with pytest.raises(InvalidFrame, match="needs the columns entity_key and session"):
        desk.reconcile(DAY, DAY, research={rsi: "mlops.requests"})


def test_what_the_store_knew_then_is_no_fault_where_research_was_revised(
    desk: Desk, rsi: str
) -> None:
    desk.serve_from_store(DAY)
    known = desk.decision(desk.days[DAY]) + timedelta(days=2)
    desk.write(DAY, {rsi: -desk.values[rsi][DAY]}, known=known)
    result = desk.reconcile(DAY, DAY, research={"*": research_frame(desk, rsi, -1.0)})
    [found] = skew_of(result, rsi).findings
    assert (found.kind, result.agrees) == ("revised", True)


def test_a_source_without_the_feature_is_refused(desk: Desk, rsi: str) -> None:
    desk.serve(DAY)
    with pytest.raises(InvalidFrame, match="has no column"):
        desk.reconcile(DAY, DAY, research={rsi: research_frame(desk, rsi).drop(columns=rsi)})


def test_a_feature_that_no_research_has_is_listed(desk: Desk) -> None:
    desk.serve(DAY, {"own feature": np.arange(12.0)})
    result = desk.reconcile(DAY, DAY)
    assert (result.not_compared, result.agrees) == (("own feature",), True)


def test_texts_of_a_frame_are_compared_as_texts(desk: Desk, rsi: str) -> None:
    regime = f"regime {rsi}"
    desk.serve(DAY, {regime: ["ruhig", "stürmisch"] * 6})
    right = (
        research_frame(desk, rsi).drop(columns=rsi).assign(**{regime: ["ruhig", "stürmisch"] * 6})
    )
    assert desk.reconcile(DAY, DAY, research={regime: right}).agrees
    for kind in ("category", object):
        wrong = right.assign(**{regime: ["ruhig"] * 12}).astype({regime: kind})
        found = skew_of(desk.reconcile(DAY, DAY, research={regime: wrong}), regime)
        assert found.differing == 6
    desk.write(DAY, {regime: np.array(["ruhig", "stürmisch"] * 6)})
    assert desk.reconcile(DAY, DAY).agrees


def test_texts_are_compared_as_texts(desk: Desk, rsi: str) -> None:
    regime = f"regime {rsi}"
    desk.write(DAY, {regime: np.array(["calm", "storm"] * 6)})
    desk.serve(DAY, {regime: ["calm", "storm"] * 6})
    assert desk.reconcile(DAY, DAY).agrees
    desk.write(DAY + 1, {regime: np.array(["calm", "storm"] * 6)})
    desk.serve(DAY + 1, {regime: ["calm", "calm"] + ["calm", "storm"] * 5})
    assert skew_of(desk.reconcile(DAY + 1, DAY + 1), regime).differing == 1
