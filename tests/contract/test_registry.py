"""The model registry: the same, but that a search of versions knows their aliases."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion, SqlRegisteredModel
from mlflow.store.model_registry.sqlalchemy_workspace_store import (
    WorkspaceAwareSqlAlchemyStore as MlflowWorkspaceRegistry,
)
from mlflow.utils.workspace_context import WorkspaceContext

from mlflow_timescale import db
from mlflow_timescale.registry.store import WorkspaceAwareTimescaleRegistryStore

MODELS = ("alpha", "beta", "größe Σ", "prompt")


@pytest.fixture(scope="module")
def models(registries: Any) -> Any:
    """Four models (one of them a prompt) with versions in every state, alike on both sides."""
    for store in (registries.theirs, registries.ours):
        for name in MODELS:
            kind = [RegisteredModelTag("mlflow.prompt.is_prompt", "true")] * (name == "prompt")
            store.create_registered_model(
                name, [RegisteredModelTag("team", name[0]), *kind], f"about {name}"
            )
            for number in range(1, 6):
                _version(store, name, number, kind)
            store.set_registered_model_tag(name, RegisteredModelTag("ü", "x" * 5000))
        store.delete_model_version("alpha", 5)
        store.transition_model_version_stage("alpha", 2, "Production", False)
        store.transition_model_version_stage("beta", 3, "Staging", False)
        store.update_model_version("beta", 1, "described")
        store.set_registered_model_alias("alpha", "champion", 2)
        store.set_registered_model_alias("alpha", "best", 2)
        store.set_registered_model_alias("beta", "champion", 5)
        store.create_registered_model("without versions")
        _at_fixed_times(store)
    return registries


def _version(store: Any, name: str, number: int, kind: list[Any]) -> None:
    tags = [ModelVersionTag("n", str(number)), ModelVersionTag("odd", str(number % 2))]
    store.create_model_version(
        name,
        f"s3://{name}/{number}",
        run_id=f"run{number % 3}",
        tags=[*tags, *(ModelVersionTag(tag.key, tag.value) for tag in kind)],
        run_link="http://somewhere" if number == 4 else None,
        description="ü" * 5000 if number == 3 else None,
    )


def _at_fixed_times(store: Any) -> None:
    with store.ManagedSessionMaker(read_only=False) as session:
        for version in session.query(SqlModelVersion).all():
            version.creation_time = version.version
            version.last_updated_time = 100 - version.version // 2
        for model in session.query(SqlRegisteredModel).all():
            model.creation_time = len(model.name)
            model.last_updated_time = 100 - len(model.name) // 5


def test_a_search_of_versions_tells_their_aliases(models):
    found = {(v.name, v.version): v.aliases for v in models.ours.search_model_versions()}
    assert found.pop(("alpha", 2)) == ["best", "champion"]
    assert found.pop(("beta", 5)) == ["champion"]
    assert len(found) == 4 + 5 + 5 - 2  # neither the deleted version nor prompts
    assert not any(found.values())
    # The lookup of one version, which MLflow does with aliases, agrees.
    assert sorted(models.theirs.get_model_version("alpha", 2).aliases) == ["best", "champion"]


VERSION_FILTERS = [
    None,
    "",
    "name = 'alpha'",
    "name != 'alpha'",
    "name LIKE 'b%'",
    "name ILIKE 'GR%'",
    "name IN ('alpha', 'beta')",
    "name = 'nobody'",
    "version_number > 2",
    "version_number != 3 and name = 'beta'",
    "source_path = 's3://alpha/1'",
    "source_path LIKE '%/4'",
    "run_id = 'run1'",
    "run_id IN ('run1', 'run2')",
    "tags.n = '3'",
    "tags.n != '3' and tags.odd = '1'",
    "tags.n LIKE '%4' and name ILIKE 'A%'",
    "tags.`mlflow.prompt.is_prompt` = 'true'",
    "tags.nothing = '1'",
]
VERSION_ORDERS = [
    None,
    ["version_number DESC"],
    ["name DESC", "version_number ASC"],
    ["creation_timestamp", "name"],
    ["last_updated_timestamp ASC"],
]


@pytest.mark.parametrize("filter_string", VERSION_FILTERS)
def test_versions_are_found_alike_page_by_page(models, filter_string):
    for order, size in itertools.product(VERSION_ORDERS, (1000, 3)):
        _same_pages(models, "search_model_versions", filter_string, size, order)


MODEL_FILTERS = [
    None,
    "name = 'alpha'",
    "name != 'alpha'",
    "name LIKE '%a'",
    "name ILIKE 'GR%'",
    "name IN ('alpha', 'prompt')",
    "tags.team = 'a'",
    "tags.team != 'a' and name LIKE 'b%'",
    "tags.`mlflow.prompt.is_prompt` = 'true'",
    "name = 'nobody'",
]
MODEL_ORDERS = [None, ["name DESC"], ["last_updated_timestamp DESC"], ["timestamp ASC", "name"]]


@pytest.mark.parametrize("filter_string", MODEL_FILTERS)
def test_models_are_found_alike_page_by_page(models, filter_string):
    for order, size in itertools.product(MODEL_ORDERS, (100, 2)):
        _same_pages(models, "search_registered_models", filter_string, size, order)


def _same_pages(models: Any, method: str, filter_string: Any, size: int, order: Any) -> None:
    token = None
    while True:
        pages = [
            getattr(store, method)(filter_string, size, order, token)
            for store in (models.theirs, models.ours)
        ]
        for page in pages:
            _without_what_differs(page)
        assert models.plain(pages[1]) == models.plain(pages[0])
        if (token := pages[1].token) is None:
            return


def _without_what_differs(page: Any) -> None:
    for found in page:
        if hasattr(found, "latest_versions"):
            found.latest_versions.sort(key=lambda version: version.current_stage)
        else:
            found.aliases = []


def test_the_latest_versions_of_a_found_model_come_in_the_order_of_their_numbers(registries):
    for store in (registries.theirs, registries.ours):
        store.create_registered_model("staged")
        for _ in range(4):
            store.create_model_version("staged", "s3://bucket/model")
        for version, stage in (("1", "Staging"), ("2", "Production"), ("3", "Archived")):
            store.transition_model_version_stage("staged", version, stage, False)
        [model] = store.search_registered_models("name = 'staged'")
        assert [version.version for version in model.latest_versions] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "arguments",
    [
        ("nothing = 'x'",),
        ("name > 'x'",),
        ("version_number = 1.5",),
        ("tags.n > '1'",),
        ("name = 'a' or name = 'b'",),
        ("", 0),
        ("", -1),
        ("", "10"),
        ("", 10**6),
        ("", 10, ["nothing"]),
        ("", 10, ["name", "name"]),
        ("", 10, None, "not a token"),
    ],
    ids=str,
)
def test_a_search_of_versions_that_makes_no_sense_is_refused_alike(models, arguments):
    _refused_alike(models, "search_model_versions", arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("nothing = 'x'",),
        ("name > 'x'",),
        ("tags.n > '1'",),
        ("", 10**6),
        ("", 10, ["nothing"]),
        ("", 10, ["name", "name"]),
        ("", 10, None, "not a token"),
    ],
    ids=str,
)
def test_a_search_of_models_that_makes_no_sense_is_refused_alike(models, arguments):
    _refused_alike(models, "search_registered_models", arguments)


def _refused_alike(models: Any, method: str, arguments: Any) -> None:
    messages = []
    for store in (models.theirs, models.ours):
        with pytest.raises(MlflowException) as caught:
            getattr(store, method)(*arguments)
        messages.append((type(caught.value), str(caught.value)))
    assert messages[0] == messages[1]


def test_a_workspace_sees_its_own_models_and_versions_only(two_databases, pair, monkeypatch):
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    theirs, ours = two_databases
    stores = [
        MlflowWorkspaceRegistry(pair.theirs.db_uri),
        WorkspaceAwareTimescaleRegistryStore(ours.url),
    ]
    for uri in (theirs, ours):
        with db.connect(uri, autocommit=True) as conn:
            conn.execute("INSERT INTO workspaces (name) VALUES ('desk'), ('other')")
    for store, workspace in [(s, w) for s in stores for w in ("desk", "other")]:
        with WorkspaceContext(workspace):
            store.create_registered_model("shared", [RegisteredModelTag("of", workspace)])
            store.create_model_version("shared", "s3://x", tags=[ModelVersionTag("of", workspace)])
            store.set_registered_model_alias("shared", f"of-{workspace}", 1)
            _at_fixed_times(store)
    for workspace, filter_string in [
        (w, f) for w in ("desk", "other") for f in ("", "tags.of LIKE '%e%'")
    ]:
        with WorkspaceContext(workspace):
            for method in ("search_model_versions", "search_registered_models"):
                pages = [getattr(store, method)(filter_string) for store in stores]
                for page in pages:
                    _without_what_differs(page)
                assert len(pages[1]) == 1
                assert pair.plain(pages[1]) == pair.plain(pages[0])


def test_promoting_a_version_archives_the_others(registries):
    # Fails under psycopg 3 without the dialect: mlflow/mlflow#24592.
    for store in (registries.theirs, registries.ours):
        store.create_registered_model("promoted")
        for number in (1, 2):
            store.create_model_version("promoted", f"s3://promoted/{number}")
            store.transition_model_version_stage("promoted", number, "Production", True)
        assert store.get_model_version("promoted", 1).current_stage == "Archived"
