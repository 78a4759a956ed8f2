"""Writing: each key once, whole or not at all, nothing changed in place, everything on record."""

from __future__ import annotations

import math
import threading
from datetime import timedelta

import numpy as np
import pandas as pd
import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.bitemporal import at

from feature_store import (
    ConflictingValues,
    DefinitionError,
    FeatureStore,
    InvalidFrame,
    InvalidTime,
    InvalidValue,
    SessionRule,
    UnknownCalendar,
)
from feature_store.catalogue import series
from feature_store.write import transaction
from mlflow_timescale import db


def rows(store: FeatureStore, query: str = "ORDER BY 1, 2, 4, 7") -> list[tuple]:
    with db.connect(store.uri) as conn:
        return conn.execute(f"SELECT * FROM mlops.feature_events {query}").fetchall()


def wide(**columns) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    keys = {"entity_key": ["AAPL"] * count, "event_time": [at(h) for h in range(count)]}
    return pd.DataFrame(keys | columns)


def test_a_value_is_known_from_the_moment_it_is_written(store):
    before = store.watermark()
    assert store.write_features("AAPL", at(0), {"rsi": 62.5, "ret": 0.1}) == 2
    latest = store.get_latest("AAPL", ["rsi"])["rsi"]
    assert (latest.value, latest.event_time) == (62.5, at(0))
    assert before < latest.ingest_time < store.watermark()
    assert store.get_latest("AAPL", ["rsi"], as_of=before) == {}


def test_the_same_value_again_writes_nothing_and_a_new_one_is_a_revision(store):
    values = {"rsi": 62.5, "undefined": math.nan, "vector": [1, {"a": 2}]}
    assert store.write_features("AAPL", at(0), values) == 3
    assert store.write_features("AAPL", at(0), values) == 0
    assert store.write_features("AAPL", at(0), values | {"rsi": 60.0}) == 1
    assert store.write_features("AAPL", at(0), values) == 1, "back to the first value"
    assert store.history("AAPL", "rsi")["value"].tolist() == [62.5, 60.0, 62.5]
    assert len(rows(store)) == 5


def test_the_same_frame_again_writes_nothing(store, caplog):
    frame = wide(rsi=[1.0, 2.0, math.nan], mom=[1, 2, 3])
    lag = {"availability_lag": timedelta(hours=1)}
    assert store.write_frame(frame, **lag) == 6
    before = rows(store)
    with caplog.at_level("INFO", "feature_store"):
        assert store.write_frame(frame, **lag) == 0
    assert "0 new values; 6 of 6 were stored already" in caplog.text
    assert store.write_frame(frame.iloc[::-1], **lag) == 0
    assert str(rows(store)) == str(before)
    with db.connect(store.uri) as conn:
        assert conn.execute("SELECT count(*) FROM mlops.feature_writes").fetchone() == (1,)


def test_keys_that_a_sample_misses_end_the_copy_and_are_merged(store, monkeypatch):
    """A batch with ingest times is copied if none of some keys is stored; here of one."""
    monkeypatch.setattr(transaction, "_PROBES", 1)
    lag = {"availability_lag": timedelta(hours=1)}
    assert store.write_frame(wide(rsi=np.arange(20.0)).iloc[5:9], **lag) == 4
    assert store.write_frame(wide(rsi=np.arange(20.0)), **lag) == 16
    assert store.write_frame(wide(rsi=np.arange(20.0)), **lag) == 0
    assert len(rows(store)) == 20
    with pytest.raises(ConflictingValues, match="rsi"):
        store.write_frame(wide(rsi=np.where(np.arange(30) == 7, -1.0, np.arange(30.0))), **lag)
    assert len(rows(store)) == 20


