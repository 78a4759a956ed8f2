"""`ModelRegistry`: the seed's calls on MLflow's entities."""

from __future__ import annotations

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from uuid import UUID

import mlflow
import psycopg
import pytest
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException

import mlflow_timescale
from mlflow_timescale import ModelRegistry
from mlflow_timescale.db.uri import DatabaseURI

NAME = "momentum_xgb"
PARAMS = {"n_estimators": 100, "learning_rate": 0.1, "features": ["ret_5d", "rsi_14"]}


@pytest.fixture
def registry(database: DatabaseURI) -> ModelRegistry:
    return ModelRegistry(database)


def test_a_registered_model_is_there_for_every_mlflow_client(registry: ModelRegistry) -> None:
    model_id = registry.register_model(
        NAME,
        "momentum",
        PARAMS,
        "XGBoost with RSI features",
        dataset_start=datetime(2015, 1, 1, tzinfo=timezone.utc),
        dataset_end=datetime(2019, 12, 31, tzinfo=timezone.utc),
    )
    version = registry.client.get_model_version(NAME, "1")
    assert version.description == "XGBoost with RSI features"
    assert version.tags == {"strategy_type": "momentum"}
    run = registry.client.get_run(version.run_id)
    assert UUID(run.info.run_id) == model_id
    assert run.data.params == {
        "n_estimators": "100",
        "learning_rate": "0.1",
        "features": '["ret_5d", "rsi_14"]',
    }
    assert run.data.tags["dataset_start"] == "2015-01-01T00:00:00+00:00"
    assert run.info.status == "FINISHED"


def test_get_model_returns_the_newest_unless_a_version_is_given(registry: ModelRegistry) -> None:
    first, second = (registry.register_model(NAME, "momentum") for _ in range(2))
    assert (registry.get_model(NAME).version, registry.get_model(NAME).model_id) == (2, second)
    assert registry.get_model(NAME, 1).model_id == first
    assert registry.get_model(NAME, 3) is None
    assert registry.get_model("nothing") is None


def test_a_version_can_be_given_and_the_next_one_counts_on_from_it(
    registry: ModelRegistry,
) -> None:
    registry.register_model(NAME, version=7)
    registry.register_model(NAME)
    assert registry.get_model(NAME).version == 8
    with pytest.raises(MlflowException, match="version 7 of momentum_xgb exists"):
        registry.register_model(NAME, version=7)
    with pytest.raises(ValueError, match="not positive"):
        registry.register_model(NAME, version=0)


def test_versions_registered_at_the_same_time_are_distinct(registry: ModelRegistry) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: registry.register_model(NAME), range(16)))
    assert len(set(ids)) == 16
    versions = [registry.client.search_model_versions(f"name='{NAME}'", max_results=100)]
    assert sorted(int(item.version) for item in versions[0]) == list(range(1, 17))


def test_the_best_model_is_by_strategy_metric_and_dataset(registry: ModelRegistry) -> None:
    scores = {"a": 1.2, "b": 1.9, "c": math.nan, "d": math.inf}
    ids = {name: registry.register_model(name, "momentum") for name in scores}
    other = registry.register_model("other", "mean_reversion")
    registry.log_metrics(other, {"sharpe_ratio": 9.0}, "test")
    for name, score in scores.items():
        if name != "d":
            registry.log_metrics(ids[name], {"sharpe_ratio": score}, "test")
    registry.log_metrics(ids["d"], {"sharpe_ratio": 5.0}, "backtest")
    best = registry.get_best_model("momentum", "sharpe_ratio")
    assert (best.model.name, best.metrics) == ("b", {"sharpe_ratio_test": 1.9})
    worst = registry.get_best_model("momentum", "sharpe_ratio", higher_is_better=False)
    assert worst.model.name == "a"
    assert registry.get_best_model("momentum", "sharpe_ratio", "live") is None
    assert registry.get_best_model("carry", "sharpe_ratio") is None


def logged_version(registry: ModelRegistry, name: str, run_id: str) -> str:
    """A version of a logged model, and the model's id."""
    client = registry.client
    experiment = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment, name=name, source_run_id=run_id)
    outputs = [LoggedModelOutput(model.model_id, 0)]
    client.log_outputs(run_id, outputs)
    client.finalize_logged_model(model.model_id, "READY")
    registry.register_model(name, "momentum", source=f"models:/{model.model_id}", run_id=run_id)
    return str(model.model_id)


def test_metrics_of_the_logged_model_count_like_those_of_the_run(registry: ModelRegistry) -> None:
    client = registry.client
    mlflow.set_tracking_uri(registry.uri.url)  # MLflow's registry looks for logged models there
    experiment = client.create_experiment("models")
    training, evaluation = (client.create_run(experiment).info.run_id for _ in range(2))
    first, second = (logged_version(registry, name, training) for name in ("early", "late"))
    client.log_metric(training, "test/ic", 0.09)  # a metric of the run, so of both checkpoints
    client.log_metric(training, "test/ic", 0.03, model_id=first)
    for step, value in enumerate((0.20, 0.05)):
        client.log_metric(evaluation, "test/ic", value, model_id=second, step=step)
    client.log_metric(evaluation, "test/sharpe", math.nan, model_id=second)
    best = registry.get_best_model("momentum", "ic")
    assert (best.model.name, best.metrics["ic_test"]) == ("late", 0.05)
    worst = registry.get_best_model("momentum", "ic", higher_is_better=False)
    assert (worst.model.name, worst.metrics["ic_test"]) == ("early", 0.03)
    assert registry.get_best_model("momentum", "sharpe") is None


