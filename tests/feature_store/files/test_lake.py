"""The lake: exact for any engine's as-of join, after any sequence of exports."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store import FeatureStore, UnknownFeature
from feature_store.files import lake_export
from feature_store.files.fingerprint import fingerprint
from feature_store.files.lake import Lake, bucket_of, split_series
from feature_store.files.lake_export import Rows, _Changes, export_lake
from feature_store.files.lake_manifest import LakeError
from feature_store.files.storage import CorruptFile, Folder
from feature_store.read.frontier import strict_frontier

UTC = timezone.utc
START = datetime(2023, 6, 1, tzinfo=UTC)
FEATURES = ["x", "y"]
KEY = ["entity_key", "event_time", "ingest_time", "feature_name"]


def points(seed: int, count: int = 400) -> pd.DataFrame:
    """Random bitemporal data with ties, late data, revisions, bulk backfills and forecasts.

    Of different seeds no two points have the same key.
    """
    rng = np.random.default_rng(seed)
    event = rng.integers(0, 60, count)
    ingest = np.where(rng.random(count) < 0.2, 70, event + rng.integers(-3, 40, count))
    frame = pd.DataFrame(
        {
            "entity_key": [f"E{e}" for e in rng.integers(0, 6, count)],
            "event_time": START + pd.to_timedelta(event * 6, "D"),
            "ingest_time": START + pd.to_timedelta(ingest * 6, "D") + pd.Timedelta(seed, "min"),
            "feature_name": rng.choice(FEATURES, count),
            "value": np.where(rng.random(count) < 0.1, np.nan, rng.normal(size=count)),
        }
    )
    return frame.drop_duplicates(KEY)


def write(store: FeatureStore, *seeds: int, **options) -> int:
    frames = [points(seed) for seed in seeds]
    options |= {"layout": "long", "ingest_time": "ingest_time", "forecast": True}
    return sum(store.write_frame(frame, **options) for frame in frames)


def spine(count: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(11)
    moments = (START + pd.to_timedelta(rng.integers(-10, 700, count), "D")).as_unit("us")
    entities = [f"E{e}" for e in rng.integers(0, 7, count)]
    return pd.DataFrame({"entity_key": entities, "as_of": moments})


def by_polars(lake: Lake) -> pd.DataFrame:
    rows = pl.read_parquet(lake.files()).sort("known_at")
    left = pl.from_pandas(spine()).with_row_index().sort("as_of")
    for name in FEATURES:
        right = rows.filter(feature_name=name)
        right = right.select("entity_key", "known_at", pl.col("value").alias(name))
        sides = {"left_on": "as_of", "right_on": "known_at", "by": "entity_key"}
        left = left.join_asof(right, **sides, check_sortedness=False)
        left = left.drop("known_at", strict=False)
    return left.sort("index").select("entity_key", "as_of", *FEATURES).to_pandas()


def by_duckdb(lake: Lake) -> pd.DataFrame:
    with duckdb.connect() as conn:
        conn.register("spine", spine().reset_index())
        conn.register("lake", conn.read_parquet(lake.files()))
        found = conn.execute(
            """
            SELECT x.value AS x, y.value AS y FROM spine AS s
            ASOF LEFT JOIN (FROM lake WHERE feature_name = 'x') AS x
                ON s.entity_key = x.entity_key AND s.as_of >= x.known_at
            ASOF LEFT JOIN (FROM lake WHERE feature_name = 'y') AS y
                ON s.entity_key = y.entity_key AND s.as_of >= y.known_at
            ORDER BY s.index
            """
        ).df()
    return pd.concat([spine(), found], axis=1)


def assert_exact(store: FeatureStore, lake: Lake) -> None:
    """It is the strict frontier, and every engine gives the database's answers on it."""
    lake.verify()
    for _, series in split_series(lake.table()):
        assert (np.diff(series.known) > 0).all()
        assert (np.diff(series.event) >= 0).all()
    want = store.training_frame(spine(), FEATURES, written_by=lake.written_by)
    assert want[FEATURES].notna().any().all()
    for answer in (lake.training_frame(spine(), FEATURES), by_polars(lake), by_duckdb(lake)):
        np.testing.assert_array_equal(answer[FEATURES], want[FEATURES])
        assert fingerprint(answer) == fingerprint(want)


