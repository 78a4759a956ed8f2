"""MLflow's AI gateway keeps its endpoints and encrypted secrets in the tracking database."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow.cli import cli
from mlflow.entities import GatewayEndpointModelConfig, GatewayModelLinkageType
from mlflow.store.tracking.gateway.config_resolver import get_endpoint_config
from support.servers import with_password

from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.tracking.store import TimescaleTrackingStore

OLD, NEW = "an old passphrase of the tests", "a new passphrase of the tests"


@pytest.mark.slow
def test_an_endpoint_is_resolved_before_and_after_its_key_is_rotated(
    shared_database: DatabaseURI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_CRYPTO_KEK_PASSPHRASE", OLD)
    store = TimescaleTrackingStore(shared_database.url, str(tmp_path))
    secret = store.create_gateway_secret("key", {"api_key": "sk-tests"}, provider="openai")
    model = store.create_gateway_model_definition("gpt", secret.secret_id, "openai", "gpt-4o")
    linked = GatewayEndpointModelConfig(
        model_definition_id=model.model_definition_id,
        linkage_type=GatewayModelLinkageType.PRIMARY,
    )
    store.create_gateway_endpoint("explain", [linked])
    assert api_key(store) == {"api_key": "sk-tests"}

    # MLflow's command writes in a session that it calls read-only, which MLflow refuses in pytest.
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    options = ["--new-passphrase", NEW, "--yes"]
    uri = with_password(shared_database).url
    done = CliRunner().invoke(cli, ["crypto", "rotate-kek", *options, "--backend-store-uri", uri])
    assert done.exit_code == 0, done.output
    monkeypatch.setenv("MLFLOW_CRYPTO_KEK_PASSPHRASE", NEW)
    monkeypatch.setenv("MLFLOW_CRYPTO_KEK_VERSION", "2")
    store._secret_cache.clear()
    assert api_key(store) == {"api_key": "sk-tests"}


def api_key(store: TimescaleTrackingStore) -> object:
    return get_endpoint_config("explain", store).models[0].secret_value