def test_the_best_model_is_the_one_that_the_view_shows(
    registry: ModelRegistry, conn: psycopg.Connection
) -> None:
    for number, value in enumerate((0.1, math.inf, -math.inf)):
        registry.log_metrics(registry.register_model(f"m{number}", "carry"), {"ic": value}, "test")
    shown = conn.execute(
        "SELECT name FROM mlops.models ORDER BY (metrics ->> 'test/ic')::float8 DESC"
    ).fetchall()
    assert registry.get_best_model("carry", "ic").model.name == shown[0][0] == "m1"
    assert registry.get_best_model("carry", "ic").metrics == {"ic_test": math.inf}


def test_a_strategy_may_be_a_tag_of_the_version_the_model_or_the_run(
    registry: ModelRegistry,
) -> None:
    client = registry.client
    client.set_tag(registry.register_model("of_run").hex, "strategy_type", "run")
    registry.register_model("of_model")
    client.set_registered_model_tag("of_model", "strategy_type", "model")
    for name in ("of_run", "of_model"):
        registry.log_metrics(f"{name}/1", {"ic": 0.1}, "test")
        best = registry.get_best_model(name.removeprefix("of_"), "ic")
        assert best.model.name == name
        assert best.model == registry.get_model(name)


def test_of_equal_models_the_newest_is_best(registry: ModelRegistry) -> None:
    for _ in range(2):
        registry.log_metrics(registry.register_model(NAME, "momentum"), {"ic": 0.04}, "test")
    assert registry.get_best_model("momentum", "ic").model.version == 2


def test_an_unknown_dataset_type_is_refused(registry: ModelRegistry) -> None:
    model_id = registry.register_model(NAME)
    with pytest.raises(ValueError, match="dataset_type 'tset'"):
        registry.log_metrics(model_id, {"ic": 0.1}, "tset")


def test_an_artifact_is_logged_with_its_checksum_and_type(
    registry: ModelRegistry, tmp_path: Path, conn: psycopg.Connection
) -> None:
    file = tmp_path / "momentum.pkl"
    file.write_bytes(b"weights")
    model_id = registry.register_model(NAME)
    artifact_id = registry.log_artifact(model_id, file, "scaler")
    row = conn.execute(
        "SELECT artifact_id, run_id, artifact_path, artifact_type, checksum, size_bytes "
        "FROM mlops.model_artifacts"
    ).fetchone()
    digest = hashlib.sha256(b"weights").hexdigest()
    assert row == (artifact_id, model_id.hex, "momentum.pkl", "scaler", digest, 7)
    assert Path(registry.download(f"{NAME}/1"), "momentum.pkl").read_bytes() == b"weights"
    with pytest.raises(FileNotFoundError, match="no checksum to record"):
        registry.log_artifact(model_id, tmp_path / "nothing.pkl")


def test_one_checksum_stands_for_all_files_of_a_version(
    registry: ModelRegistry, tmp_path: Path, conn: psycopg.Connection
) -> None:
    model_id = registry.register_model(NAME)
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text(name)
        registry.log_artifact(model_id, tmp_path / name)
    listing = "".join(
        f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in ("a.txt", "b.txt")
    )
    row = conn.execute("SELECT checksum, files, size_bytes FROM mlops.version_checksums").fetchone()
    assert row == (hashlib.sha256(listing.encode()).hexdigest(), 2, 10)


def test_a_model_is_loaded_by_version_and_by_alias(registry: ModelRegistry) -> None:
    class Doubles(mlflow.pyfunc.PythonModel):
        def predict(self, model_input: list[float]) -> list[float]:
            return [2 * value for value in model_input]

    mlflow.set_tracking_uri(registry.uri.url)
    with mlflow.start_run() as run:
        logged = mlflow.pyfunc.log_model(
            name="model", python_model=Doubles(), pip_requirements=["mlflow"]
        )
    registry.register_model(NAME, source=logged.model_uri, run_id=run.info.run_id)
    registry.set_alias(NAME, "champion", 1, reason="first")
    mlflow.set_tracking_uri("sqlite://")
    assert registry.load_model(f"{NAME}/1").predict([1.0]) == [2.0]
    assert registry.load_model(f"{NAME}@champion").predict([2.0]) == [4.0]


def test_rollback_goes_back_one_version_at_a_time(registry: ModelRegistry) -> None:
    for number in (1, 2, 3):
        registry.register_model(NAME)
        registry.set_alias(NAME, "live", number)
    assert registry.rollback(NAME, "live", reason="IC fell") == 2
    assert registry.rollback(NAME, "live") == 1
    with pytest.raises(MlflowException, match="no earlier version"):
        registry.rollback(NAME, "live")
    history = registry.alias_history(NAME, "live")
    assert [state.version for state in history] == [1, 2, 3, 2, 1]
    assert history[3].reason == "IC fell"
    assert registry.version_at(NAME, "live", datetime.now(timezone.utc)) == 1


def test_rollback_passes_over_versions_that_were_deleted(registry: ModelRegistry) -> None:
    for number in (1, 2, 3):
        registry.register_model(NAME)
        registry.set_alias(NAME, "live", number)
    registry.client.delete_model_version(NAME, "2")
    assert registry.rollback(NAME, "live") == 1


def test_what_is_no_version_is_refused(registry: ModelRegistry) -> None:
    with pytest.raises(MlflowException, match="write NAME/3 or NAME@champion"):
        registry.load_model("momentum")


def test_the_registry_never_shows_a_password() -> None:
    registry = ModelRegistry("postgresql+timescaledb://ann:s3cret@nowhere.invalid/db")
    assert "s3cret" not in repr(registry)


def test_asking_for_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        mlflow_timescale.Nothing  # noqa: B018
