"""The commands snapshot, verify, export and health, as they are typed."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pandas as pd
import pytest

from feature_store import FeatureView, Lake, load_snapshot
from mlflow_timescale.cli import main

UTC = timezone.utc
START = datetime(2024, 1, 8, 21, tzinfo=UTC)


@pytest.fixture
def run(store, capsys):
    """Run a command; its exit code, and what it printed."""
    for day in range(5):
        at = START + timedelta(days=day)
        store.write_features("AAPL", at, {"rsi": 50.0 + day}, ingest_time=at + timedelta(hours=2))

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main(["features", *map(str, arguments), "--uri", store.uri.url])
        captured = capsys.readouterr()
        return done.value.code, captured.out + captured.err

    return run


@pytest.fixture
def spine(tmp_path):
    days = [START + timedelta(days=d, hours=12) for d in range(6)]
    frame = pd.DataFrame({"entity_key": "AAPL", "as_of": days, "label": range(6)})
    frame.to_parquet(tmp_path / "spine.parquet")
    return tmp_path / "spine.parquet"


def test_a_snapshot_is_written_verified_and_built_again(run, spine, tmp_path):
    path = tmp_path / "s"
    code, text = run("snapshot", spine, path, "-f", "rsi", "--max-age", "3d", "--name", "train")
    made = load_snapshot(path)
    assert code == 0
    assert made.fingerprint in text
    assert "6 rows x 1 features" in text
    assert (made.manifest.name, made.manifest.max_age) == ("train", timedelta(days=3))
    code, text = run("verify", path, "--rebuild")
    assert code == 0
    assert "the database gives the same again" in text
    assert made.fingerprint in text


def test_a_snapshot_can_be_taken_at_a_past_watermark(run, store, spine, tmp_path):
    settled = store.watermark()
    store.write_features("AAPL", START, {"rsi": 0.0}, ingest_time=START + timedelta(hours=3))
    run("snapshot", spine, tmp_path / "now", "-f", "rsi", "--json")
    run("snapshot", spine, tmp_path / "then", "-f", "rsi", "--written-by", settled.isoformat())
    first = [load_snapshot(tmp_path / name).to_pandas()["rsi"][0] for name in ("now", "then")]
    assert first == [0.0, 50.0]


def test_a_damaged_snapshot_exits_with_3_and_one_line(run, spine, tmp_path):
    run("snapshot", spine, tmp_path / "s", "-f", "rsi", "--partition", "none")
    victim = min((tmp_path / "s").rglob("*.parquet"))
    victim.write_bytes(b"x")
    code, text = run("verify", tmp_path / "s")
    assert code == 3
    assert text.startswith("mismatch:")
    assert victim.name in text
    assert text.count("\n") == 1


def test_a_database_that_tells_another_story_fails_the_rebuild(run, store, spine, tmp_path):
    run("snapshot", spine, tmp_path / "s", "-f", "rsi")
    with store.connection() as conn:
        conn.execute("UPDATE mlops.feature_points SET value_double = 7")
    code, text = run("verify", tmp_path / "s", "--rebuild")
    assert code == 3
    assert "its history was changed" in text


def test_a_lake_is_exported_in_increments_and_verified(run, store, tmp_path):
    code, text = run("export", tmp_path / "lake", "--buckets", 2)
    assert code == 0
    assert "5 new points, 5 rows appended, 0 overtaken" in text
    at = START + timedelta(days=9)
    store.write_features("AAPL", at, {"rsi": 1.0}, ingest_time=at)
    code, text = run("export", tmp_path / "lake", "--json")
    assert json.loads(text)["appended"] == 1
    assert Lake(tmp_path / "lake").rows == 6
    code, text = run("verify", tmp_path / "lake", "--json")
    assert (code, json.loads(text)["rows"]) == (0, 6)


def test_health_exits_with_3_when_something_is_stale(run, store):
    store.register(FeatureView("technical", ["rsi"], max_staleness=timedelta(days=1)))
    fresh, late = "2024-01-13T12:00Z", "2024-01-17T22:00Z"  # a Saturday, and two sessions later
    code, text = run("health", "--calendar", "XNYS", "--as-of", fresh)
    assert code == 0
    assert "rsi" in text
    code, text = run("health", "--calendar", "XNYS", "--as-of", late)
    assert code == 3
    assert "stale: rsi of AAPL is 2d 1h old (allowed: 1d)" in text
    assert "gap: rsi of AAPL: 2024-01-16, 2024-01-17" in text
    code, text = run("health", "--calendar", "XNYS", "--as-of", late, "--json", "-f", "rsi")
    assert (code, json.loads(text)["is_stale"]) == (3, True)


def test_an_unknown_feature_is_an_error_and_not_a_clean_bill_of_health(run):
    code, text = run("health", "-f", "rsj")
    assert code == 1
    assert "did you mean rsi" in text


def test_a_time_without_a_zone_is_refused(run):
    code, text = run("health", "--as-of", "2024-01-13T12:00")
    assert code == 2
    assert "no time zone" in text
