"""A workflow file of qlib: what is refused before qlib trains, and where its run is recorded."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from support.qlib_data import workflow, write_data

from mlflow_timescale.cli import cli
from mlflow_timescale.common.errors import InvalidInput
from mlflow_timescale.operations.qlib_workflow import InvalidWorkflow, read_workflow

OURS = "postgresql+timescaledb:///mlflow?embedded=/srv/other"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("qlib") / "data", instruments=1)


@pytest.fixture(autouse=True)
def no_database_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MLFLOW_TIMESCALE_URI", "MLFLOW_TRACKING_URI", "QLIB_MLFLOW_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TIMESCALE_HOME", str(tmp_path / "home"))


def written(path: Path, config: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(config)))
    return path


def with_manager(data: Path, uri: str, **more: Any) -> dict[str, Any]:
    """A workflow that names its own experiment manager."""
    config = workflow(data)
    manager = {"class": "MLflowExpManager", "module_path": "qlib.workflow.expm"}
    config["qlib_init"]["exp_manager"] = {**manager, "kwargs": {"uri": uri, **more}}
    return config


def dry_run(path: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["qlib", "run", str(path), "--dry-run", *options])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is no YAML"),
        ("- a\n- b\n", "must be a mapping with the keys qlib_init and task"),
        ("", "must be a mapping"),
        ("{{ a", "cannot be read"),
        ("task: {}", "lacks qlib_init"),
        ("qlib_init: {}\ntask: 3", "needs a mapping under task"),
        ("qlib_init: {}\ntask: {dataset: {}}", "lacks task.model"),
        ("qlib_init: {}\ntask: {model: {}}", "lacks task.dataset"),
        ("BASE_CONFIG_PATH: none.yaml", "BASE_CONFIG_PATH none.yaml"),
        (
            "qlib_init: {region: xx}\ntask: {model: {}, dataset: {}}",
            "no region 'xx': .* cn, tw, us",
        ),
        ("qlib_init: {provider_uri: /no/folder}\ntask: {model: {}, dataset: {}}", "does not exist"),
        ("qlib_init: {provider_uri: /}\ntask: {model: {}, dataset: {}}", "no folder calendars"),
    ],
)
def test_a_file_that_cannot_be_run_is_refused_with_its_name(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "workflow.yaml"
    path.write_text(text)
    with pytest.raises(InvalidWorkflow, match=message) as refused:
        read_workflow(path)
    assert str(path) in str(refused.value)


def test_a_base_file_and_the_environment_fill_in_what_a_file_lacks(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = workflow(data, experiment_name="base")
    del base["qlib_init"]["provider_uri"]
    written(tmp_path / "base.yaml", base)
    monkeypatch.setenv("DATA", str(data))
    path = tmp_path / "mine.yaml"
    path.write_text('BASE_CONFIG_PATH: base.yaml\nqlib_init: {provider_uri: "{{ DATA }}"}\n')
    read = read_workflow(path)
    assert read.config["qlib_init"]["provider_uri"] == str(data)
    assert read.config["task"] == base["task"]
    assert read.experiment == "base"


def test_a_password_in_the_task_is_refused_because_qlib_logs_it(data: Path, tmp_path: Path) -> None:
    config = workflow(data)
    loader = {"class": "Loader", "kwargs": {"uri": "timescaledb://ann:s3cret@db/trading"}}
    config["task"]["dataset"]["kwargs"]["handler"]["kwargs"] = {"data_loader": loader}
    with pytest.raises(InvalidWorkflow, match="MLFLOW_TIMESCALE_URI") as refused:
        read_workflow(written(tmp_path / "workflow.yaml", config))
    assert "task.dataset.kwargs.handler.kwargs.data_loader.kwargs.uri" in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_text_under_the_key_of_a_secret_is_one(data: Path, tmp_path: Path) -> None:
    config = workflow(data)
    config["task"]["model"]["kwargs"] = {"api_key": "s3cret", "tokenizer": "words", "token_dim": 3}
    with pytest.raises(InvalidWorkflow, match=r"task\.model\.kwargs\.api_key of") as refused:
        read_workflow(written(tmp_path / "workflow.yaml", config))
    assert "s3cret" not in str(refused.value)
    del config["task"]["model"]["kwargs"]["api_key"]
    read_workflow(written(tmp_path / "workflow.yaml", config))


@pytest.mark.parametrize(
    ("of_file", "environment", "options", "recorded_in"),
    [
        (None, {}, [], "home"),
        (None, {"MLFLOW_TRACKING_URI": OURS}, [], OURS),
        (None, {"MLFLOW_TRACKING_URI": "http://team:5000"}, [], "http://team:5000"),
        (None, {"QLIB_MLFLOW_URI": OURS}, [], OURS),
        (OURS, {"QLIB_MLFLOW_URI": "http://team:5000"}, [], "http://team:5000"),
        (OURS, {"QLIB_MLFLOW_URI": "file:mlruns"}, [], OURS),
        (None, {"MLFLOW_TRACKING_URI": OURS}, ["--uri", "timescaledb+embedded:/srv/b"], "/srv/b"),
        (OURS, {}, [], OURS),
        ("http://team:5000", {}, [], "http://team:5000"),
        ("file:/srv/mlruns", {}, [], "home"),
        ("/srv/mlruns", {}, [], "home"),
        ("http://team:5000", {"MLFLOW_TIMESCALE_URI": OURS}, [], OURS),
        (OURS, {"MLFLOW_TIMESCALE_URI": OURS}, ["--uri", "timescaledb+embedded:/srv/b"], "/srv/b"),
    ],
)
def test_a_run_is_recorded_where_option_environment_or_file_say(
    of_file: str | None,
    environment: dict[str, str],
    options: list[str],
    recorded_in: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config = with_manager(data, of_file) if of_file else workflow(data)
    result = dry_run(written(tmp_path / "workflow.yaml", config), *options)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip().endswith(recorded_in)
    replaced = f"the workflow names {of_file}: its run is recorded in "
    assert (replaced in result.stderr) == bool(of_file and recorded_in != of_file)


def test_the_experiment_is_that_of_the_option_the_file_or_qrun(data: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "workflow.yaml", workflow(data))
    assert "experiment workflow of" in dry_run(path).stdout
    path = written(tmp_path / "workflow.yaml", workflow(data, experiment_name="alpha"))
    assert "experiment alpha of" in dry_run(path).stdout
    assert "experiment beta of" in dry_run(path, "--experiment", "beta").stdout


def test_a_manager_of_the_file_keeps_its_class_and_arguments(data: Path, tmp_path: Path) -> None:
    from mlflow_timescale.operations.qlib_workflow import _manager

    config = with_manager(data, "file:mlruns", default_exp_name="mine")
    config["qlib_init"]["exp_manager"]["class"] = "TeamManager"
    manager = _manager(read_workflow(written(tmp_path / "w.yaml", config)), OURS)
    assert manager["class"] == "TeamManager"
    assert manager["kwargs"] == {"uri": OURS, "default_exp_name": "mine"}


def test_without_qlib_the_error_names_the_extra(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = builtins.__import__

    def lacking(name: str, *arguments: Any) -> Any:
        if name.split(".")[0] == "qlib":
            raise ModuleNotFoundError("No module named 'qlib'", name="qlib")
        return imported(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(InvalidInput, match=r"pip install 'mlflow-timescale\[qlib\]'"):
        read_workflow(written(tmp_path / "workflow.yaml", workflow(data)))


def test_the_dry_run_reads_only(data: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "workflow.yaml", workflow(data))
    before = path.read_bytes()
    assert dry_run(path).exit_code == 0
    assert path.read_bytes() == before
    assert not (tmp_path / "home").exists()