def test_series_that_others_have_made_meanwhile_are_found_across_batches(store, monkeypatch):
    """Names come in any order, with features of some entities only, in several batches."""
    monkeypatch.setattr(series, "_PAIRS_AT_ONCE", 2)
    store.write_features("B", at(0), {"g": 0.0}, ingest_time=at(0))
    batches = [
        {"entity_key": ["C", "A", "B"], "event_time": [at(1)] * 3, "f": [1.0, 2.0, 3.0]},
        {"entity_key": ["B", "D"], "event_time": [at(2)] * 2, "g": [4.0, 5.0], "f": [6.0, None]},
    ]
    assert store.write_frame(iter(batches), availability_lag=timedelta(0)) == 6
    found = [(row[0], row[1], row[4]) for row in rows(store)]
    assert found == [
        ("A", "f", 2.0), ("B", "f", 3.0), ("B", "f", 6.0), ("B", "g", 0.0), ("B", "g", 4.0),
        ("C", "f", 1.0), ("D", "g", 5.0),
    ]  # fmt: skip


def test_a_contradiction_names_its_rows_and_writes_nothing(store):
    frame = wide(rsi=np.arange(20.0))
    store.write_frame(frame, availability_lag=timedelta(hours=1))
    before = rows(store)
    changed = wide(rsi=np.arange(20.0) + (np.arange(20) >= 8), new=np.arange(20.0))
    with pytest.raises(
        ConflictingValues, match=r"12 value\(s\).*AAPL rsi v1.*has 8, got 9"
    ) as info:
        store.write_frame(changed, availability_lag=timedelta(hours=1))
    assert info.value.total == 12
    assert len(info.value.rows) == 10
    assert info.value.rows[0]["event_time"] == at(8)
    assert rows(store) == before
    assert store.features()["feature_name"].tolist() == ["rsi"]


def test_a_restatement_is_a_revision_known_from_now_on_and_happens_once(store):
    lag = {"availability_lag": timedelta(hours=1)}
    store.write_frame(wide(rsi=[1.0, 2.0, 3.0]), **lag)
    restated = wide(rsi=[1.0, 5.0, 3.0], mom=[7.0, 8.0, 9.0])
    assert store.write_frame(restated, restate=True, **lag) == 4
    assert store.write_frame(restated, restate=True, **lag) == 0
    history = store.history("AAPL", "rsi")
    assert history["value"].tolist() == [1.0, 2.0, 5.0, 3.0]
    assert history["revision"].tolist() == [1, 1, 2, 1]
    assert history["assumed_lag"].isna().tolist() == [False, False, True, False]
    assert history["ingest_time"].iloc[2] > pd.Timestamp.now("UTC") - pd.Timedelta(hours=1)
    spine = [("AAPL", at(9))]
    assert store.training_frame(spine, "rsi")["rsi"].tolist() == [3.0]


def test_two_values_for_one_key_in_a_frame_are_refused_and_two_equal_ones_count_once(store):
    twice = pd.concat([wide(rsi=[1.0]), wide(rsi=[1.0])])
    assert store.write_frame(twice, availability_lag=timedelta(0)) == 1
    with pytest.raises(ConflictingValues, match="itself gives two values"):
        store.write_frame(pd.concat([wide(a=[1.0]), wide(a=[2.0])]))
    with pytest.raises(ConflictingValues, match="itself gives two values"):
        store.write_frame(iter([wide(a=[1.0]), wide(a=[2.0])]))
    with pytest.raises(ConflictingValues):
        store.write_frame(
            iter([wide(a=[1.0]), wide(a=[2.0])]), availability_lag=timedelta(0), restate=True
        )
    assert len(rows(store)) == 1


def test_absent_is_not_written_and_undefined_is(store):
    frame = wide(rsi=pd.array([1.0, None, 3.0], dtype="Float64"), mom=[1.0, math.nan, 3.0])
    assert store.write_frame(frame, availability_lag=timedelta(0)) == 5
    stored = [(row[1], row[3], row[4]) for row in rows(store)]
    assert [row[0] for row in stored if math.isnan(row[2])] == ["mom"]


def test_an_assumed_lag_is_marked_and_never_silent(store):
    store.write_features("AAPL", at(0), {"rsi": 1.0}, availability_lag=timedelta(hours=4))
    store.write_features("MSFT", at(0), {"rsi": 1.0}, ingest_time=at(4))
    assumed, observed = store.get_point_in_time([("AAPL", at(5)), ("MSFT", at(5))], ["rsi"])
    assert (assumed.ingest_time, assumed.assumed_lag) == (at(4), "event_time + 4:00:00")
    assert (observed.ingest_time, observed.assumed_lag) == (at(4), None)