@pytest.mark.parametrize("seed", [10, 20])
def test_every_engine_gives_the_answers_of_the_database_after_every_export(store, tmp_path, seed):
    overtaken = []
    for step in range(3):
        write(store, seed + step)
        overtaken.append(export_lake(store.database, tmp_path / "lake", buckets=2).overtaken)
        assert_exact(store, Lake(tmp_path / "lake"))
    assert overtaken[0] == 0
    assert min(overtaken[1:]) > 0  # backfills do overtake what was exported


def test_an_export_takes_only_what_was_written_since(store, tmp_path):
    count = write(store, 1)
    first = export_lake(store.database, tmp_path, buckets=2)
    nothing = export_lake(store.database, tmp_path)
    assert (nothing.points, nothing.files_written, nothing.files_removed) == (0, 0, 0)
    assert nothing.written_by >= first.written_by
    more = write(store, 2)
    second = export_lake(store.database, tmp_path)
    assert (first.points, second.points) == (count, more)


def test_live_data_is_appended_and_no_file_is_touched(store, tmp_path):
    before: set[str] = set()
    for day in (START + timedelta(days=d) for d in range(3)):
        frame = pd.DataFrame({"entity_key": [f"E{e}" for e in range(9)], "x": 1.0})
        frame = frame.assign(event_time=day, ingest_time=day + timedelta(hours=4))
        store.write_frame(frame, ingest_time="ingest_time")
        done = export_lake(store.database, tmp_path, buckets=2)
        files = set(Lake(tmp_path).files())
        assert before < files
        assert (done.appended, done.overtaken, done.files_removed) == (9, 0, 0)
        before = files


def test_many_small_files_become_one(store, tmp_path, monkeypatch):
    monkeypatch.setattr(lake_export, "FILES_PER_PARTITION", 3)
    counts = []
    for d in range(7):
        at = START + timedelta(days=d)
        store.write_features("E0", at, {"x": float(d), "y": 0.0}, ingest_time=at)
        export_lake(store.database, tmp_path, buckets=1)
        counts.append(len(Lake(tmp_path).files()))
    assert counts == [1, 2, 3, 1, 2, 3, 1]
    assert_exact(store, Lake(tmp_path))


def test_a_late_row_that_can_never_win_is_not_exported(store, tmp_path):
    at = START + timedelta(days=9)
    store.write_features("E0", at, {"x": 1.0}, ingest_time=at)
    export_lake(store.database, tmp_path)
    store.write_features("E0", START, {"x": 0.0}, ingest_time=at + timedelta(days=1))
    done = export_lake(store.database, tmp_path)
    assert (done.points, done.appended, done.overtaken) == (1, 0, 0)


@pytest.mark.filterwarnings("ignore::feature_store.MixedVersions")
def test_versions_and_ages_are_those_of_the_database(store, tmp_path):
    write(store, 1)
    write(store, 2, feature_version=2)
    export_lake(store.database, tmp_path)
    lake = Lake(tmp_path)
    for version in (None, 2, {"x": 1, "y": "newest"}):
        for max_age in (None, timedelta(0), timedelta(days=40)):
            options = {"feature_version": version, "max_age": max_age}
            want = store.training_frame(spine(), FEATURES, **options)
            pd.testing.assert_frame_equal(lake.training_frame(spine(), FEATURES, **options), want)


@pytest.mark.filterwarnings("ignore::feature_store.MixedVersions")
def test_structures_are_those_of_the_database(store, tmp_path):
    for day, (curve, version) in enumerate([([1, 2.5], 1), ({"a": None}, 1), (3.0, 2), ([9], 2)]):
        at = START + timedelta(days=day)
        store.write_features("E0", at, {"curve": curve}, ingest_time=at, feature_version=version)
        export_lake(store.database, tmp_path)
    rows = pd.DataFrame({"entity_key": "E0", "as_of": pd.date_range(START, periods=6, unit="us")})
    answer = Lake(tmp_path).training_frame(rows, ["curve"])
    pd.testing.assert_frame_equal(answer, store.training_frame(rows, ["curve"]))
    assert answer["curve"].tolist()[:4] == [[1, 2.5], {"a": None}, 3.0, [9]]


