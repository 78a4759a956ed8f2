"""Snapshots: immutable, verifiable, and the same again from the database at the same watermark."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from datetime import datetime, timedelta, timezone

import mlflow
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest

from feature_store import FeatureView
from feature_store.errors import InvalidTime
from feature_store.files import snapshots
from feature_store.files.fingerprint import fingerprint
from feature_store.files.manifest import SnapshotError
from feature_store.files.snapshots import SnapshotExists, load_snapshot, rebuild
from feature_store.files.storage import CorruptFile, Folder, StorageError
from feature_store.read.query import PointInTimeQuery

UTC = timezone.utc
START = datetime(2024, 1, 1, tzinfo=UTC)
FEATURES = ["momentum", "rsi"]


@pytest.fixture
def store(store):
    store.write_frame(prices(), ingest_time="ingest_time")
    return store


def prices() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    days = pd.date_range(START, periods=80, freq="D")
    frame = pd.DataFrame(
        [(f"E{e}", day) for e in range(4) for day in days], columns=["entity_key", "event_time"]
    )
    frame["ingest_time"] = frame["event_time"] + pd.Timedelta(hours=4)
    frame["momentum"] = rng.normal(size=len(frame))
    frame["rsi"] = np.where(rng.random(len(frame)) < 0.1, np.nan, rng.uniform(0, 100, len(frame)))
    return frame


def spine() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    moments = (START + pd.to_timedelta(rng.integers(0, 90 * 24, 200), "h")).as_unit("us")
    frame = pd.DataFrame({"entity_key": [f"E{i % 5}" for i in range(200)], "as_of": moments})
    return frame.assign(label=rng.normal(size=200))


def take(store, path, **options):
    request = {
        k: options.pop(k) for k in ("max_age", "written_by", "feature_version") if k in options
    }
    given = options.pop("spine", spine())
    return snapshots.write_snapshot(
        store.database, given, PointInTimeQuery(FEATURES, **request), path, **options
    )


def test_a_snapshot_holds_the_training_frame(store, tmp_path):
    snapshot = take(store, tmp_path / "s")
    expected = store.training_frame(spine(), FEATURES)
    assert fingerprint(snapshot.to_pandas()) == snapshot.fingerprint == fingerprint(expected)
    assert fingerprint(snapshot.to_polars()) == snapshot.fingerprint
    pd.testing.assert_frame_equal(
        snapshot.to_pandas(), expected.sort_values("as_of", kind="stable").reset_index(drop=True)
    )
    assert load_snapshot(tmp_path / "s") == snapshot


def test_the_manifest_says_what_it_is(store, tmp_path):
    store.register(FeatureView("technical", {"momentum": "number"}, owner="alpha",
                               max_staleness=timedelta(days=3)))  # fmt: skip
    made = take(store, tmp_path / "s", max_age=timedelta(days=30)).manifest
    plain = json.loads((tmp_path / "s" / "manifest.json").read_text())
    assert made.rows == plain["rows"] == 200 == sum(file.rows for file in made.files)
    assert made.spine_hash == fingerprint(spine())
    assert made.max_age == timedelta(days=30)
    assert plain["features"][0]["definition"]["owner"] == "alpha"
    assert plain["features"][0]["definition"]["max_staleness"] == 3 * 86_400
    assert plain["features"][1]["definition"] is None
    assert made.features[0].versions == [1]
    assert made.features[1].undefined > 0 < made.features[1].nulls
    assert {"python", "pyarrow", "pandas", "numpy", "mlflow-timescale"} <= set(made.libraries)
    assert all(len(file.sha256) == 64 for file in made.files)


def test_a_password_never_gets_into_the_manifest(store, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "uri", type(store.uri).parse("postgresql://u:secret@h/d"))
    assert "secret" not in take(store, tmp_path / "s").manifest.to_json()


def test_files_are_partitioned_by_time_and_any_engine_reads_them(store, tmp_path):
    snapshot = take(store, tmp_path / "s")
    names = sorted(path.parent.name for path in (tmp_path / "s").rglob("*.parquet"))
    assert names == ["as_of_month=2024-01", "as_of_month=2024-02", "as_of_month=2024-03"]
    data = tmp_path / "s" / "data"
    table = ds.dataset(data, partitioning="hive").to_table().drop_columns("as_of_month")
    assert fingerprint(table) == snapshot.fingerprint
    polars = pl.read_parquet(data / "**/*.parquet", hive_partitioning=False)
    assert fingerprint(polars) == snapshot.fingerprint


@pytest.mark.parametrize("partition", ["year", "day", None])
def test_the_partitioning_makes_no_difference_to_the_fingerprint(store, tmp_path, partition):
    monthly = take(store, tmp_path / "a")
    other = take(store, tmp_path / "b", partition=partition)
    assert other.fingerprint == monthly.fingerprint
    assert [f.sha256 for f in other.manifest.files] != [f.sha256 for f in monthly.manifest.files]
    assert load_snapshot(tmp_path / "b") == other


def test_an_unknown_partitioning_is_refused(store, tmp_path):
    with pytest.raises(SnapshotError, match="'week' is none of year, month, day"):
        take(store, tmp_path / "s", partition="week")
    assert list(tmp_path.iterdir()) == []


def test_the_order_and_library_of_the_spine_make_no_difference(store, tmp_path):
    first = take(store, tmp_path / "a")
    shuffled = take(store, tmp_path / "b", spine=pl.from_pandas(spine().sample(frac=1)))
    assert shuffled.fingerprint == first.fingerprint
    assert shuffled.manifest.spine_hash == first.manifest.spine_hash


def test_a_spine_without_rows_is_kept_and_one_with_missing_times_refused(store, tmp_path):
    empty = take(store, tmp_path / "a", spine=spine().iloc[:0])
    assert load_snapshot(tmp_path / "a").to_pandas().columns.tolist() == [*spine(), *FEATURES]
    holes = spine()
    holes.loc[[3, 7], "as_of"] = pd.NaT
    assert empty.manifest.rows == 0
    with pytest.raises(InvalidTime, match="as_of is missing in 2 rows: 3, 7"):
        take(store, tmp_path / "b", spine=holes)


def test_an_older_snapshot_with_missing_times_can_be_rebuilt(store, tmp_path):
    holes = spine()
    holes.loc[[3, 7], "as_of"] = pd.NaT
    query = PointInTimeQuery(FEATURES, recorded={})  # what `rebuild` allows
    snapshot = snapshots.write_snapshot(store.database, holes, query, tmp_path / "b")
    assert load_snapshot(tmp_path / "b").to_pandas()["as_of"].isna().sum() == 2
    assert rebuild(store.database, snapshot) == snapshot.fingerprint


def test_structures_come_back_as_objects(store, tmp_path):
    curve = {"tenors": [1, 2.5], "kind": "par"}
    at = START + timedelta(days=3)
    store.write_features("E0", at, {"curve": curve}, ingest_time=at)
    frame = pd.DataFrame({"entity_key": ["E0", "E0"], "as_of": [START, START + timedelta(days=9)]})
    snapshot = snapshots.write_snapshot(
        store.database, frame, PointInTimeQuery(["curve", "rsi"]), tmp_path / "s"
    )
    assert load_snapshot(tmp_path / "s").to_pandas()["curve"].tolist() == [None, curve]
    assert snapshot.fingerprint == fingerprint(store.training_frame(frame, ["curve", "rsi"]))
    assert rebuild(store.database, snapshot) == snapshot.fingerprint


# Rebuilding


def test_later_revisions_do_not_change_a_rebuild(store, tmp_path):
    snapshot = take(store, tmp_path / "s")
    late = prices().assign(momentum=9.0)
    late["ingest_time"] = late["event_time"] + pd.Timedelta(hours=5)  # claims to be long known
    store.write_frame(late[["entity_key", "event_time", "ingest_time", "momentum"]],
                      ingest_time="ingest_time")  # fmt: skip
    store.write_frame(prices().assign(rsi=1.0), ingest_time="ingest_time", restate=True)
    assert take(store, tmp_path / "now").fingerprint != snapshot.fingerprint
    assert rebuild(store.database, snapshot) == snapshot.fingerprint
    again = take(store, tmp_path / "again", written_by=snapshot.manifest.written_by)
    assert again.fingerprint == snapshot.fingerprint


def test_a_new_version_that_is_written_later_does_not_change_a_rebuild(store, tmp_path):
    snapshot = take(store, tmp_path / "s")
    store.write_frame(prices(), ingest_time="ingest_time", feature_version=2)
    assert take(store, tmp_path / "now").manifest.features[0].versions == [2]
    assert rebuild(store.database, snapshot) == snapshot.fingerprint


def test_a_transaction_in_flight_does_not_change_a_snapshot(store, tmp_path):
    """It is stamped before the snapshot and commits later; the watermark must stay before it."""
    taken = []

    def stream():
        late = prices().assign(momentum=77.0)[["entity_key", "event_time", "momentum"]]
        late["ingest_time"] = late["event_time"] + pd.Timedelta(hours=5)
        yield late[:100]
        yield late[100:200]
        taken.append(take(store, tmp_path / "s"))  # both are stored, neither is committed
        yield late[200:]

    store.write_frame(stream(), ingest_time="ingest_time")
    assert (taken[0].to_pandas()["momentum"] != 77.0).all()
    assert (take(store, tmp_path / "after").to_pandas()["momentum"] == 77.0).any()
    assert rebuild(store.database, taken[0]) == taken[0].fingerprint


def test_a_watermark_that_is_not_settled_is_refused(store, tmp_path):
    with pytest.raises(InvalidTime, match="not settled"):
        take(store, tmp_path / "s", written_by=datetime.now(UTC) + timedelta(minutes=1))


# Damage


def test_a_damaged_file_is_named(store, tmp_path):
    take(store, tmp_path / "s")
    victim = sorted((tmp_path / "s").rglob("*.parquet"))[1]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(CorruptFile, match=f"{victim.name} has SHA-256"):
        load_snapshot(tmp_path / "s")
    with pytest.raises(CorruptFile, match=str(victim.name)):
        load_snapshot(tmp_path / "s", verify=False).to_pandas()


def test_a_missing_file_is_named(store, tmp_path):
    take(store, tmp_path / "s")
    victim = sorted((tmp_path / "s").rglob("*.parquet"))[0]
    victim.unlink()
    with pytest.raises(CorruptFile, match=f"{victim.name} is missing"):
        load_snapshot(tmp_path / "s")


def test_a_file_that_does_not_belong_is_named(store, tmp_path):
    take(store, tmp_path / "s")
    (tmp_path / "s" / "data" / "more.parquet").write_bytes(b"")
    with pytest.raises(CorruptFile, match=r"data/more\.parquet does not belong"):
        load_snapshot(tmp_path / "s")


def test_files_exchanged_together_with_their_hashes_still_fail_the_fingerprint(store, tmp_path):
    take(store, tmp_path / "a")
    take(store, tmp_path / "b", spine=spine().assign(label=0.0))
    forged = json.loads((tmp_path / "b" / "manifest.json").read_text())
    forged["fingerprint"] = json.loads((tmp_path / "a" / "manifest.json").read_text())[
        "fingerprint"
    ]
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(forged))
    with pytest.raises(SnapshotError, match="have fingerprint"):
        load_snapshot(tmp_path / "b")


def test_a_damaged_manifest_is_an_error_that_says_so(store, tmp_path):
    take(store, tmp_path / "s")
    manifest = tmp_path / "s" / "manifest.json"
    text = manifest.read_text()
    for broken in (text[:100], text.replace('"rows"', '"rwos"'), "[]"):
        manifest.write_text(broken)
        with pytest.raises(SnapshotError, match="damaged"):
            load_snapshot(tmp_path / "s")
    manifest.write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(SnapshotError, match="upgrade"):
        load_snapshot(tmp_path / "s")


def test_what_is_no_snapshot_is_an_error_that_says_so(tmp_path):
    with pytest.raises(SnapshotError, match="is no snapshot"):
        load_snapshot(tmp_path)
    with pytest.raises(StorageError, match="cannot open"):
        load_snapshot("nosuchprotocol://bucket/x")


# Publishing


def test_a_snapshot_is_never_overwritten(store, tmp_path):
    first = take(store, tmp_path / "s")
    with pytest.raises(SnapshotExists, match="not empty"):
        take(store, tmp_path / "s")
    assert load_snapshot(tmp_path / "s") == first
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(SnapshotExists):
        take(store, tmp_path / "other")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "s"]


@pytest.mark.parametrize("url", ["{tmp}/s", "memory://{name}/s"])
def test_of_two_writers_of_one_path_one_wins_and_the_other_leaves_nothing(
    store, tmp_path, url, monkeypatch
):
    url = url.format(tmp=tmp_path, name=tmp_path.name)
    publish = snapshots._publish
    winners = []

    def overtaken(*arguments):
        monkeypatch.setattr(snapshots, "_publish", publish)
        winners.append(take(store, url, name="winner") if not url.startswith("memory") else race())
        return publish(*arguments)

    def race():
        with pytest.MonkeyPatch.context() as patch:  # it looked before the first had written
            patch.setattr(Folder, "is_empty", lambda folder: True)
            return take(store, url, name="winner")

    monkeypatch.setattr(snapshots, "_publish", overtaken)
    with pytest.raises(SnapshotExists, match="in the meantime"):
        take(store, url)
    assert load_snapshot(url) == winners[0]
    assert [p.name for p in tmp_path.iterdir()] == (["s"] if "memory" not in url else [])


def test_any_fsspec_url_will_do(store, tmp_path):
    url = f"memory://{tmp_path.name}/deep/s"
    snapshot = take(store, url)
    assert load_snapshot(url) == snapshot
    assert rebuild(store.database, load_snapshot(url)) == snapshot.fingerprint
    with pytest.raises(SnapshotExists):
        take(store, url)


def test_a_failed_writer_leaves_nothing(store, tmp_path, monkeypatch):
    write = Folder.write_parquet
    for url in (tmp_path / "s", f"memory://{tmp_path.name}/s"):
        count = iter(range(10))

        def full(folder, *arguments, count=count):
            if next(count) == 2:
                raise OSError(28, "No space left on device")
            return write(folder, *arguments)

        monkeypatch.setattr(Folder, "write_parquet", full)
        with pytest.raises(OSError, match="No space"):
            take(store, url)
        assert Folder(url).is_empty()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_nothing_that_loads(store, tmp_path):
    script = textwrap.dedent(
        f"""
        import os, signal, sys
        import pandas as pd
        from feature_store.files import snapshots
        from feature_store.read.query import PointInTimeQuery
        from feature_store.store import FeatureStore
        from feature_store.files.storage import Folder

        write = Folder.write
        def killed(folder, path, data):
            write(folder, path, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        Folder.write = killed
        spine = pd.DataFrame({{"entity_key": ["E0"], "as_of": [pd.Timestamp("2024-02-01T00Z")]}})
        with FeatureStore({store.uri.url!r}) as store:
            snapshots.write_snapshot(store, spine, PointInTimeQuery(["rsi"]), sys.argv[1])
        """
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "s"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "s").exists()
    with pytest.raises(SnapshotError):
        load_snapshot(tmp_path / "s")
    assert load_snapshot(take(store, tmp_path / "s").url)


# MLflow


@pytest.fixture
def tracked(tmp_path):
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield
    mlflow.set_tracking_uri(None)


def test_a_run_shows_name_digest_schema_and_source(store, tmp_path, tracked):
    snapshot = take(store, tmp_path / "momentum-2024")
    with mlflow.start_run() as run:
        mlflow.log_input(snapshot.to_mlflow(targets="label"), context="training")
    logged = mlflow.get_run(run.info.run_id).inputs.dataset_inputs[0].dataset
    assert (logged.name, logged.digest) == ("momentum-2024", snapshot.fingerprint[:32])
    columns = json.loads(logged.schema)["mlflow_colspec"]
    assert {c["name"]: c["type"] for c in columns} == {
        "entity_key": "string", "as_of": "datetime", "label": "double",
        "momentum": "double", "rsi": "double",
    }  # fmt: skip
    assert json.loads(logged.profile)["num_rows"] == 200
    source = mlflow.data.get_source(logged)
    assert source.load() == snapshot


def test_a_misspelt_target_is_refused_with_the_columns(store, tmp_path):
    snapshot = take(store, tmp_path / "a")
    with pytest.raises(ValueError, match=r"no column 'returns' for the targets; it has .*label"):
        snapshot.to_mlflow(targets="returns")


def test_a_snapshot_that_was_exchanged_after_the_run_is_not_loaded(store, tmp_path, tracked):
    dataset = take(store, tmp_path / "a").to_mlflow()
    take(store, tmp_path / "b", spine=spine().iloc[1:])
    (tmp_path / "a").rename(tmp_path / "c")
    (tmp_path / "b").rename(tmp_path / "a")
    with pytest.raises(SnapshotError, match="not the snapshot that the run used"):
        dataset.source.load()


def test_a_relative_path_means_the_same_from_another_directory(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = take(store, "s").to_mlflow()
    monkeypatch.chdir("/")
    assert dataset.source.load().fingerprint == dataset.snapshot.fingerprint


def test_a_dataset_feeds_an_evaluation(store, tmp_path):
    dataset = take(store, tmp_path / "s").to_mlflow(targets="label")
    pyfunc = dataset.to_pyfunc()
    assert pyfunc.inputs[0].columns.tolist() == FEATURES
    assert pyfunc.outputs[0].name == "label"
    evaluation = dataset.to_evaluation_dataset()
    assert evaluation.digest == dataset.digest
    assert evaluation.features_data.columns.tolist() == FEATURES


@pytest.mark.slow
def test_importing_mlflow_does_not_load_the_feature_store():
    script = "import sys, mlflow; print([m for m in sys.modules if m.startswith('feature_store')])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
