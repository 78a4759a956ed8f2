"""MLflow's entry points. Loaded by `import mlflow`: nothing here may be slow, nothing may raise.

The stores' names include `postgresql`, because a scheme of our own fails at six gates of MLflow
3.17 (ARCHITECTURE.md). A plain `postgresql://` URI is handed on to MLflow's own stores. Where
another plugin wants that name, MLFLOW_TIMESCALE_CLAIM_POSTGRESQL=false gives it up; then only
`timescaledb://` URIs reach our stores.
"""

from __future__ import annotations

import os
from typing import Any

from mlflow_timescale.common.schemes import is_ours
from mlflow_timescale.common.settings import CLAIM_POSTGRESQL

_READ_REPLICA = "_MLFLOW_SERVER_READ_REPLICA_BACKEND_STORE"
IN_DATABASE_ROOT = "timescaledb-artifacts:/"
_CLAIMED = {"claimed_tracking_store": "tracking_store", "claimed_registry_store": "registry_store"}


def __getattr__(name: str) -> Any:
    """Resolve the claimed names, unless the claim is off: MLflow skips what is not there.

    `SnapshotSource` is resolved by every `import mlflow`, which is the time to warn of packages
    that hide ours: `import feature_store` itself does not pass through this package then.
    """
    if name == "SnapshotSource":
        from mlflow_timescale.common import packages
        from mlflow_timescale.dataset_source import SnapshotSource

        packages.warn_of_others()
        return SnapshotSource
    if name in _CLAIMED and CLAIM_POSTGRESQL.get():
        return globals()[_CLAIMED[name]]
    raise AttributeError(
        f"{__name__} has no {name} ({CLAIM_POSTGRESQL.name}={str(CLAIM_POSTGRESQL.get()).lower()})"
    )


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """The tracking store for a URI."""
    if not is_ours(store_uri):
        return _mlflow_tracking_store(store_uri, artifact_uri)
    from mlflow_timescale.tracking.opening import open_store

    return open_store(
        _canonical(store_uri), _artifact_root(artifact_uri), _read_replica(), _workspaces_enabled()
    )


def registry_store(store_uri: str, **_: Any) -> Any:
    """The model registry store for a URI."""
    if not is_ours(store_uri):
        return _mlflow_registry_store(store_uri)
    from mlflow_timescale.registry import store as module

    cls = (
        module.WorkspaceAwareTimescaleRegistryStore
        if _workspaces_enabled()
        else module.TimescaleRegistryStore
    )
    return cls(_canonical(store_uri), read_db_uri=_read_replica())


def workspace_store(workspace_uri: str) -> Any:
    """MLflow's own workspace store on our database, for the short URIs."""
    from mlflow.store.workspace.sqlalchemy_store import SqlAlchemyStore

    return SqlAlchemyStore(_canonical(workspace_uri))


def scorer_store(tracking_uri: str) -> Any:
    """MLflow's own scorer store, which goes through the tracking store, for the short URIs."""
    from mlflow.genai.scorers.registry import MlflowTrackingStore

    return MlflowTrackingStore(tracking_uri)


def in_database_artifacts(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> Any:
    """The artifact repository of `timescaledb-artifacts:`."""
    from mlflow_timescale.artifacts.opening import in_database

    return in_database(artifact_uri, tracking_uri, registry_uri)


def checked_artifacts(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> Any:
    """The artifact repository of `sha256+<scheme>:`."""
    from mlflow_timescale.artifacts.opening import checked_repository

    return checked_repository(artifact_uri, tracking_uri, registry_uri)


def run_artifacts(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> Any:
    """The artifact repository of `runs:`, which lets a refused file be seen."""
    from mlflow_timescale.artifacts.runs import RunsRepository

    return RunsRepository(artifact_uri, tracking_uri, registry_uri)


def proxied_artifacts(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> Any:
    """The artifact repository of `mlflow-artifacts:`, which works on the server's database too."""
    from mlflow_timescale.artifacts.opening import proxied_repository

    return proxied_repository(artifact_uri, tracking_uri, registry_uri)


def _mlflow_tracking_store(store_uri: str, artifact_uri: str | None) -> Any:
    from mlflow.server.handlers import TrackingStoreRegistryWrapper
    from mlflow.tracking._tracking_service import utils

    if os.environ.get(_READ_REPLICA):
        return TrackingStoreRegistryWrapper._get_sqlalchemy_store(store_uri, artifact_uri)
    return utils._get_sqlalchemy_store(store_uri, artifact_uri)


def _mlflow_registry_store(store_uri: str) -> Any:
    from mlflow.server.handlers import ModelRegistryStoreRegistryWrapper
    from mlflow.tracking._model_registry import utils

    if os.environ.get(_READ_REPLICA):
        return ModelRegistryStoreRegistryWrapper._get_sqlalchemy_store(store_uri)
    return utils._get_sqlalchemy_store(store_uri)


def _canonical(uri: str) -> str:
    from mlflow_timescale.db.uri import DatabaseURI

    return DatabaseURI.parse(uri).url


def _workspaces_enabled() -> bool:
    from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES

    return bool(MLFLOW_ENABLE_WORKSPACES.get())


def _read_replica() -> str | None:
    """Where reads go; by our driver too, which takes every form of the URI."""
    uri = os.environ.get(_READ_REPLICA)
    return _canonical(uri) if uri else None


def _artifact_root(artifact_uri: str | None) -> str:
    """The root that was given, or the server's, as MLflow's builder does; else the database itself.

    A trainer and a UI then need nothing but the database.
    """
    from mlflow.server.constants import ARTIFACT_ROOT_ENV_VAR

    return artifact_uri or os.environ.get(ARTIFACT_ROOT_ENV_VAR) or IN_DATABASE_ROOT
