"""What a newcomer tries with `ModelRegistry`, and the errors that lead on."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from mlflow_timescale import ModelRegistry
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.registry.version_files import UnverifiedArtifact, is_remote

NewDatabase = Callable[..., AbstractContextManager[DatabaseURI]]


@pytest.fixture(scope="module")
def registry(new_database: NewDatabase) -> Iterator[ModelRegistry]:
    with new_database() as uri:
        registry = ModelRegistry(dsn=uri.url)
        assert registry.get_best_model("momentum", "sharpe_ratio") is None  # nothing exists yet
        model_id = registry.register_model("m", strategy_type="momentum")
        registry.log_metrics(model_id, {"sharpe_ratio": 1.2, "ic": float("nan")}, "test")
        yield registry


@pytest.mark.parametrize("keyword", ["uri", "conninfo", "dsn"])
def test_the_database_has_three_names(keyword: str) -> None:
    registry = ModelRegistry(**{keyword: "timescaledb://localhost/trading"})
    assert registry.uri.dbname == "trading"


@pytest.mark.parametrize("given", [{}, {"uri": "timescaledb:///a", "dsn": "timescaledb:///b"}])
def test_the_database_is_given_once(given: dict[str, str]) -> None:
    with pytest.raises(TypeError, match="give the database once, as uri, conninfo or dsn"):
        ModelRegistry(**given)


def test_an_unknown_dataset_type_is_an_error_with_a_suggestion(registry: ModelRegistry) -> None:
    with pytest.raises(ValueError, match=r"'tset' \(did you mean 'test'\?\).*'backtest', 'live'"):
        registry.get_best_model("momentum", "sharpe_ratio", "tset")


@pytest.mark.parametrize("dataset_type", ["test", "live", None])
def test_a_metric_that_was_never_logged_is_an_error_that_lists_the_others(
    registry: ModelRegistry, dataset_type: str | None
) -> None:
    expected = r"'sharp_ratio' \(did you mean sharpe_ratio\?\); logged are: ic, sharpe_ratio"
    with pytest.raises(ValueError, match=expected):
        registry.get_best_model("momentum", "sharp_ratio", dataset_type)


@pytest.mark.parametrize(
    ("strategy", "metric", "dataset_type"),
    [("carry", "sharpe_ratio", "test"), ("momentum", "sharpe_ratio", "live"), (None, "ic", "test")],
)
def test_what_has_no_result_yet_is_none(
    registry: ModelRegistry, strategy: str | None, metric: str, dataset_type: str
) -> None:
    assert registry.get_best_model(strategy, metric, dataset_type) is None


def test_a_remote_file_is_recorded_without_a_checksum_and_a_warning_states_it(
    registry: ModelRegistry,
) -> None:
    model_id = registry.register_model("remote")
    with pytest.warns(
        UnverifiedArtifact, match="s3://key@models/w.pkl is recorded by its location"
    ):
        assert registry.log_artifact(model_id, "s3://key:secret@models/w.pkl", "weights") is None
    tags = registry.client.get_run(model_id.hex).data.tags
    assert tags["remote_artifact/weights/w.pkl"] == "s3://key@models/w.pkl"
    with pytest.raises(MlflowException, match=r"s3://key@models/w.pkl \(not verified\)"):
        registry.load_model("remote/1")


@pytest.mark.parametrize(
    ("path", "remote"),
    [
        ("s3://bucket/w.pkl", True),
        ("dbfs:/models/w.pkl", True),
        ("models/w.pkl", False),
        ("/srv/w.pkl", False),
        ("file:///srv/w.pkl", False),
        ("2024-01-15T16:00/w.pkl", False),
    ],
)
def test_what_is_a_remote_path(path: str, remote: bool) -> None:
    assert is_remote(path) == remote


class Unpickled(Exception):
    """Raised by a pickle that is loaded."""


class Trap:
    def __reduce__(self) -> tuple[type, tuple[str]]:
        return (Unpickled, ("loaded",))


def test_a_version_of_plain_files_names_them_and_unpickles_nothing(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    model_id = registry.register_model("plain")
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(Trap()))
    registry.log_artifact(model_id, tmp_path / "w.pkl", "weights")
    expected = r"no MLmodel file. It holds w.pkl \(weights\). registry.download\('plain/1'\)"
    with pytest.raises(MlflowException, match=expected):
        registry.load_model("plain/1")