def test_a_backfill_without_a_lag_is_known_only_now(store):
    store.write_frame(wide(rsi=[1.0, 2.0]))
    assert store.training_frame([("AAPL", at(100))], "rsi")["rsi"].isna().all()


def test_a_lag_may_be_a_rule_of_the_trading_calendar(store):
    friday_close = pd.Timestamp("2024-01-12 16:00", tz="America/New_York")
    store.write_features("AAPL", friday_close, {"rsi": 1.0}, availability_lag="XNYS next open")
    value = store.get_latest("AAPL")["rsi"]
    assert value.ingest_time == pd.Timestamp("2024-01-16 09:30", tz="America/New_York")
    assert value.assumed_lag == "next XNYS open"
    second = SessionRule("XNYS", "close", sessions=2, delay=timedelta(minutes=5))
    store.write_features("AAPL", friday_close, {"mom": 1.0}, availability_lag=second)
    known = store.get_latest("AAPL")["mom"].ingest_time
    assert known == pd.Timestamp("2024-01-17 16:05", tz="America/New_York")
    with pytest.raises(UnknownCalendar, match="no trading calendar 'NOPE'"):
        store.write_features("AAPL", friday_close, {"x": 1}, availability_lag="NOPE next open")
    with pytest.raises(UnknownCalendar, match="write it as 'XNYS next open'"):
        store.write_features("AAPL", friday_close, {"x": 1}, availability_lag="tomorrow")


def test_a_value_known_before_its_event_must_be_called_a_forecast(store):
    with pytest.raises(InvalidTime, match="forecast=True"):
        store.write_features("AAPL", at(5), {"rsi": 1.0}, ingest_time=at(4))
    with pytest.raises(InvalidTime, match="forecast=True"):
        store.write_features("AAPL", at(10**6), {"rsi": 1.0})
    with pytest.raises(InvalidTime, match="forecast=True"):
        store.write_frame(iter([wide(a=[1.0]), wide(a=[2.0]).assign(event_time=at(10**6))]))
    assert store.write_features("AAPL", at(5), {"r": 1.0}, ingest_time=at(4), forecast=True) == 1
    assert store.write_features("AAPL", at(10**6), {"r": 1.0}, forecast=True) == 1


def test_a_write_is_on_record_with_producer_version_and_run(store):
    import mlflow

    store.write_features("AAPL", at(0), {"rsi": 1.0}, run_id="run-1")
    mlflow.set_tracking_uri(store.uri.url)
    with mlflow.start_run() as run:
        store.write_features("MSFT", at(0), {"rsi": 1.0})
    found = [row[7:] for row in rows(store)]
    assert found == [("tests", "abc123", "run-1"), ("tests", "abc123", run.info.run_id)]


