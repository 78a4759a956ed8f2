"""Names that match nothing, values that are no numbers: the error names what was meant."""

from __future__ import annotations

from collections.abc import Iterator

import mlflow
import pytest
from click.testing import CliRunner
from mlflow.exceptions import MlflowException

from mlflow_timescale import ModelRegistry
from mlflow_timescale.cli import cli
from mlflow_timescale.operations.reproduce import checklist


@pytest.fixture(scope="module")
def registry(new_database) -> Iterator[ModelRegistry]:
    with new_database() as database:
        registry = ModelRegistry(database)
        registry.log_metrics(registry.register_model("momentum", "momentum"), {"ic": 0.04}, "test")
        registry.set_alias("momentum", "live", 1)
        yield registry


def run(registry: ModelRegistry, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, [*arguments, "--uri", registry.uri.url])
    return result.exit_code, f"{result.output}{result.exception or ''}"


def test_a_misspelt_strategy_is_named_with_what_was_meant(registry):
    with pytest.raises(ValueError, match=r"'momentm' \(did you mean momentum\?\)"):
        registry.get_best_model("momentm", "ic")
    assert registry.get_best_model("carry", "ic") is None


def test_the_history_of_a_misspelt_model_is_an_error(registry):
    for name in ("momentm", "momentm@live"):
        code, text = run(registry, "registry", "history", name)
        assert code == 1
        assert "did you mean momentum?" in text
    assert run(registry, "registry", "history", "momentum", "retired")[0] == 0


def test_a_metric_that_is_no_number_is_named(registry):
    with pytest.raises(ValueError, match="metric 'ic' is 'abc', not a number"):
        registry.log_metrics("momentum/1", {"ic": "abc"})


@pytest.mark.parametrize("name", ["momentum/1", "momentum@live", "models:/momentum/latest"])
def test_a_run_is_named_by_a_version_of_its_model(registry, name):
    by_name = [item.recorded for item in checklist(registry.uri, name)]
    run_id = registry.get_model("momentum/1").model_id.hex
    assert by_name == [item.recorded for item in checklist(registry.uri, run_id)]


def test_a_version_that_does_not_exist_has_no_run(registry):
    with pytest.raises(MlflowException, match="momentum/7 does not exist"):
        checklist(registry.uri, "momentum/7")


def test_a_version_without_files_is_said_to_have_none(registry, caplog):
    code, text = run(registry, "artifacts", "verify", "--version", "momentum/1")
    assert (code, "holds no file of momentum/1" in text) == (3, True)
    registry.set_alias("momentum", "champion", 1)
    assert "nothing was verified" in caplog.text


def test_a_model_that_was_logged_by_name_is_loaded_from_its_run(registry):
    mlflow.set_tracking_uri(registry.uri.url)
    with mlflow.start_run() as active:
        mlflow.pyfunc.log_model(
            name="model",
            python_model=lambda model_input: model_input * 2,
            input_example=[1.0],
            pip_requirements=[],
        )
    source = f"runs:/{active.info.run_id}/model"
    registry.register_model("double", source=source, run_id=active.info.run_id)
    assert registry.load_model("double/1").predict([1.5]).values.tolist() == [[3.0]]
    registry.register_model("double", source=f"runs:/{active.info.run_id}/other")
    assert registry.client.get_model_version("double", "2").source.endswith("/other")
