"""NUL and lone surrogates in any text of a call of the registry are the caller's mistake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent
from mlflow.exceptions import MlflowException
from support.mutations import with_character

from mlflow_timescale.registry.store import TimescaleRegistryStore

EVENTS = [WebhookEvent(WebhookEntity.REGISTERED_MODEL, WebhookAction.CREATED)]
HOOK = {"name": "hook", "url": "https://1.1.1.1", "description": "d"}
CALLS: list[tuple[str, dict[str, Any]]] = [
    (
        "create_registered_model",
        {"name": "new", "tags": [RegisteredModelTag("k", "v")], "description": "d"},
    ),
    ("update_registered_model", {"name": "m", "description": "d"}),
    ("rename_registered_model", {"name": "m", "new_name": "m2"}),
    ("get_registered_model", {"name": "m"}),
    ("delete_registered_model", {"name": "m"}),
    ("set_registered_model_tag", {"name": "m", "tag": RegisteredModelTag("k", "v")}),
    ("delete_registered_model_tag", {"name": "m", "key": "k"}),
    ("search_registered_models", {"filter_string": "name = 'm'", "order_by": ["name"]}),
    ("search_registered_models", {"filter_string": "tags.k = 'v'"}),
    ("get_latest_versions", {"name": "m", "stages": ["None"]}),
    (
        "create_model_version",
        {
            "name": "m",
            "source": "s3://bucket/model",
            "run_id": "0" * 31,
            "tags": [ModelVersionTag("k", "v")],
            "run_link": "https://example.org",
            "description": "d",
        },
    ),
    ("create_model_version", {"name": "m", "source": "models:/m/1"}),
    ("get_model_version", {"name": "m", "version": "1"}),
    ("get_model_version_download_uri", {"name": "m", "version": "1"}),
    ("update_model_version", {"name": "m", "version": "1", "description": "d"}),
    ("delete_model_version", {"name": "m", "version": "1"}),
    ("set_model_version_tag", {"name": "m", "version": "1", "tag": ModelVersionTag("k", "v")}),
    ("delete_model_version_tag", {"name": "m", "version": "1", "key": "k"}),
    (
        "transition_model_version_stage",
        {"name": "m", "version": "1", "stage": "Staging", "archive_existing_versions": False},
    ),
    ("search_model_versions", {"filter_string": "name = 'm'", "order_by": ["name"]}),
    ("search_model_versions", {"filter_string": "tags.k = 'v'"}),
    ("set_registered_model_alias", {"name": "m", "alias": "prod", "version": "1"}),
    ("delete_registered_model_alias", {"name": "m", "alias": "prod"}),
    ("get_model_version_by_alias", {"name": "m", "alias": "prod"}),
    ("create_webhook", {**HOOK, "events": EVENTS}),
    ("update_webhook", {**HOOK, "webhook_id": "0"}),
    ("get_webhook", {"webhook_id": "0"}),
    ("delete_webhook", {"webhook_id": "0"}),
]


@pytest.fixture(scope="module")
def store(new_database: Any) -> Iterator[TimescaleRegistryStore]:
    with new_database() as uri:
        store = TimescaleRegistryStore(uri.url)
        store.create_registered_model("m")
        store.create_model_version("m", "s3://bucket/model")
        yield store


@pytest.mark.parametrize("character", ["\0", "\ud83d"], ids=["NUL", "surrogate"])
@pytest.mark.parametrize(("method", "arguments"), CALLS)
def test_each_text_of_each_argument_is_refused_by_name(
    store: TimescaleRegistryStore, method: str, arguments: dict[str, Any], character: str
) -> None:
    if method == "update_webhook":
        webhook = store.create_webhook("hook", "https://1.1.1.1", EVENTS)
        arguments = {**arguments, "webhook_id": webhook.webhook_id}
    for name, value in arguments.items():
        for changed in with_character(value, character):
            with pytest.raises(MlflowException) as error:
                getattr(store, method)(**{**arguments, name: changed})
            assert error.value.error_code == "INVALID_PARAMETER_VALUE", (name, changed)
            error.value.message.encode()


def test_the_error_names_the_argument(store: TimescaleRegistryStore) -> None:
    with pytest.raises(MlflowException, match=r"^tag.value holds NUL at character 1: 'a\\x00b'"):
        store.set_registered_model_tag("m", RegisteredModelTag("k", "a\0b"))


def test_a_refused_version_is_not_created(store: TimescaleRegistryStore) -> None:
    before = store.search_model_versions("name = 'm'")
    with pytest.raises(MlflowException):
        store.create_model_version("m", "s3://bucket/model", tags=[ModelVersionTag("k", "\0")])
    assert len(store.search_model_versions("name = 'm'")) == len(before)