def test_the_producers_version_is_the_git_commit_by_default(shared_database, tmp_path, monkeypatch):
    import subprocess

    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run([*git, "-C", tmp_path, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    head = subprocess.check_output(["git", "-C", tmp_path, "rev-parse", "HEAD"], text=True)
    monkeypatch.chdir(tmp_path)
    with FeatureStore(shared_database) as store:
        assert store.producer_version == head.strip()


FRAMES = {
    "pandas": lambda frame: frame,
    "pandas ns": lambda f: f.assign(event_time=f["event_time"].astype("datetime64[ns, UTC]")),
    "pandas seconds": lambda f: f.assign(event_time=f["event_time"].astype("datetime64[s, UTC]")),
    "pandas in New York": lambda f: f.assign(
        event_time=f["event_time"].dt.tz_convert("America/New_York")
    ),
    "pandas objects": lambda f: f.assign(
        event_time=f["event_time"].map(lambda t: t.to_pydatetime()).astype(object),
        a=f["a"].astype(object),
    ),
    "pandas categorical": lambda f: f.assign(entity_key=f["entity_key"].astype("category")),
    "pandas nullable": lambda f: f.convert_dtypes(),
    "pandas on Arrow": lambda f: f.convert_dtypes(dtype_backend="pyarrow"),
    "arrow": pa.Table.from_pandas,
    "arrow batches": lambda f: pa.Table.from_pandas(f).to_reader(max_chunksize=2),
    "polars": pl.from_pandas,
    "polars lazy": lambda f: pl.from_pandas(f).lazy(),
    "iterator": lambda f: iter([f.iloc[:2], f.iloc[2:]]),
    "columns": lambda f: {name: f[name].tolist() for name in f},
}


@pytest.mark.parametrize("kind", FRAMES)
def test_a_frame_of_any_kind_is_written_alike(store, kind):
    frame = wide(a=[1.5, 2.5, 3.5, 4.5], b=[1, 2, 3, 4], c=[True, False, True, False])
    written = store.write_frame(FRAMES[kind](frame), availability_lag=timedelta(hours=1))
    assert written == 12
    back = store.training_frame(
        pd.DataFrame({"entity_key": "AAPL", "as_of": [at(h + 1) for h in range(4)]}),
        ["a", "b", "c"],
    )
    assert back["a"].tolist() == [1.5, 2.5, 3.5, 4.5]
    assert back["b"].tolist() == [1, 2, 3, 4]
    assert back["c"].tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("layout", ["wide", "long"])
def test_a_parquet_file_is_written_batch_by_batch_and_whole_or_not_at_all(
    store, tmp_path, monkeypatch, layout
):
    from feature_store import store as module

    monkeypatch.setattr(module, "BATCH_POINTS", 40)
    frame = wide(a=np.arange(100.0), b=np.arange(100.0), known=[at(h + 1) for h in range(100)])
    if layout == "long":
        frame = frame.melt(["entity_key", "event_time", "known"], var_name="feature_name")
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "features.parquet")
    seen = []
    how = {"layout": layout, "ingest_time": "known", "progress": seen.append}
    assert store.write_frame(tmp_path / "features.parquet", **how) == 200
    assert len(seen) > 3
    assert sum(seen) == 200
    assert store.write_frame(str(tmp_path / "features.parquet"), **how) == 0
    bad = pd.concat([frame.assign(entity_key="MSFT"), frame.tail(1).assign(known=at(0))])
    with pytest.raises(InvalidTime, match="forecast"):
        store.write_frame(iter([bad.iloc[:50], bad.iloc[50:]]), **how)
    assert len(rows(store)) == 200


def test_a_stream_without_ingest_times_has_one_moment_from_which_it_is_known(store, monkeypatch):
    from feature_store import store as module

    monkeypatch.setattr(module, "BATCH_POINTS", 10)
    frame = wide(a=np.arange(30.0), v=[[i] for i in range(30)])
    assert store.write_frame(frame) == 60
    assert store.write_frame(frame) == 0
    assert len({row[6] for row in rows(store)}) == 1
    assert store.write_frame(frame.assign(a=lambda f: f["a"].where(f["a"] != 7, 70))) == 1


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": ["1", "2"]}, "feature 'a' is new and holds text that looks like numbers: '1'"),
        ({"a": [1.0, math.inf]}, "feature 'a' is infinite in row 1"),
        ({"a": [1, 2**60]}, r"beyond 2\*\*53"),
        ({"a": [1.0, "x"]}, "feature 'a' holds texts, got 1.0 for AAPL"),
        ({"a": [[1, math.nan], [2]]}, "row 0 cannot be kept as JSON"),
        ({"a": [at(0), at(1)]}, "holds timestamp.*not numbers"),
    ],
)
def test_what_is_no_value_is_refused(store, columns, message):
    with pytest.raises(InvalidValue, match=message):
        store.write_frame(wide(**columns))


def test_what_is_no_value_is_refused_one_by_one(store):
    for value in ("1.0", None, math.inf, 2**60, {"a": math.nan}, object()):
        with pytest.raises(InvalidValue):
            store.write_features("AAPL", at(0), {"a": value})


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"event_time": [at(0)], "a": [1.0]}), "no column 'entity_key'"),
        (wide(a=[1]).drop(columns="a"), "no feature column"),
        (wide(a=[1.0]).assign(entity_key=[1.1]), r"double \(such as 1.1\), not text"),
        (wide(a=[1.0]).assign(entity_key=[None]), "entity_key"),
        (wide(a=[1.0]).assign(entity_key=[""]), "empty"),
        (wide(a=[1.0]).assign(entity_key=["a\x00b"]), "NUL"),
        (42, "cannot read a int"),
        ("/no/such/file.parquet", "no file or directory"),
    ],
)
def test_a_frame_that_is_not_understood_is_refused(store, frame, message):
    with pytest.raises(InvalidFrame, match=message):
        store.write_frame(frame)


