"""MLflow's model registry on TimescaleDB: overridden where the database does better."""

from __future__ import annotations

from collections.abc import Sequence

from mlflow.entities.model_registry import ModelVersion
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.model_registry import SEARCH_MODEL_VERSION_MAX_RESULTS_DEFAULT
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore

from mlflow_timescale.registry_audit import AuditedRegistry
from mlflow_timescale.schema import prepare
from mlflow_timescale.tracking.session import driver
from mlflow_timescale.tracking.versions import add_aliases


class TimescaleRegistry(AuditedRegistry):
    """What both registry stores do differently from their MLflow parents."""

    def __init__(self, db_uri: str, read_db_uri: str | None = None) -> None:
        # MLflow creates its tables without a lock, and knows nothing of ours.
        prepare(db_uri)
        super().__init__(db_uri, read_db_uri=read_db_uri)

    def search_model_versions(
        self,
        filter_string: str | None = None,
        max_results: int = SEARCH_MODEL_VERSION_MAX_RESULTS_DEFAULT,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[ModelVersion]:
        # MLflow's search says that no version has an alias: mlflow/mlflow#9783, #16734.
        found = super().search_model_versions(filter_string, max_results, order_by, page_token)
        if found:
            with self.ManagedSessionMaker() as session:
                add_aliases(driver(session), found, self._get_active_workspace())
        return found


class TimescaleRegistryStore(TimescaleRegistry, SqlAlchemyStore):
    """The model registry of `postgresql+timescaledb://`."""


class WorkspaceAwareTimescaleRegistryStore(TimescaleRegistry, WorkspaceAwareSqlAlchemyStore):
    """The same where MLFLOW_ENABLE_WORKSPACES is on."""
