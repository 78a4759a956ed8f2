"""MLflow's model registry on TimescaleDB: overridden where the database does better."""

from __future__ import annotations

from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore

from mlflow_timescale.registry_audit import AuditedRegistry
from mlflow_timescale.schema import prepare


class TimescaleRegistry(AuditedRegistry):
    """What both registry stores do differently from their MLflow parents."""

    def __init__(self, db_uri: str, read_db_uri: str | None = None) -> None:
        # MLflow creates its tables without a lock, and knows nothing of ours.
        prepare(db_uri)
        super().__init__(db_uri, read_db_uri=read_db_uri)


class TimescaleRegistryStore(TimescaleRegistry, SqlAlchemyStore):
    """The model registry of `postgresql+timescaledb://`."""


class WorkspaceAwareTimescaleRegistryStore(TimescaleRegistry, WorkspaceAwareSqlAlchemyStore):
    """The same where MLFLOW_ENABLE_WORKSPACES is on."""
