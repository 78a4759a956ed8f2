"""Which store a URI leads to: ours for ours, MLflow's own for all others."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.genai.scorers.registry import MlflowTrackingStore, _get_scorer_store
from mlflow.server.handlers import (
    ModelRegistryStoreRegistryWrapper,
    TrackingStoreRegistryWrapper,
)
from mlflow.store.model_registry import sqlalchemy_store as mlflow_registry
from mlflow.store.model_registry import sqlalchemy_workspace_store as mlflow_registry_workspaces
from mlflow.store.tracking import sqlalchemy_store as mlflow_tracking
from mlflow.store.tracking import sqlalchemy_workspace_store as mlflow_tracking_workspaces
from mlflow.store.workspace.sqlalchemy_store import SqlAlchemyStore as WorkspaceStore
from mlflow.tracking._model_registry.utils import _get_store as registry_store
from mlflow.tracking._tracking_service.utils import _get_store as tracking_store
from mlflow.tracking._workspace.registry import get_workspace_store
from support.servers import plain, with_password

from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.registry.store import (
    TimescaleRegistryStore,
    WorkspaceAwareTimescaleRegistryStore,
)
from mlflow_timescale.tracking.store import (
    TimescaleTrackingStore,
    WorkspaceAwareTimescaleTrackingStore,
)

REPLICA = "_MLFLOW_SERVER_READ_REPLICA_BACKEND_STORE"


@pytest.fixture(params=["canonical", "canonical over the wire", "short"])
def ours(request: pytest.FixtureRequest, shared_database: DatabaseURI) -> str:
    """Every form of URI that is ours."""
    wire = with_password(shared_database)
    return {
        "canonical": shared_database.url,
        "canonical over the wire": wire.url,
        "short": wire.url.replace("postgresql+timescaledb:", "timescaledb:"),
    }[request.param]


@pytest.fixture
def workspaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")


def test_our_uris_lead_to_our_stores_in_a_client(ours: str) -> None:
    assert type(tracking_store(ours)) is TimescaleTrackingStore
    assert type(registry_store(ours)) is TimescaleRegistryStore


def test_our_uris_lead_to_our_stores_in_a_server(ours: str) -> None:
    tracking = TrackingStoreRegistryWrapper().get_store(ours, "/artifacts")
    assert type(tracking) is TimescaleTrackingStore
    assert type(ModelRegistryStoreRegistryWrapper().get_store(ours)) is TimescaleRegistryStore


@pytest.mark.usefixtures("workspaces")
def test_with_workspaces_they_lead_to_the_twins(ours: str) -> None:
    tracking = TrackingStoreRegistryWrapper().get_store(ours, "/artifacts")
    registry = ModelRegistryStoreRegistryWrapper().get_store(ours)
    assert type(tracking) is WorkspaceAwareTimescaleTrackingStore
    assert type(registry) is WorkspaceAwareTimescaleRegistryStore
    assert tracking.supports_workspaces
    assert registry.supports_workspaces


def test_workspaces_and_scorers_are_kept_where_our_uris_say(ours: str) -> None:
    assert type(get_workspace_store(ours)) is WorkspaceStore
    assert type(_get_scorer_store(ours)) is MlflowTrackingStore


@pytest.mark.slow
def test_a_directory_is_enough_for_a_client(directory: Path) -> None:
    uri = f"timescaledb+embedded:{directory}"
    mlflow.set_tracking_uri(uri)
    with mlflow.start_run() as run:
        mlflow.log_metric("ic", 0.04)
    assert mlflow.get_run(run.info.run_id).data.metrics == {"ic": 0.04}
    assert type(registry_store(uri)) is TimescaleRegistryStore
    assert type(get_workspace_store(uri)) is WorkspaceStore
    assert type(_get_scorer_store(uri)) is MlflowTrackingStore


def test_plain_uris_lead_to_stores_of_mlflow_itself(shared_database: DatabaseURI) -> None:
    uri = plain(shared_database)
    server = TrackingStoreRegistryWrapper().get_store(uri, "/artifacts")
    assert type(tracking_store(uri)) is mlflow_tracking.SqlAlchemyStore
    assert type(server) is mlflow_tracking.SqlAlchemyStore
    assert type(registry_store(uri)) is mlflow_registry.SqlAlchemyStore
    assert tracking_store(uri).read_engine is None


def test_plain_uris_with_a_driver_are_mlflows_too(shared_database: DatabaseURI) -> None:
    uri = plain(shared_database).replace("postgresql:", "postgresql+psycopg2:")
    assert type(tracking_store(uri)) is mlflow_tracking.SqlAlchemyStore


@pytest.mark.usefixtures("workspaces")
def test_plain_uris_lead_to_the_twins_of_mlflow_itself(shared_database: DatabaseURI) -> None:
    uri = plain(shared_database)
    tracking = TrackingStoreRegistryWrapper().get_store(uri, "/artifacts")
    registry = ModelRegistryStoreRegistryWrapper().get_store(uri)
    assert type(tracking) is mlflow_tracking_workspaces.WorkspaceAwareSqlAlchemyStore
    assert type(registry) is mlflow_registry_workspaces.WorkspaceAwareSqlAlchemyStore


@pytest.fixture(params=["postgresql+timescaledb:", "timescaledb:", "postgresql:"])
def replica(
    request: pytest.FixtureRequest, shared_database: DatabaseURI, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DatabaseURI]:
    """The same database by connections that refuse to write."""
    scheme = request.param
    options = ("options", "-c default_transaction_read_only=on")
    uri = with_password(shared_database)
    read_only = DatabaseURI(uri.dbname, uri.user, "", uri.host, uri.port, (options,))
    monkeypatch.setenv(REPLICA, read_only.url.replace("postgresql+timescaledb:", scheme))
    return read_only


def test_a_read_replica_is_read_and_never_written(
    replica: DatabaseURI, shared_database: DatabaseURI
) -> None:
    tracking = TrackingStoreRegistryWrapper().get_store(shared_database.url, "/artifacts")
    registry = ModelRegistryStoreRegistryWrapper().get_store(shared_database.url)
    for store in (tracking, registry):
        assert DatabaseURI.parse(store.read_engine.url.render_as_string(False)) == replica
    name = f"replicated {uuid.uuid4()}"
    registry.create_registered_model(name)
    experiment = tracking.create_experiment(name)
    run = tracking.create_run(experiment, "ann", 0, [], "replicated")
    tracking.log_param(run.info.run_id, mlflow.entities.Param("window", "20"))
    tracking.log_metric(run.info.run_id, mlflow.entities.Metric("ic", 0.1, 0, 0))
    assert tracking.get_run(run.info.run_id).data.metrics == {"ic": 0.1}
    assert registry.get_registered_model(name).name == name


@pytest.mark.parametrize("replica", ["postgresql:"], indirect=True)
@pytest.mark.usefixtures("replica")
def test_plain_uris_keep_their_read_replica(shared_database: DatabaseURI) -> None:
    uri = plain(shared_database)
    tracking = TrackingStoreRegistryWrapper().get_store(uri, "/artifacts")
    registry = ModelRegistryStoreRegistryWrapper().get_store(uri)
    assert type(tracking) is mlflow_tracking.SqlAlchemyStore
    assert tracking.read_engine is not None
    assert registry.read_engine is not None