def test_an_empty_frame_writes_nothing(store):
    assert store.write_frame(wide(a=[1.0]).iloc[:0]) == 0
    assert store.write_frame(iter([])) == 0
    assert store.write_features("AAPL", at(0), {}) == 0


@pytest.mark.slow
def test_ten_thousand_features_are_written_and_read(store):
    names = [f"f{i:05d}" for i in range(10_000)]
    frame = pd.DataFrame([np.arange(10_000.0)], columns=names)
    frame.insert(0, "entity_key", "AAPL")
    frame.insert(1, "event_time", at(0))
    assert store.write_frame(frame, availability_lag=timedelta(0)) == 10_000
    assert len(store.get_latest("AAPL")) == 10_000
    back = store.training_frame([("AAPL", at(1))], names)
    assert back[names].iloc[0].tolist() == list(range(10_000))


def test_a_row_of_the_database_can_hold_no_infinite_time_and_no_missing_value(store):
    store.write_features("AAPL", at(0), {"a": 1.0})
    for values in ("1, 1, 'infinity', now(), 1, NULL", "1, 1, now(), now(), NULL, NULL"):
        with store.connection() as conn, pytest.raises(psycopg.errors.CheckViolation):
            conn.execute(f"INSERT INTO mlops.feature_points VALUES ({values})")


def run_together(*calls) -> list:
    """Run calls in threads that start together; return their results, or the errors."""
    barrier, results = threading.Barrier(len(calls)), [None] * len(calls)

    def run(i: int) -> None:
        barrier.wait()
        try:
            results[i] = calls[i]()
        except Exception as exc:
            results[i] = exc

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_writers_of_the_same_rows_write_them_once(store):
    frame = wide(**{f"f{i}": np.arange(50.0) for i in range(5)})
    together = run_together(
        *[lambda: store.write_frame(frame, availability_lag=timedelta(0))] * 4,
        *[lambda: store.write_frame(frame.iloc[::-1], availability_lag=timedelta(0))] * 2,
    )
    assert sorted(together) == [0, 0, 0, 0, 0, 250]
    assert len(rows(store)) == 250


def test_writers_of_the_same_value_now_write_it_once(store):
    together = run_together(*[lambda: store.write_features("AAPL", at(0), {"a": 1, "b": 2})] * 6)
    assert sorted(together) == [0, 0, 0, 0, 0, 2]


def test_of_writers_that_contradict_each_other_one_wins_and_the_others_say_so(store):
    def write(value: float):
        return lambda: store.write_frame(wide(a=[value] * 30), availability_lag=timedelta(0))

    together = run_together(*[write(float(i)) for i in range(4)])
    assert sorted(str(r) for r in together if isinstance(r, int)) == ["30"]
    assert sum(isinstance(result, ConflictingValues) for result in together) == 3
    assert len({row[4] for row in rows(store)}) == 1


def test_revisions_of_writers_that_meet_are_in_the_order_of_their_commits(store):
    run_together(*[lambda v=v: store.write_features("AAPL", at(0), {"a": v}) for v in range(8)])
    with db.connect(store.uri) as conn:
        order = conn.execute(
            "SELECT ingest_time, write_id FROM mlops.feature_points ORDER BY write_id"
        ).fetchall()
    assert len({ingest_time for ingest_time, _ in order}) == 8
    assert order == sorted(order)


def test_a_view_of_another_kind_is_refused(store):
    with pytest.raises(DefinitionError, match="view is 5; give a FeatureView, or the name"):
        store.write_frame(wide(a=[1.0]), view=5)
    with pytest.raises(DefinitionError, match="view is 5"):
        store.write_features("AAPL", at(0), {"a": 1.0}, view=5)
