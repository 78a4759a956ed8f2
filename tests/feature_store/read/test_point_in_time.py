"""What was known at time T: both plans against brute force, and every trap on the way."""

from __future__ import annotations

import math
import warnings
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from support.bitemporal import Point, at, winner

from feature_store import FeatureStore, MixedVersions, UnknownEntities, UnknownFeature
from feature_store.read import lookups, plans

PLANS = ("lookup", "stream")


def write(store: FeatureStore, points: list[Point]) -> None:
    for version in {p.version for p in points}:
        frame = pd.DataFrame(
            {
                "entity_key": [p.entity for p in points if p.version == version],
                "feature_name": [p.feature for p in points if p.version == version],
                "event_time": [p.event for p in points if p.version == version],
                "ingest_time": [p.ingest for p in points if p.version == version],
                "value": [p.value for p in points if p.version == version],
            }
        )
        store.write_frame(
            frame,
            layout="long",
            ingest_time="ingest_time",
            feature_version=version,
            forecast=True,
        )


def random_points(rng: np.random.Generator) -> list[Point]:
    """Revisions, late data, forecasts, ties and gaps, in few and crowded times."""
    made = {}
    for _ in range(int(rng.integers(5, 120))):
        entity, feature = f"E{rng.integers(4)}", f"f{rng.integers(3)}"
        version = int(rng.choice([1, 1, 1, 2]))
        event, ingest = at(int(rng.integers(12))), at(int(rng.integers(12)))
        value = float("nan") if rng.random() < 0.1 else float(rng.normal())
        made[entity, feature, version, event, ingest] = value
    return [Point(*key, value) for key, value in made.items()]


def random_spine(rng: np.random.Generator) -> pd.DataFrame:
    count = int(rng.integers(1, 60))
    return pd.DataFrame(
        {
            "entity_key": [f"E{i}" for i in rng.integers(0, 5, count)],
            "as_of": [at(float(h)) for h in rng.integers(-2, 28, count) / 2],
            "label": rng.normal(size=count),
        },
        index=rng.permutation(count),
    )


@pytest.mark.filterwarnings("ignore::feature_store.MixedVersions")
@pytest.mark.filterwarnings("ignore::feature_store.UnknownEntities")
@pytest.mark.parametrize("max_age", [None, timedelta(0), timedelta(hours=2)])
@pytest.mark.parametrize("version", [None, 1, 2, {"f0": 2, "f1": "newest"}])
def test_both_plans_answer_as_brute_force_does(store, version, max_age, monkeypatch):
    """And lookups by either way: cell by cell, as few are, and what is recent first."""
    for seed in range(4):
        rng = np.random.default_rng([seed, 0 if max_age is None else max_age.seconds])
        points = [p._replace(entity=f"{seed}{p.entity}") for p in random_points(rng)]
        points += [Point("other", f"f{i}", v, at(0), at(0), 0.0) for i in range(3) for v in (1, 2)]
        write(store, points)
        spine = random_spine(rng).assign(entity_key=lambda s, n=seed: f"{n}" + s["entity_key"])
        for plan, few in (("lookup", 500), ("lookup", 0), ("stream", 0)):
            monkeypatch.setattr(plans, "_ALWAYS_LOOK_UP", few)
            monkeypatch.setattr(lookups, "_SMALLEST_PART", 7 if seed % 2 else 20_000)
            monkeypatch.setattr(plans, "_SMALLEST_PART", 2 if seed % 2 else 20_000)
            frame = store.training_frame(
                spine, ["f0", "f1", "f2"], feature_version=version, max_age=max_age,
                event_times=True, plan=plan,
            )  # fmt: skip
            assert frame.index.equals(spine.index)
            assert frame[spine.columns].equals(spine)
            for row in frame.to_dict("records"):
                for feature in ("f0", "f1", "f2"):
                    pinned = version.get(feature) if isinstance(version, dict) else version
                    best = winner(
                        points, row["entity_key"], feature, row["as_of"], max_age,
                        None if pinned == "newest" else pinned,
                    )  # fmt: skip
                    found, event = row[feature], row[f"{feature}__event_time"]
                    assert (best is None) == pd.isna(event)
                    assert best is None or event == best.event
                    wanted = float("nan") if best is None else best.value
                    assert found == wanted or (math.isnan(found) and math.isnan(wanted))


