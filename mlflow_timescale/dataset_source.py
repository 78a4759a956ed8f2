"""A feature snapshot as the source of an MLflow dataset.

MLflow imports this module with itself (entry point `mlflow.dataset_source`), so it imports nothing
of the feature store until a snapshot is loaded.
"""

from __future__ import annotations

import sys
from typing import Any

from mlflow.data.dataset_source import DatasetSource

from mlflow_timescale.common import packages
from mlflow_timescale.common.settings import SNAPSHOT_STORES

_MODULE = "feature_store.files.snapshots"


def is_allowed(url: str) -> bool:
    """Whether a snapshot's URL, which a run names, may be opened.

    >>> is_allowed("/srv/snapshots/momentum"), is_allowed("http://169.254.169.254/latest")
    (True, False)
    """
    if "::" not in url and ("://" not in url or url.startswith("file:///")):
        return True
    stores = (store.rstrip("/") for store in SNAPSHOT_STORES.get())
    return ".." not in url.split("/") and any(url.startswith(f"{store}/") for store in stores)


class SnapshotSource(DatasetSource):  # type: ignore[misc]
    """Where a snapshot is, and which content it must have."""

    def __init__(self, url: str, fingerprint: str) -> None:
        self.url = url
        self.fingerprint = fingerprint

    @staticmethod
    def _get_source_type() -> str:
        return "feature_snapshot"

    def load(self) -> Any:
        """Open and verify the snapshot.

        Raises SnapshotError for other content than was logged, and for a store that the setting
        MLFLOW_TIMESCALE_SNAPSHOT_STORES does not list: who may log a run must not decide which
        hosts its readers connect to, with their network and credentials.
        """
        if not is_allowed(self.url):
            raise packages.load("feature_store.files.manifest").SnapshotError(
                f"{self.url!r} is not opened: a run names it, and it is neither a local folder nor "
                f"below a store that {SNAPSHOT_STORES.name} lists. If you trust it, add its store "
                f"there, or open it yourself: feature_store.load_snapshot(url)"
            )
        snapshot = packages.load(_MODULE).load_snapshot(self.url)
        if snapshot.fingerprint != self.fingerprint:
            raise packages.load("feature_store.files.manifest").SnapshotError(
                f"{self.url} has fingerprint {snapshot.fingerprint}, but {self.fingerprint} was "
                f"logged: it is not the snapshot that the run used"
            )
        return snapshot

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        # Only a loaded module has snapshots; none is imported to look at a path or a frame.
        package, _, module = _MODULE.partition(".")
        loaded = sys.modules.get(f"{packages.actual_names()[package]}.{module}")
        return loaded is not None and isinstance(raw_source, loaded.Snapshot)

    @classmethod
    def _resolve(cls, raw_source: Any) -> SnapshotSource:
        return cls(raw_source.url, raw_source.fingerprint)

    def to_dict(self) -> dict[str, Any]:
        """What MLflow stores with the run, which everyone may read: no secret of the URL."""
        from mlflow_timescale.db.masking import MASK, without_secrets

        url = without_secrets(self.url).replace(f":{MASK}@", "@")
        return {"url": url, "fingerprint": self.fingerprint}

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> SnapshotSource:
        """The source that MLflow stored."""
        return cls(source_dict["url"], source_dict["fingerprint"])
