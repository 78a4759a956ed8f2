"""The model registry: the same, but that a search of versions knows their aliases."""

from __future__ import annotations

import pytest
from mlflow.entities.model_registry import ModelVersionTag


@pytest.fixture(scope="module")
def versions(registries):
    for name in ("alpha", "beta"):
        registries.theirs.create_registered_model(name)
        registries.ours.create_registered_model(name)
        for number in range(1, 6):
            for store in (registries.theirs, registries.ours):
                store.create_model_version(
                    name, f"s3://{name}/{number}", tags=[ModelVersionTag("n", str(number))]
                )
    return registries


def test_a_search_of_versions_tells_their_aliases(versions):
    for store in (versions.theirs, versions.ours):
        store.set_registered_model_alias("alpha", "champion", 2)
        store.set_registered_model_alias("alpha", "best", 2)
        store.set_registered_model_alias("beta", "champion", 5)
    found = {(v.name, v.version): v.aliases for v in versions.ours.search_model_versions()}
    assert found.pop(("alpha", 2)) == ["best", "champion"]
    assert found.pop(("beta", 5)) == ["champion"]
    assert len(found) == 8
    assert not any(found.values())
    # The lookup of one version, which MLflow does with aliases, agrees.
    assert sorted(versions.theirs.get_model_version("alpha", 2).aliases) == ["best", "champion"]


@pytest.mark.parametrize("filter_string", ["", "name = 'alpha'", "tags.n = '3'", "name LIKE 'b%'"])
def test_a_search_of_versions_finds_the_same_in_pages(versions, filter_string):
    token, numbers = None, []
    while True:
        pages = [
            store.search_model_versions(
                filter_string, 3, ["version_number DESC", "name"], page_token=token
            )
            for store in (versions.theirs, versions.ours)
        ]
        for version in (*pages[0], *pages[1]):
            version.aliases = []
            version._creation_time = version.last_updated_timestamp = 0
        assert versions.plain(pages[1]) == versions.plain(pages[0])
        numbers += pages[1]
        if (token := pages[1].token) is None:
            break
    assert numbers


def test_a_search_of_versions_that_makes_no_sense_is_refused_alike(versions):
    versions.refused("INVALID_PARAMETER_VALUE", "search_model_versions", "nothing = 'x'")
    versions.refused("INVALID_PARAMETER_VALUE", "search_model_versions", "", 0)
    versions.refused("INVALID_PARAMETER_VALUE", "search_model_versions", "", 10, ["nothing"])


def test_promoting_a_version_archives_the_others(versions):
    # Fails under psycopg 3 without the dialect: mlflow/mlflow#24592.
    for store in (versions.theirs, versions.ours):
        store.transition_model_version_stage("alpha", 1, "Production", False)
        store.transition_model_version_stage("alpha", 2, "Production", True)
        assert store.get_model_version("alpha", 1).current_stage == "Archived"