def test_two_kinds_of_entity_fit_in_one_spine(store, tmp_path):
    write(store, 1)
    export_lake(store.database, tmp_path)
    rows = spine().rename(columns={"entity_key": "stock"}).assign(sector="E1")
    entity = {"stock": ["x"], "sector": ["y"]}
    pd.testing.assert_frame_equal(
        Lake(tmp_path).training_frame(rows, FEATURES, entity=entity),
        store.training_frame(rows, FEATURES, entity=entity),
    )


def test_buckets_can_be_searched_by_any_executor(store, tmp_path):
    write(store, 1)
    export_lake(store.database, tmp_path, buckets=3)
    lake = Lake(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        answer = lake.training_frame(pl.from_pandas(spine()), FEATURES, map=pool.map)
    assert isinstance(answer, pl.DataFrame)
    assert fingerprint(answer) == fingerprint(store.training_frame(spine(), FEATURES))
    for bucket in range(3):
        names = set(lake.table(bucket)["entity_key"].to_pylist())
        assert {bucket_of(name, 3) for name in names} <= {bucket}


def test_a_transaction_in_flight_is_taken_by_the_next_export(store, tmp_path):
    before = write(store, 1)
    during = []

    def stream():
        yield points(2)
        yield points(3)
        during.append(
            export_lake(store.database, tmp_path)
        )  # both are stored, neither is committed
        yield points(4)

    options = {"layout": "long", "ingest_time": "ingest_time", "forecast": True}
    more = store.write_frame(stream(), **options)
    after = export_lake(store.database, tmp_path)
    assert during[0].points in (0, before)  # a write in the same second waits as well
    assert during[0].points + after.points == before + more
    assert_exact(store, Lake(tmp_path))


def test_writes_after_the_watermark_wait_for_the_next_export(store, tmp_path, monkeypatch):
    """In the first export too, which reads whole series."""
    first = write(store, 1)
    settled = store.watermark()
    second = write(store, 2)
    with monkeypatch.context() as patch:
        patch.setattr(lake_export.watermarks, "watermark", lambda conn: settled)
        assert export_lake(store.database, tmp_path).points == first
        assert_exact(store, Lake(tmp_path))
    assert export_lake(store.database, tmp_path).points == second
    assert_exact(store, Lake(tmp_path))


# Failures


def test_a_killed_export_changes_nothing_and_the_next_one_cleans_up(store, tmp_path, monkeypatch):
    write(store, 1)
    export_lake(store.database, tmp_path)
    before = Lake(tmp_path).training_frame(spine(), FEATURES)
    write(store, 2)
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "replace", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            export_lake(store.database, tmp_path)
    pd.testing.assert_frame_equal(Lake(tmp_path).training_frame(spine(), FEATURES), before)
    with pytest.raises(CorruptFile, match="does not count"):
        Lake(tmp_path).verify()
    export_lake(store.database, tmp_path)
    assert_exact(store, Lake(tmp_path))


def test_two_exports_to_one_place_do_not_mix(store, tmp_path, monkeypatch):
    write(store, 1)
    watermark = lake_export.watermarks.watermark

    def meanwhile(conn):
        with pytest.raises(LakeError, match="another export"):
            export_lake(store.database, tmp_path)
        return watermark(conn)

    monkeypatch.setattr(lake_export.watermarks, "watermark", meanwhile)
    export_lake(store.database, tmp_path)
    assert_exact(store, Lake(tmp_path))


def test_a_damaged_file_is_named(store, tmp_path):
    write(store, 1)
    export_lake(store.database, tmp_path, buckets=1)
    victim = min(tmp_path.rglob("data/**/*.parquet"))
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(CorruptFile, match=victim.name):
        Lake(tmp_path).training_frame(spine(), FEATURES)


def test_a_lake_of_another_database_is_refused(store, tmp_path):
    write(store, 1)
    export_lake(store.database, tmp_path)
    manifest = json.loads((tmp_path / "lake.json").read_text())
    (tmp_path / "lake.json").write_text(json.dumps(manifest | {"origin": "2001-01-01T00:00:00Z"}))
    with pytest.raises(LakeError, match="another database"):
        export_lake(store.database, tmp_path)


def test_what_is_no_lake_is_an_error_that_says_so(store, tmp_path):
    with pytest.raises(LakeError, match="is no lake"):
        Lake(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(LakeError, match="not empty and no lake"):
        export_lake(store.database, tmp_path)
    (tmp_path / "lake.json").write_text("{}")
    with pytest.raises(LakeError, match="damaged"):
        Lake(tmp_path)


def test_features_and_versions_that_the_lake_has_not_are_errors(store, tmp_path):
    write(store, 1)
    export_lake(store.database, tmp_path, features=["x"])
    lake = Lake(tmp_path)
    assert set(lake.table()["feature_name"].to_pylist()) == {"x"}
    with pytest.raises(UnknownFeature, match="'y'"):
        lake.training_frame(spine(), FEATURES)
    with pytest.raises(UnknownFeature, match="x v3"):
        lake.training_frame(spine(), ["x"], feature_version=3)
    with pytest.raises(LakeError, match="begin another"):
        export_lake(store.database, tmp_path, features=["y"])


def test_an_empty_store_makes_an_empty_lake(store, tmp_path):
    done = export_lake(store.database, tmp_path)
    assert (done.points, Lake(tmp_path).rows, Lake(tmp_path).table().num_rows) == (0, 0, 0)
    write(store, 1)
    export_lake(store.database, tmp_path)
    assert_exact(store, Lake(tmp_path))


def test_any_fsspec_url_will_do(store, tmp_path):
    url = f"memory://{tmp_path.name}/lake"
    for seed in (1, 2):
        write(store, seed)
        export_lake(store.database, url)
    lake = Lake(url)
    lake.verify()
    want = store.training_frame(spine(), FEATURES)
    assert fingerprint(lake.training_frame(spine(), FEATURES)) == fingerprint(want)


# The increment, without a database

MOMENTS = st.integers(0, 8)
BATCHES = st.lists(st.lists(st.tuples(MOMENTS, MOMENTS), min_size=1, max_size=6), max_size=6)


@settings(max_examples=200, deadline=None)
@given(BATCHES)
def test_the_frontier_grown_by_increments_is_the_frontier_of_everything(batches):
    """Also where only the last row of the lake is looked at, since all that is new comes after."""
    key = ("E", "x", 1)
    everything: set[tuple[int, int]] = set()
    lake: set[tuple[int, int]] = set()
    heads: dict = {}
    for batch in batches:
        fresh = sorted(set(batch) - everything)
        everything |= set(fresh)
        if not fresh:
            continue
        change = _Changes()
        old = None
        if key in heads:
            live = min(max(point) for point in fresh) > max(heads[key])
            old = rows([heads[key]] if live else sorted(lake))
        change.add(key, old, rows(fresh))
        lake -= pairs(change.overtaken.get(key))
        lake |= pairs(change.appended.get(key))
        heads = change.heads
        event, ingest = np.array(sorted(everything)).T
        kept = strict_frontier(event, ingest).rows
        assert lake == {(int(event[i]), int(ingest[i])) for i in kept}
        assert heads[key] == max(lake)


def rows(found: list[tuple[int, int]]) -> Rows:
    event, ingest = np.array(found, dtype=np.int64).T
    return Rows(event, ingest, np.zeros(len(found)), None)


def pairs(found: Rows | None) -> set[tuple[int, int]]:
    return set(zip(found.event.tolist(), found.ingest.tolist())) if found else set()  # noqa: B905