@pytest.fixture
def revised(store):
    """62.5 known at hour 20, restated as 60.0 at 30; then the next day's 65.0 at 44."""
    point = Point("AAPL", "rsi", 1, at(16), at(20), 62.5)
    later = Point("AAPL", "rsi", 1, at(40), at(44), 65.0)
    write(store, [point, point._replace(ingest=at(30), value=60.0), later])
    return store


def known(store: FeatureStore, as_of, plan: str) -> float:
    spine = [("AAPL", as_of)]
    return float(store.training_frame(spine, "rsi", plan=plan)["rsi"].iloc[0])


@pytest.mark.parametrize("plan", PLANS)
def test_the_old_value_returns_before_the_revision_was_known(revised, plan):
    microsecond = timedelta(microseconds=1)
    assert math.isnan(known(revised, at(20) - microsecond, plan))
    assert known(revised, at(20), plan) == 62.5
    assert known(revised, at(30) - microsecond, plan) == 62.5
    assert known(revised, at(30), plan) == 60.0
    assert known(revised, at(30) + microsecond, plan) == 60.0


@pytest.mark.parametrize("plan", PLANS)
def test_late_data_about_the_past_does_not_hide_newer_data(revised, plan):
    """A restatement of an older period must not win (HKUDS/Vibe-Trading#771)."""
    write(revised, [Point("AAPL", "rsi", 1, at(16), at(50), 1.0)])
    assert known(revised, at(60), plan) == 65.0


@pytest.mark.parametrize("plan", PLANS)
def test_a_value_that_is_not_known_yet_does_not_blank_the_one_before(revised, plan):
    assert known(revised, at(43), plan) == 60.0


@pytest.mark.parametrize("plan", PLANS)
def test_a_forecast_is_visible_from_its_event_time_on(store, plan):
    write(store, [Point("AAPL", "rsi", 1, at(10), at(5), 1.0)])
    assert math.isnan(known(store, at(9.99), plan))
    assert known(store, at(10), plan) == 1.0


@pytest.mark.parametrize("plan", PLANS)
def test_a_bulk_backfill_with_one_ingest_time_has_one_answer(store, plan):
    rng = np.random.default_rng(1)
    days = rng.permutation(300)
    write(store, [Point("AAPL", "rsi", 1, at(int(d)), at(1000), float(d)) for d in days])
    assert known(store, at(1000), plan) == 299.0
    assert math.isnan(known(store, at(999), plan))


@pytest.mark.parametrize("plan", PLANS)
def test_max_age_counts_from_event_time_and_includes_its_bound(store, plan):
    write(store, [Point("AAPL", "rsi", 1, at(0), at(3), 1.0)])
    ages = [timedelta(hours=5), timedelta(hours=5) - timedelta(microseconds=1)]
    spine = [("AAPL", at(5))]
    found = [store.training_frame(spine, "rsi", max_age=age, plan=plan)["rsi"][0] for age in ages]
    assert found[0] == 1.0
    assert math.isnan(found[1])


@pytest.mark.parametrize("plan", PLANS)
def test_a_version_that_was_not_known_yet_does_not_serve(store, plan):
    write(store, [Point("AAPL", "rsi", 1, at(0), at(1), 1.0), Point("AAPL", "rsi", 2, at(0), at(9), 2.0)])  # fmt: skip # noqa: E501
    spine = [("AAPL", at(5)), ("AAPL", at(10))]
    with pytest.warns(MixedVersions, match="rsi mixes versions"):
        frame = store.training_frame(spine, "rsi", plan=plan)
    assert frame["rsi"].tolist() == [1.0, 2.0]
    assert store.training_frame(spine, "rsi", feature_version=1)["rsi"].tolist() == [1.0, 1.0]
    with pytest.raises(UnknownFeature, match=r"no version 3; it has \[1, 2\]"):
        store.training_frame(spine, "rsi", feature_version=3)


