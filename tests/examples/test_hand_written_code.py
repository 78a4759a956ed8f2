"""The calls of hand-written MLOps code, as teams have it, on our classes.

Only the database's URI is changed, and datetimes have a time zone. docs/differences.md lists where
the results differ on purpose; the second half of this file holds that table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from drift import (
    AlertConfig,
    DriftMetrics,
    DriftMonitor,
    calculate_ic,
    calculate_psi,
    calculate_sharpe,
)
from feature_store import FeatureStore, FeatureValue, InvalidTime
from mlflow_timescale import ModelRegistry
from mlflow_timescale.common.errors import NotASession
from mlflow_timescale.db.uri import DatabaseURI

ROOT = Path(__file__).parents[2]
UTC = timezone.utc
NewDatabase = Callable[..., AbstractContextManager[DatabaseURI]]


@pytest.fixture(scope="module")
def uri(new_database: NewDatabase) -> Iterator[str]:
    with new_database() as database:
        yield database.url


def test_the_feature_store(uri: str) -> None:
    store = FeatureStore(conninfo=uri, producer="momentum_job_v2")
    written = store.write_features(
        entity_key="AAPL.NASDAQ",
        timestamp=datetime(2024, 1, 15, 16, 0, tzinfo=UTC),
        features={
            "momentum_5d": 0.035,
            "rsi_14": 62.5,
            "volume_ratio": 1.15,
        },
    )
    assert written == 3
    latest = store.get_latest("AAPL.NASDAQ", ["momentum_5d", "rsi_14"])
    assert latest["rsi_14"].value == 62.5
    training_dates = [
        ("AAPL.NASDAQ", datetime(2024, 1, 10, 9, 30, tzinfo=UTC)),
        ("AAPL.NASDAQ", datetime(2024, 1, 11, 9, 30, tzinfo=UTC)),
        ("MSFT.NASDAQ", datetime(2024, 1, 10, 9, 30, tzinfo=UTC)),
    ]
    assert store.get_point_in_time(training_dates, ["momentum_5d", "rsi_14"]) == []
    backfill = datetime(2024, 1, 9, 16, 0, tzinfo=UTC)
    store.write_features(
        "AAPL.NASDAQ", backfill, {"rsi_14": 55}, availability_lag=timedelta(hours=4)
    )
    features = store.get_point_in_time(training_dates, ["momentum_5d", "rsi_14"])
    assert [(value.feature_name, value.value) for value in features] == [("rsi_14", 55.0)] * 2
    store.close()


def test_a_feature_value_is_made_by_hand() -> None:
    moment = datetime(2024, 1, 15, 16, tzinfo=UTC)
    value = FeatureValue(
        entity_key="AAPL.NASDAQ",
        feature_name="rsi_14",
        feature_version=1,
        event_time=moment,
        value=62.5,
    )
    assert value == FeatureValue("AAPL.NASDAQ", "rsi_14", 1, moment, 62.5)
    assert value.as_of is None


def test_the_registry(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    for name in ("momentum_xgb_v3.pkl", "momentum_xgb_v3_config.json"):
        Path("models", name).write_text(name)
    registry = ModelRegistry(dsn=uri)
    model_id = registry.register_model(
        name="momentum_xgb",
        strategy_type="momentum",
        params={
            "n_estimators": 100,
            "max_depth": 5,
            "learning_rate": 0.1,
            "features": ["ret_5d", "ret_20d", "vol_20d", "rsi_14"],
        },
        description="XGBoost momentum model with RSI features",
    )
    registry.log_metrics(
        model_id,
        {"sharpe_ratio": 1.65, "total_return": 0.28, "max_drawdown": 0.12, "ic": 0.042},
        dataset_type="backtest",
    )
    registry.log_metrics(model_id, {"sharpe_ratio": 1.35, "ic": 0.035}, dataset_type="test")
    registry.log_artifact(model_id, "models/momentum_xgb_v3.pkl", "weights")
    registry.log_artifact(model_id, "models/momentum_xgb_v3_config.json", "config")
    best = registry.get_best_model("momentum", "sharpe_ratio", "test")
    assert f"{best.model.name} v{best.model.version}" == "momentum_xgb v1"
    assert best.metrics.get("sharpe_ratio_test", "N/A") == 1.35
    assert best.metrics["ic_backtest"] == 0.042


def test_the_numbers() -> None:
    signals, returns = np.random.default_rng(1).normal(size=(2, 500))
    assert -1 <= calculate_ic(signals, returns) <= 1
    assert calculate_psi(signals, signals, bins=10) == 0.0
    assert np.isfinite(calculate_sharpe(returns, periods_per_year=252))
    assert AlertConfig(ic_warning=0.02, psi_critical=0.25).sharpe_critical == 0.0
    metrics = DriftMetrics(date=date(2024, 1, 16), strategy_id="default")
    assert (metrics.ic, metrics.ic_alert, metrics.sharpe_20d) == (None, False, None)


def daily_mlops_job(
    feature_store: FeatureStore,
    model_registry: ModelRegistry,
    drift_monitor: DriftMonitor,
    today: date,
) -> list[str]:
    """The daily script; it returns its lines instead of printing them."""
    lines = []
    for name, fv in feature_store.get_latest("AAPL.NASDAQ").items():
        age_hours = (datetime.now(UTC) - fv.event_time).total_seconds() / 3600
        lines.append(f"{'WARNING' if age_hours > 24 else 'OK'}: {name}")
    current_model = model_registry.get_model("momentum_xgb")
    if current_model:
        lines.append(f"{current_model.name} v{current_model.version} {current_model.created_at}")
    drift_metrics = drift_monitor.run_daily(today)
    lines.append(f"IC: {drift_metrics.ic}, Sharpe (20d): {drift_metrics.sharpe_20d}")
    if drift_metrics.ic_alert or drift_metrics.sharpe_alert:
        lines.append("[ACTION REQUIRED]")
    return lines


def test_the_daily_job(new_database: NewDatabase) -> None:
    session, names = date(2024, 1, 16), [f"N{i:02}" for i in range(30)]
    with new_database() as database, FeatureStore(conninfo=database.url) as store:
        registry = ModelRegistry(dsn=database.url)
        monitor = DriftMonitor(dsn=database.url, strategy_id="default", tracking_uri=False)
        store.write_features("AAPL.NASDAQ", datetime(2024, 1, 15, 16, tzinfo=UTC), {"rsi_14": 62.5})
        registry.register_model("momentum_xgb")
        rows = {"entity_key": names, "session": [session] * 30}
        monitor.record_predictions({**rows, "signal": list(range(30))})
        monitor.record_returns({**rows, "value": [i / 1000 for i in range(30)]})
        lines = daily_mlops_job(store, registry, monitor, session)
    assert lines[0] == "WARNING: rsi_14"
    assert lines[1].startswith("momentum_xgb v1")
    assert lines[2:] == ["IC: 1.0, Sharpe (20d): None"]


# What docs/differences.md states, a test for each row, in its order.


@pytest.fixture(scope="module")
def store(uri: str) -> Iterator[FeatureStore]:
    with FeatureStore(uri, producer="tests") as opened:
        yield opened


def test_naive_datetimes_are_refused(store: FeatureStore) -> None:
    with pytest.raises(InvalidTime, match="time zone"):
        store.write_features("X", datetime(2024, 1, 15, 16, 0), {"x": 1.0})  # noqa: DTZ001


def test_get_latest_gives_the_newest_version(store: FeatureStore) -> None:
    close = datetime(2024, 1, 12, 21, tzinfo=UTC)
    for version in (1, 2):
        store.write_features("V", close, {"v": float(version)}, feature_version=version)
    assert store.get_latest("V")["v"].feature_version == 2
    assert store.get_latest("V", feature_version=1)["v"].feature_version == 1


def test_a_value_that_changes_is_a_revision(store: FeatureStore) -> None:
    close = datetime(2024, 1, 12, 21, tzinfo=UTC)
    counts = [store.write_features("R", close, {"r": value}) for value in (1.0, 1.0, 2.0)]
    assert counts == [1, 0, 1]
    assert store.get_latest("R")["r"].value == 2.0


def test_a_pair_without_a_value_is_absent(store: FeatureStore) -> None:
    close = datetime(2024, 1, 12, 21, tzinfo=UTC)
    store.write_features("P", close, {"p": 1.0}, ingest_time=close)
    pairs = [("P", close), ("P", close - timedelta(days=1)), ("Q", close)]
    assert [value.entity_key for value in store.get_point_in_time(pairs, ["p"])] == ["P"]


def test_an_infinity_is_refused_and_nan_is_a_value(store: FeatureStore) -> None:
    close = datetime(2024, 1, 12, 21, tzinfo=UTC)
    with pytest.raises(ValueError, match="infinite"):
        store.write_features("I", close, {"i": float("inf")})
    assert store.write_features("I", close, {"i": float("nan")}) == 1


def test_psi_uses_deciles_and_counts_the_missing() -> None:
    sample = np.random.default_rng(0).lognormal(size=5000)
    equal_widths = np.histogram(sample, bins=10)[0] / 5000
    assert equal_widths[0] > 0.8  # ten equal widths see one bucket; deciles see ten
    assert calculate_psi(sample, sample * 1.5) > 0.1
    assert calculate_psi([1.0, 2.0] * 50, [1.0, np.nan] * 50) > 0.25


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_values_have_no_ic_and_no_sharpe(n: int) -> None:
    assert np.isnan(calculate_ic(np.arange(n), np.arange(n)))
    assert np.isnan(calculate_sharpe(np.full(5, 0.01)))


def test_a_missing_file_is_an_error(uri: str) -> None:
    registry = ModelRegistry(uri)
    model_id = registry.register_model("files")
    with pytest.raises(FileNotFoundError, match="no checksum to record"):
        registry.log_artifact(model_id, "models/nothing.pkl", "weights")


def test_a_date_without_a_session_is_an_error(uri: str) -> None:
    monitor = DriftMonitor(uri, "closed", tracking_uri=False)
    monitor.configure()
    with pytest.raises(NotASession):
        monitor.run_daily(date(2024, 1, 15))  # Martin Luther King Day


def test_every_row_of_the_table_has_a_test() -> None:
    page = (ROOT / "docs/differences.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?!hand-written)[^-]", page, re.MULTILINE)
    assert len(rows) == 13
