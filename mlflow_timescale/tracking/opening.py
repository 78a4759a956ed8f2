"""From a URI to the tracking store: with workspaces or not, with a spool or not."""

from __future__ import annotations

from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.spool.places import spool_of
from mlflow_timescale.tracking.spooling import (
    SpoolingTrackingStore,
    WorkspaceAwareSpoolingTrackingStore,
)
from mlflow_timescale.tracking.store import (
    TimescaleTracking,
    TimescaleTrackingStore,
    WorkspaceAwareTimescaleTrackingStore,
)


def open_store(
    uri: str, artifact_root: str, replica: str | None, is_workspace_aware: bool
) -> TimescaleTracking:
    """The tracking store of a URI."""
    spool = spool_of(DatabaseURI.parse(uri))
    if spool is None:
        plain = (
            WorkspaceAwareTimescaleTrackingStore if is_workspace_aware else TimescaleTrackingStore
        )
        return plain(uri, artifact_root, replica)
    spooling = WorkspaceAwareSpoolingTrackingStore if is_workspace_aware else SpoolingTrackingStore
    return spooling(uri, artifact_root, replica, spool=spool)