def test_misspelt_entities_are_named_once(store: FeatureStore) -> None:
    write(store, [Point("AAPL", "rsi", 1, at(0), at(1), 1.0)])
    spine = [(name, at(hour)) for name in ("AAPL", "aapl", "MSFT") for hour in (1, 2)]
    with pytest.warns(UnknownEntities, match="2 of 3 entities .* empty: aapl, MSFT$") as warned:
        store.training_frame(spine, "rsi", feature_version=1)
    assert len(warned) == 1
    assert "test_point_in_time" in warned[0].filename
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.training_frame(spine[:2], "rsi")
        store.explain(spine, "rsi")


@pytest.mark.parametrize("plan", PLANS)
def test_keys_are_never_concatenated(store, plan):
    write(store, [Point("1", "23", 1, at(0), at(0), 1.0), Point("12", "3", 1, at(0), at(0), 2.0)])
    frame = store.training_frame([("1", at(1)), ("12", at(1))], ["23", "3"], plan=plan)
    assert frame["23"].fillna(-1).tolist() == [1.0, -1]
    assert frame["3"].fillna(-1).tolist() == [-1, 2.0]


@pytest.mark.parametrize("plan", PLANS)
def test_structures_and_numbers_come_back_as_they_were(store, plan):
    store.write_features("AAPL", at(0), {"v": [1, 2.5], "n": 1}, ingest_time=at(0))
    store.write_features("AAPL", at(2), {"v": {"b": [True, None], "a": "x"}}, ingest_time=at(2))
    store.write_features("AAPL", at(4), {"v": float("nan")}, ingest_time=at(4))
    frame = store.training_frame([("AAPL", at(h)) for h in (-1, 1, 3, 5)], ["v", "n"], plan=plan)
    assert frame["v"].tolist()[:3] == [None, [1, 2.5], {"a": "x", "b": [True, None]}]
    assert math.isnan(frame["v"].tolist()[3])
    assert frame["n"].fillna(-1).tolist() == [-1, 1, 1, 1]


def test_the_plan_follows_the_size_of_the_question(store):
    from feature_store.catalogue.selection import select
    from feature_store.read.lookups import Bounds
    from feature_store.read.plans import choose, measure
    from feature_store.read.point_in_time import lookups_of
    from feature_store.read.spine import read_spine

    write(store, [Point(f"E{i}", "f", 1, at(h), at(h), 1.0) for i in range(3) for h in range(300)])
    few = read_spine([("E1", at(5))], ["f"], "entity_key", "as_of")
    many = read_spine([(f"E{i}", at(h / 9)) for i in range(3) for h in range(400)], ["f"], "entity_key", "as_of")  # fmt: skip # noqa: E501
    with store.connection() as conn:
        asked = [lookups_of(conn, spine, select("f", None)) for spine in (few, many)]
        chosen = [choose(one, measure(conn, one, Bounds())) for one in asked]
    assert chosen == ["lookup", "stream"]


def test_a_read_by_written_by_is_the_same_after_a_backfill_of_the_past(store):
    write(store, [Point("AAPL", "rsi", 1, at(0), at(1), 1.0)])
    settled = store.watermark()
    spine = [("AAPL", at(10))]
    write(store, [Point("AAPL", "rsi", 1, at(5), at(6), 2.0)])
    assert store.training_frame(spine, "rsi")["rsi"].tolist() == [2.0]
    for plan in PLANS:
        frame = store.training_frame(spine, "rsi", written_by=settled, plan=plan)
        assert frame["rsi"].tolist() == [1.0]
