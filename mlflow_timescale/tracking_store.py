"""MLflow's tracking store on TimescaleDB: overridden where the database does better."""

from __future__ import annotations

from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.tracking.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore

from mlflow_timescale.schema import prepare


class TimescaleTracking:
    """What both tracking stores do differently from their MLflow parents."""

    def __init__(
        self, db_uri: str, default_artifact_root: str, read_db_uri: str | None = None
    ) -> None:
        # MLflow creates its tables without a lock, and knows nothing of ours.
        prepare(db_uri)
        super().__init__(db_uri, default_artifact_root, read_db_uri=read_db_uri)  # type: ignore[call-arg]


class TimescaleTrackingStore(TimescaleTracking, SqlAlchemyStore):
    """The tracking store of `postgresql+timescaledb://`."""


class WorkspaceAwareTimescaleTrackingStore(TimescaleTracking, WorkspaceAwareSqlAlchemyStore):
    """The same where MLFLOW_ENABLE_WORKSPACES is on."""
