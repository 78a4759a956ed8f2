"""Every form in which a model or a version is written, wherever the registry is called."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from mlflow_timescale import ModelRegistry
from mlflow_timescale.cli import main
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.registry.naming import ModelReference, model_and_alias

NAME = "momentum"
VERSION_1 = ["momentum/1", "models:/momentum/1", "momentum@champion", "models:/momentum@champion"]


@pytest.fixture(scope="module")
def registry(new_database) -> ModelRegistry:
    """Two versions of `momentum`, of which the first is champion and holds a file."""
    with new_database() as uri:
        registry = ModelRegistry(uri)
        model_id = registry.register_model(NAME, "momentum")
        registry.register_model(NAME, "momentum")
        registry.set_alias(NAME, "champion", 1)
        registry.client.create_registered_model("at@home")
        registry.client.create_model_version("at@home", "runs:/x", model_id.hex)
        yield registry


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("momentum", ModelReference("momentum")),
        ("models:/momentum", ModelReference("momentum")),
        ("models:///momentum/12", ModelReference("momentum", 12)),
        ("momentum@champion", ModelReference("momentum", alias="champion")),
        ("a@b@champion", ModelReference("a@b", alias="champion")),
        ("a@b/3", ModelReference("a@b", 3)),
        ("models:/momentum/latest", ModelReference("momentum", alias="latest")),
    ],
)
def test_every_form_is_read(text: str, reference: ModelReference) -> None:
    assert ModelReference.parse(text) == reference


@pytest.mark.parametrize("text", ["", "models:/", "/3", "momentum/", "momentum/v3", "momentum/٣"])
def test_what_is_no_form_is_refused(text: str) -> None:
    with pytest.raises(MlflowException, match="write NAME/3 or NAME@champion"):
        ModelReference.parse(text)


def test_one_call_does_not_name_two_aliases() -> None:
    with pytest.raises(MlflowException, match="names no alias"):
        model_and_alias("momentum@champion", "challenger")


@pytest.mark.parametrize("text", VERSION_1)
def test_a_version_is_named_in_any_form(registry: ModelRegistry, text: str, tmp_path: Path) -> None:
    assert registry.get_model(text).version == 1
    registry.log_metrics(text, {"ic": 0.04}, "test")
    (tmp_path / "weights.pkl").write_bytes(b"w")
    assert registry.log_artifact(text, tmp_path / "weights.pkl")
    assert Path(registry.download(text), "weights.pkl").read_bytes() == b"w"
    registry.set_alias("models:/momentum", "live", text)
    assert registry.version_at("momentum@live") == 1


@pytest.mark.parametrize("text", ["momentum", "models:/momentum", "models:/momentum/latest"])
def test_a_model_stands_for_its_newest_version(registry: ModelRegistry, text: str) -> None:
    assert registry.get_model(text).version == 2


@pytest.mark.parametrize("text", ["momentum@retired", "momentum/9", "nothing", "nothing@champion"])
def test_a_version_that_does_not_exist_is_none(registry: ModelRegistry, text: str) -> None:
    assert registry.get_model(text) is None


def test_a_model_whose_own_name_has_an_at_sign_is_found(registry: ModelRegistry) -> None:
    assert registry.get_model("at@home").name == "at@home"
    assert registry.history("at@home", kind="model")[0].name == "at@home"


def test_histories_and_rollbacks_accept_a_name_with_its_alias(registry: ModelRegistry) -> None:
    for version in (1, 2):
        registry.set_alias(NAME, "served", version)
    for name, alias in ((NAME, "served"), ("models:/momentum@served", None)):
        assert [c.version for c in registry.alias_history(name, alias)] == [1, 2]
        now = datetime.now(timezone.utc)
        assert registry.state_at(name, alias, now).version == 2
    assert registry.rollback("momentum@served") == 1
    with pytest.raises(MlflowException, match="'momentum' has no alias"):
        registry.rollback(NAME)


def test_a_version_of_another_model_gets_no_alias(registry: ModelRegistry) -> None:
    with pytest.raises(MlflowException, match="not a version of momentum"):
        registry.set_alias(NAME, "champion", "at@home/1")


def test_the_commands_accept_a_name_with_its_alias(
    registry: ModelRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    uri: DatabaseURI = registry.uri
    for words in (["momentum", "champion"], ["models:/momentum@champion"]):
        with pytest.raises(SystemExit) as end:
            main(["registry", "at", *words, "2999-01-01T00:00Z", "--uri", uri.url])
        assert end.value.code == 0
        assert capsys.readouterr().out.startswith("momentum@champion was version 1")
